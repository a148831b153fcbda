//! Everything this program can ever do to a host, as one enum, and how each is undone. Pure.
//!
//! `apply/` runs steps in order and undoes them newest first; a step is written to the journal
//! before it runs, so each undo must also be right when the step ran half or not at all.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::compile::{NameEntry, TrieEntry};
use crate::types::id::{EndpointId, NetnsCookie};
use crate::types::name::IfName;
use crate::types::port::{PortRange, PortShare};
use crate::types::publish::Transport;
use crate::types::rate::Rate;
use crate::types::reach::{LanAddress, Reach};
use crate::types::record::EndpointRecord;

/// Which end of the pair, hence which namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// In the host's namespace.
    Primary,
    /// In the container's namespace.
    Peer,
}

/// A setting of IPv4 of one device, as ip-sysctl.rst has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ipv4Setting {
    /// What comes by the device may be passed on.
    Forwarding,
    /// ICMP redirects that come by it are believed.
    AcceptRedirects,
    /// ICMP redirects are sent by it.
    SendRedirects,
}

impl Ipv4Setting {
    /// Its name under /proc/sys/net/ipv4/conf/DEVICE.
    fn name(self) -> &'static str {
        match self {
            Self::Forwarding => "forwarding",
            Self::AcceptRedirects => "accept_redirects",
            Self::SendRedirects => "send_redirects",
        }
    }
}

/// Sizes that both ends of the pair get and that are read back; 0 = leave the kernel's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkSizes {
    /// Bytes.
    pub mtu_bytes: u32,
    /// `IFLA_GSO_MAX_SIZE`, bytes.
    pub gso_max_bytes: u32,
    /// `IFLA_GSO_IPV4_MAX_SIZE`, bytes.
    pub gso_ipv4_max_bytes: u32,
    /// `IFLA_GRO_MAX_SIZE`, bytes.
    pub gro_max_bytes: u32,
    /// `IFLA_GRO_IPV4_MAX_SIZE`, bytes.
    pub gro_ipv4_max_bytes: u32,
    /// `IFLA_NETKIT_HEADROOM`, bytes; kernels before 6.14 ignore it, which is fine.
    pub headroom_bytes: u16,
}

/// The netkit pair to create: L3, both policies blackhole, primary scrub none, peer scrub default,
/// the peer born inside the namespace under its final name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairSpec {
    /// Name on the host.
    pub primary: IfName,
    /// Name inside.
    pub peer: IfName,
    /// For both ends.
    pub sizes: LinkSizes,
}

/// An uplink that needs the from_wire program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uplink {
    /// Index on the host.
    pub ifindex: u32,
    /// Name on the host.
    pub name: String,
    /// Its own link-layer address.
    pub mac: [u8; 6],
    /// Bytes.
    pub mtu_bytes: u32,
}

/// Addresses of an uplink's own network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LanSpec {
    /// The uplink.
    pub uplink: Uplink,
    /// Single, of both families.
    pub addresses: Vec<IpAddr>,
}

/// What an endpoint masquerades with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatSpec {
    /// Ports that are its alone.
    pub share: PortShare,
    /// Elements of the table that leads back to its flows.
    pub flows: u32,
}

/// A token bucket before a device (sch_tbf). Frames count as the device sees them, headers included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueSpec {
    /// On the average.
    pub rate: Rate,
    /// Most bytes at once.
    pub burst_bytes: u32,
    /// What waits at most; the rest is dropped.
    pub queue_bytes: u32,
}

/// As a queue's, for the programs: `rate_*` of `struct nk_endpoint`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// What 2^20 bytes cost, nanoseconds.
    pub mib_ns: u64,
    /// How much may be spent ahead of the clock, nanoseconds.
    pub burst_ns: u64,
}

/// What the maps must hold for one endpoint before its programs are attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapSpec {
    /// Index in the maps.
    pub id: EndpointId,
    /// The compiled rules of both directions.
    pub policy: Vec<TrieEntry>,
    /// Names of the policy; `None` where DNS is not filtered.
    pub names: Option<Vec<NameEntry>>,
    /// Elements of the table of learned addresses, where there are names.
    pub learned: u32,
    /// `NK_ENDPOINT_NXDOMAIN`.
    pub nxdomain: bool,
    /// Epoch of the policy; never 0.
    pub epoch: u32,
    /// Index into `nk_rules`: 2 * id, or that + 1.
    pub slot: u32,
    /// Elements of the flow table for flows the container opens.
    pub flows_out: u32,
    /// Elements of the flow table for flows opened towards it; `None` where none may be.
    pub flows_in: Option<u32>,
    /// Elements of the record of refusals, of each direction.
    pub denied: u32,
    /// `NK_ENDPOINT_GUARD`.
    pub guard: bool,
    /// Bytes.
    pub mtu_bytes: u32,
    /// `None` where no address is masqueraded.
    pub nat: Option<NatSpec>,
    /// For what it sends; `None` without a rate.
    pub budget: Option<Budget>,
    /// `NK_ENDPOINT_RATE_INGRESS`.
    pub rate_ingress: bool,
}

/// A port of the host that is the container's, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortSpec {
    /// Address of the host; 0.0.0.0 or :: for all of the family.
    pub host: IpAddr,
    /// Of the host.
    pub host_port: u16,
    /// Of both.
    pub protocol: Transport,
    /// Of the container.
    pub port: u16,
    /// Which of the endpoint's addresses.
    pub local_index: u8,
}

impl fmt::Display for PortSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}",
            SocketAddr::new(self.host, self.host_port),
            self.protocol
        )
    }
}

/// A route on our own device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteSpec {
    /// Where to.
    pub destination: IpNet,
    /// Preferred source, if the kernel must not choose.
    pub source: Option<IpAddr>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask the neighbours whether somebody has these addresses; changes nothing.
    ProbeAddresses(Vec<LanSpec>),
    /// Load and pin the programs and shared maps of this version, unless they are there.
    EnsureGeneration,
    /// Attach from_wire to these uplinks and enter them in the maps, unless they are there.
    EnsureUplinks(Vec<Uplink>),
    /// Keep the ports for masquerading from sockets of the host that ask for any.
    ReservePorts(PortRange),
    /// Create the pair, read every attribute back.
    CreatePair(PairSpec),
    /// Put a queue before a device: the peer's is for what the container sends, the primary's for
    /// what it receives.
    Queue {
        /// Which device.
        side: Side,
        /// The queue.
        queue: QueueSpec,
    },
    /// Switch settings of IPv4 on one of our own devices.
    SetIpv4 {
        /// Which device.
        side: Side,
        /// Its name.
        device: IfName,
        /// On or off.
        settings: Vec<(Ipv4Setting, bool)>,
    },
    /// Write sysctls under net/ipv6/conf/DEVICE/ of one of our own devices.
    SetIpv6 {
        /// Whose namespace.
        side: Side,
        /// The device.
        device: IfName,
        /// Last part of each path, such as "forwarding", and what to write.
        settings: Vec<(&'static str, &'static str)>,
    },
    /// Fill the endpoint's maps: counters, flow tables, rules, policy word, endpoint entry.
    FillMaps(MapSpec),
    /// Attach from_container and to_container (and the guard), pin the links.
    AttachPrograms {
        /// Also attach the guard to the primary's tcx ingress.
        guard: bool,
    },
    /// Set an address on the peer.
    AddAddress(IpNet),
    /// Bring a device up: primary first, then peer; also `lo` inside.
    LinkUp(Side),
    /// Add a route through the pair.
    AddRoute {
        /// On which side.
        side: Side,
        /// The route.
        route: RouteSpec,
    },
    /// Have the uplinks hear what is asked for the IPv6 ones: an NTF_PROXY neighbour for each.
    AddProxies(Vec<LanSpec>),
    /// Enter the ports in `nk_published`: from here on they are the container's.
    PublishPorts {
        /// Index in the maps.
        id: EndpointId,
        /// Never empty.
        ports: Vec<PortSpec>,
    },
    /// Enter the addresses in `nk_addrs`: from here on packets are delivered.
    PublishAddresses {
        /// Index in the maps.
        id: EndpointId,
        /// In the order that gives `local_index`, with how each is reached.
        addresses: Vec<(IpAddr, Reach)>,
    },
    /// Answer the neighbours' questions for these addresses from here on, and announce them.
    ClaimAddresses(Vec<LanSpec>),
}

/// How to take a step back. Always safe to run, also twice, also when the step never ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "undo")]
pub enum Undo {
    /// Unload the generation if this attempt loaded it and nobody uses it.
    ReleaseGeneration,
    /// Detach from_wire where no endpoint is left.
    ReleaseUplinks,
    /// Give the reserved ports back where no other endpoint has a share of them.
    ReleasePorts,
    /// Delete the primary, if it is a netkit of ours; the peer, addresses and routes go with it.
    DeletePair {
        /// Name on the host.
        primary: IfName,
    },
    /// Remove what `FillMaps` wrote.
    ClearMaps {
        /// Index in the maps.
        id: EndpointId,
    },
    /// Unpin the endpoint's links.
    DetachPrograms {
        /// Names the pin directory.
        cookie: NetnsCookie,
    },
    /// Remove the NTF_PROXY neighbours.
    RemoveProxies {
        /// Those of IPv4 never had one.
        lan: Vec<LanAddress>,
    },
    /// Remove the endpoint's ports from `nk_published`.
    RetractPorts {
        /// Index in the maps.
        id: EndpointId,
    },
    /// Remove the addresses from `nk_addrs`, if they are this endpoint's.
    RetractAddresses {
        /// Index in the maps.
        id: EndpointId,
        /// The addresses.
        addresses: Vec<IpAddr>,
    },
}

/// For logs, errors and `plan`: verb and object.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words())
    }
}

impl Step {
    /// How to take it back; `None` where there is nothing to, or another step's undo does it:
    /// queues, addresses, routes, sysctls and link state die with the pair.
    #[must_use]
    pub fn undo(&self, record: &EndpointRecord) -> Option<Undo> {
        match self {
            Self::EnsureGeneration => Some(Undo::ReleaseGeneration),
            Self::EnsureUplinks(_) => Some(Undo::ReleaseUplinks),
            Self::ReservePorts(_) => Some(Undo::ReleasePorts),
            Self::CreatePair(spec) => Some(Undo::DeletePair {
                primary: spec.primary.clone(),
            }),
            Self::FillMaps(spec) => Some(Undo::ClearMaps { id: spec.id }),
            Self::AttachPrograms { .. } => Some(Undo::DetachPrograms {
                cookie: record.cookie,
            }),
            Self::PublishPorts { id, .. } => Some(Undo::RetractPorts { id: *id }),
            Self::PublishAddresses { id, addresses } => Some(Undo::RetractAddresses {
                id: *id,
                addresses: addresses.iter().map(|(addr, _)| *addr).collect(),
            }),
            Self::AddProxies(_) => Some(Undo::RemoveProxies {
                lan: record.lan.clone(),
            }),
            // Claims end with the publication.
            Self::ProbeAddresses(_)
            | Self::ClaimAddresses(_)
            | Self::Queue { .. }
            | Self::SetIpv4 { .. }
            | Self::SetIpv6 { .. }
            | Self::AddAddress(_)
            | Self::LinkUp(_)
            | Self::AddRoute { .. } => None,
        }
    }

    fn words(&self) -> String {
        match self {
            Self::ProbeAddresses(lan) => format!("ask whether somebody has {}", list(lan)),
            Self::AddProxies(lan) => format!("listen to questions for {}", list(lan)),
            Self::ClaimAddresses(lan) => format!("answer for {} and announce it", list(lan)),
            Self::EnsureGeneration => "load programs and maps".into(),
            Self::EnsureUplinks(uplinks) => {
                let names: Vec<&str> = uplinks.iter().map(|u| u.name.as_str()).collect();
                format!("attach from_wire to {}", names.join(", "))
            }
            Self::ReservePorts(ports) => format!("reserve the ports {ports} for masquerading"),
            Self::CreatePair(p) => {
                format!(
                    "create netkit pair {} (host) and {} (container)",
                    p.primary, p.peer
                )
            }
            Self::Queue { side, queue } => {
                format!("queue of {} bit/s ({})", queue.rate, side.words())
            }
            Self::SetIpv4 {
                side,
                device,
                settings,
            } => {
                let list = settings.iter();
                let list =
                    list.map(|(setting, on)| format!("{}={}", setting.name(), u8::from(*on)));
                set_in_words("ipv4", device, list, *side)
            }
            Self::SetIpv6 {
                side,
                device,
                settings,
            } => {
                let list = settings.iter();
                let list = list.map(|(name, value)| format!("{name}={value}"));
                set_in_words("ipv6", device, list, *side)
            }
            Self::FillMaps(m) => {
                let names = m.names.as_ref().map_or_else(String::new, |names| {
                    format!(" and {} of names", names.len())
                });
                format!(
                    "write {} policy entries{names} to slot {}",
                    m.policy.len(),
                    m.slot
                )
            }
            Self::AttachPrograms { guard: false } => "attach from_container, to_container".into(),
            Self::AttachPrograms { guard: true } => {
                "attach from_container, to_container, guard".into()
            }
            Self::AddAddress(net) => format!("add address {net} (container)"),
            Self::LinkUp(side) => format!("bring the {} end up", side.words()),
            Self::AddRoute { side, route } => {
                format!("add route {} ({})", route.destination, side.words())
            }
            Self::PublishPorts { ports, .. } => {
                let list: Vec<String> =
                    ports.iter().map(|p| format!("{p} as {}", p.port)).collect();
                format!("publish {}", list.join(", "))
            }
            Self::PublishAddresses { addresses, .. } => {
                let list: Vec<String> = addresses
                    .iter()
                    .map(|(addr, reach)| match reach {
                        Reach::Routed => addr.to_string(),
                        other => format!("{addr} ({other})"),
                    })
                    .collect();
                format!("deliver to {}", list.join(", "))
            }
        }
    }
}

/// For logs: verb and object.
impl fmt::Display for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words())
    }
}

impl Undo {
    fn words(&self) -> String {
        match self {
            Self::ReleaseGeneration => "unload what this attempt loaded".into(),
            Self::ReleaseUplinks => "detach from_wire where nobody is left".into(),
            Self::ReleasePorts => "give the ports for masquerading back".into(),
            Self::DeletePair { primary } => format!("delete netkit pair {primary}"),
            Self::ClearMaps { id } => format!("clear the maps of endpoint {id}"),
            Self::DetachPrograms { .. } => "detach the container's programs".into(),
            Self::RemoveProxies { .. } => "stop listening to questions".into(),
            Self::RetractPorts { .. } => "take the published ports back".into(),
            Self::RetractAddresses { .. } => "deliver to the addresses no longer".into(),
        }
    }
}

/// Settings of one device; `family` as in net.FAMILY.conf.
fn set_in_words(
    family: &str,
    device: &IfName,
    settings: impl Iterator<Item = String>,
    side: Side,
) -> String {
    let settings = settings.collect::<Vec<_>>().join(" ");
    format!(
        "set net.{family}.conf.{device} {settings} ({})",
        side.words()
    )
}

/// "192.0.2.7, 192.0.2.8 (eth0)".
fn list(lan: &[LanSpec]) -> String {
    let of = |spec: &LanSpec| {
        let addresses: Vec<String> = spec.addresses.iter().map(ToString::to_string).collect();
        format!("{} ({})", addresses.join(", "), spec.uplink.name)
    };
    lan.iter().map(of).collect::<Vec<_>>().join(", ")
}

impl Side {
    fn words(self) -> &'static str {
        match self {
            Self::Primary => "host",
            Self::Peer => "container",
        }
    }
}
