//! What is remembered of an endpoint between two runs of the hook; one JSON file each. Pure.
//!
//! A field is only ever added, with a default: an older or newer version must read the file.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::direction::Direction;
use super::id::{ContainerId, EndpointId, NetnsCookie};
use super::lease::Lease;
use super::mode::Mode;
use super::name::IfName;
use super::port::PortShare;
use super::publish::Publication;
use super::rate::Rates;
use super::reach::{LanAddress, Reach};

/// How far the endpoint has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Its id and addresses are taken; a hook is building it, or died doing so.
    Creating,
    /// All steps are done.
    Active,
    /// Being taken down: nobody joins any more.
    Ending,
}

/// One container in the endpoint's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// OCI id.
    pub container_id: ContainerId,
    /// Host pid of its init process.
    pub pid: i32,
    /// Field 22 of /proc/PID/stat (clock ticks since boot), which tells a reused pid.
    pub start_time: u64,
}

/// Rules of both directions, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleTexts {
    /// The container opens.
    pub egress: Vec<String>,
    /// The remote side opens.
    pub ingress: Vec<String>,
}

/// One managed network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRecord {
    /// Layout of this file.
    pub version: u32,
    /// /proc/sys/kernel/random/boot_id of the boot it belongs to.
    pub boot_id: String,
    /// The namespace.
    pub cookie: NetnsCookie,
    /// Namespace of its primary and the uplinks; absent in records of before it was noted.
    #[serde(default)]
    pub host: Option<NetnsCookie>,
    /// Index in the maps.
    pub id: EndpointId,
    /// The `name` annotation, else the first member's id.
    pub name: String,
    /// How far it has come.
    pub phase: Phase,
    /// Containers in the namespace, in order of arrival.
    pub members: Vec<Member>,
    /// Annotations as given, without the prefix; what a new member must agree with.
    pub keys: BTreeMap<String, String>,
    /// Device inside.
    pub interface: IfName,
    /// Device on the host.
    pub primary: IfName,
    /// 0 until it exists.
    pub primary_ifindex: u32,
    /// In the container's namespace; 0 until it exists.
    pub peer_ifindex: u32,
    /// Addresses with prefix length as set inside, in the order that gives `local_index`.
    pub addresses: Vec<IpNet>,
    /// How each of `addresses` is reached; read through [`Self::reached`].
    #[serde(default)]
    pub reach: Vec<Reach>,
    /// Those of `addresses` that uplinks answer for.
    #[serde(default)]
    pub lan: Vec<LanAddress>,
    /// Whether the rules decide.
    #[serde(default)]
    pub mode: Mode,
    /// Texts of the rules in effect, in the order of their rule index.
    pub egress: Vec<String>,
    /// As `egress`.
    pub ingress: Vec<String>,
    /// Directions whose rules were changed while it ran.
    #[serde(default)]
    pub revised: Vec<Direction>,
    /// The ceiling that they are under.
    #[serde(default)]
    pub ceiling: Option<RuleTexts>,
    /// What `resolver` means.
    pub resolvers: Vec<IpAddr>,
    /// Domains that its members search.
    #[serde(default)]
    pub search: Vec<String>,
    /// Ports of the host that its masqueraded addresses leave by; `None` without such an address.
    #[serde(default)]
    pub nat: Option<PortShare>,
    /// Ports of the host that lead to the container's.
    #[serde(default)]
    pub publish: Vec<Publication>,
    /// How much it may send and receive.
    #[serde(default)]
    pub rates: Rates,
    /// MTU of both ends, in bytes.
    pub mtu_bytes: u32,
    /// `NET_ADMIN` is allowed, so a guard stands behind the primary.
    pub guard: bool,
    /// Generation of programs it was attached with.
    pub generation: String,
    /// Epoch of its policy.
    pub epoch: u32,
    /// Seconds since 1970.
    pub created: u64,
}

impl EndpointRecord {
    /// Each address with how it is reached. Where that is not written, the record is of a version
    /// that knew routed ones only.
    pub fn reached(&self) -> impl Iterator<Item = (IpNet, Reach)> {
        let reach = self.reach.iter().copied();
        let addresses = self.addresses.iter().copied();
        addresses.zip(reach.chain(std::iter::repeat(Reach::Routed)))
    }

    /// What is remembered of its addresses when it is gone.
    #[must_use]
    pub fn lease(&self) -> Lease {
        Lease {
            name: self.name.clone(),
            addresses: self.addresses.iter().map(IpNet::addr).collect(),
        }
    }

    /// As people know it.
    #[must_use]
    pub fn in_words(&self) -> String {
        let members = self.members.iter().map(|m| m.container_id.short());
        format!(
            "endpoint {} (container {})",
            self.name,
            members.collect::<Vec<_>>().join(", ")
        )
    }
}

#[cfg(test)]
impl EndpointRecord {
    /// What tests of every layer start from and change where it matters to them: endpoint 3, called
    /// web, active, without members, addresses or rules.
    pub(crate) fn example() -> Self {
        Self {
            version: 1,
            boot_id: "boot".into(),
            cookie: NetnsCookie(9),
            host: Some(NetnsCookie(1)),
            id: EndpointId(3),
            name: "web".into(),
            phase: Phase::Active,
            members: Vec::new(),
            keys: BTreeMap::new(),
            interface: IfName::new("eth0").unwrap(),
            primary: IfName::new("onk3").unwrap(),
            primary_ifindex: 0,
            peer_ifindex: 0,
            addresses: Vec::new(),
            reach: Vec::new(),
            lan: Vec::new(),
            mode: Mode::Enforce,
            egress: Vec::new(),
            ingress: Vec::new(),
            revised: Vec::new(),
            ceiling: None,
            resolvers: Vec::new(),
            search: Vec::new(),
            nat: None,
            publish: Vec::new(),
            rates: Rates::default(),
            mtu_bytes: 1500,
            guard: false,
            generation: String::new(),
            epoch: 1,
            created: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_a_record_that_does_not_say_are_routed() {
        let mut record = EndpointRecord {
            addresses: vec!["192.0.2.7/32".parse().unwrap(), "::7/128".parse().unwrap()],
            ..EndpointRecord::example()
        };
        let reach = |r: &EndpointRecord| r.reached().map(|(_, reach)| reach).collect::<Vec<_>>();
        let mut json = serde_json::to_value(&record).unwrap();
        json.as_object_mut().unwrap().remove("reach").unwrap();
        assert_eq!(
            serde_json::from_value::<EndpointRecord>(json).unwrap(),
            record
        );
        assert_eq!(reach(&record), [Reach::Routed; 2]);
        record.reach = vec![Reach::Masquerade];
        assert_eq!(reach(&record), [Reach::Masquerade, Reach::Routed]);
    }
}
