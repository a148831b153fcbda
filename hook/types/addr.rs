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
