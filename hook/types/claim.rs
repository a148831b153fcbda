//! What an endpoint has that no other one of the host may have, and who lives in it: all that a
//! start must know of the others. Pure.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::id::{EndpointId, NetnsCookie};
use super::lease::Lease;
use super::name::IfName;
use super::port::PortShare;
use super::publish::Publication;
use super::record::{EndpointRecord, Member, Phase};

/// A part of the [`EndpointRecord`], whose fields these are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The namespace.
    pub cookie: NetnsCookie,
    /// Namespace of its primary.
    #[serde(default)]
    pub host: Option<NetnsCookie>,
    /// Index in the maps.
    pub id: EndpointId,
    /// Of the endpoint.
    pub name: String,
    /// How far it has come.
    pub phase: Phase,
    /// Containers in the namespace.
    pub members: Vec<Member>,
    /// Device on the host.
    pub primary: IfName,
    /// 0 until it exists.
    pub primary_ifindex: u32,
    /// With prefix length, in the order that gives `local_index`.
    pub addresses: Vec<IpNet>,
    /// Ports of the host that its masqueraded addresses leave by.
    #[serde(default)]
    pub nat: Option<PortShare>,
    /// Ports of the host that lead to the container's.
    #[serde(default)]
    pub publish: Vec<Publication>,
}

impl From<&EndpointRecord> for Claim {
    fn from(record: &EndpointRecord) -> Self {
        Self {
            cookie: record.cookie,
            host: record.host,
            id: record.id,
            name: record.name.clone(),
            phase: record.phase,
            members: record.members.clone(),
            primary: record.primary.clone(),
            primary_ifindex: record.primary_ifindex,
            addresses: record.addresses.clone(),
            nat: record.nat,
            publish: record.publish.clone(),
        }
    }
}

impl Claim {
    /// That of a namespace, of claims in the order of their cookies.
    #[must_use]
    pub fn find(claims: &[Self], cookie: NetnsCookie) -> Option<&Self> {
        let index = claims.binary_search_by_key(&cookie, |claim| claim.cookie);
        claims.get(index.ok()?)
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
