//! Where a remote address lives, as far as a list of routes can tell: what `check` asks. Pure.
//!
//! The datapath asks the kernel's own routing when a flow opens (bpf/route.h); this mirrors its
//! order of questions, and must not be used to decide what a packet may do.

use std::net::IpAddr;

use crate::facts::{HostFacts, Ledger};
use crate::types::scope::Scope;

/// Services that hand out credentials of the machine: AWS, ECS, EKS, GCP, Alibaba, Azure, Oracle.
/// Mirrors `nk_route_is_metadata()`, bpf/route.h.
pub const METADATA: [&str; 9] = [
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd20:ce::254",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
];

/// What stands behind an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A scope that rules speak of.
    At(Scope),
    /// Loopback, unspecified, broadcast, reserved: never reachable, whatever the rules say.
    Martian,
    /// The host has no route to it.
    Unroutable,
}

/// Where `remote` lives. `uplinks` are the interface indexes that from_wire is attached to.
#[must_use]
pub fn locate(remote: IpAddr, host: &HostFacts, ledger: &Ledger, uplinks: &[u32]) -> Place {
    if METADATA.iter().any(|m| m.parse() == Ok(remote)) {
        return Place::At(Scope::Metadata);
    }
    if is_martian(remote) {
        return Place::Martian;
    }
    if remote.is_multicast() {
        return Place::At(Scope::Multicast);
    }
    if ledger.addresses().has(remote) {
        return Place::At(Scope::Containers);
    }
    if is_link_local(remote) {
        return Place::At(Scope::LinkLocal);
    }
    if host.addresses.iter().any(|a| a.net.addr() == remote) {
        return Place::At(Scope::Host);
    }
    let longest = host
        .routes
        .iter()
        .filter(|r| r.destination.contains(&remote))
        .max_by_key(|r| r.destination.prefix_len());
    match longest.map(|r| r.ifindex) {
        None => Place::Unroutable,
        Some(Some(ifindex)) if uplinks.contains(&ifindex) => Place::At(Scope::Outside),
        // Several next hops (no single device) count as outside only if one of them is an uplink's;
        // the datapath decides per flow, so say the stricter thing.
        Some(_) => Place::At(Scope::Network),
    }
}

fn is_martian(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(v4) => {
            let first = v4.octets()[0];
            first == 0 || first == 127 || first >= 240
        }
        // ::/96 holds ::, ::1 and the deprecated IPv4-compatible addresses (RFC 4291, 2.5.5.1).
        IpAddr::V6(v6) => v6.to_ipv4_mapped().is_some() || v6.segments()[..6] == [0; 6],
    }
}

fn is_link_local(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests;
