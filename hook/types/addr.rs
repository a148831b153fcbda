//! Addresses as the maps want them: 16 bytes, IPv4 v4-mapped. Pure.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

/// The 16 bytes of an address, network order; IPv4 as ::ffff:a.b.c.d (RFC 4291, 2.5.5.2).
#[must_use]
pub fn mapped(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The address behind 16 bytes of [`mapped`].
#[must_use]
pub fn unmapped(bytes: [u8; 16]) -> IpAddr {
    let v6 = Ipv6Addr::from(bytes);
    v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)
}

/// Leading bits of [`mapped`] that a prefix fixes, 0 to 128.
#[must_use]
pub fn mapped_prefix_len(net: &IpNet) -> u8 {
    match net {
        IpNet::V4(v4) => v4.prefix_len() + 96,
        IpNet::V6(v6) => v6.prefix_len(),
    }
}

/// True if the prefixes share an address.
#[must_use]
pub fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

/// True for an address that is nobody's in particular: RFC 1918, RFC 6598, RFC 4193.
#[must_use]
pub fn is_private(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(v4) => v4.is_private() || matches!(v4.octets(), [100, 64..=127, _, _]),
        IpAddr::V6(v6) => v6.is_unique_local(),
    }
}

/// Why an address is nothing that a container, or a name server, can have on a network: loopback,
/// multicast and the like; `None` if it can.
#[must_use]
pub fn not_unicast(addr: IpAddr) -> Option<&'static str> {
    let v4_of = |v6: Ipv6Addr| v6.to_ipv4_mapped().is_some();
    match addr {
        IpAddr::V6(v6) if v4_of(v6) => Some("a v4-mapped address"),
        a if a.is_unspecified() => Some("the unspecified address"),
        a if a.is_loopback() => Some("a loopback address"),
        a if a.is_multicast() => Some("a multicast address"),
        IpAddr::V4(v4) if v4.is_link_local() => Some("a link-local address"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("a link-local address"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("the broadcast address"),
        IpAddr::V4(v4) if v4.octets()[0] == 0 || v4.octets()[0] >= 240 => {
            Some("a reserved address")
        }
        _ => None,
    }
}
