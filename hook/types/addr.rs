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

/// A set of addresses, sorted: a start makes one of thousands, and to hash one takes longer than to sort
/// and find it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddrSet(Vec<u128>);

impl AddrSet {
    /// Adds one; of many, [`FromIterator`] makes a set at once.
    pub fn insert(&mut self, addr: IpAddr) {
        let number = number(addr);
        if let Err(at) = self.0.binary_search(&number) {
            self.0.insert(at, number);
        }
    }

    /// Whether it is in there.
    #[must_use]
    pub fn has(&self, addr: IpAddr) -> bool {
        self.0.binary_search(&number(addr)).is_ok()
    }

    /// The lowest address of a range that is not in there.
    #[must_use]
    pub fn lowest_absent(&self, low: IpAddr, high: IpAddr) -> Option<IpAddr> {
        let (low, high) = (number(low), number(high));
        let from = self.0.partition_point(|n| *n < low);
        let run = self.0.iter().skip(from).zip(low..=high);
        let there = run.take_while(|(there, wanted)| *there == wanted).count();
        let lowest = low.checked_add(there as u128)?;
        (lowest <= high).then(|| unmapped(lowest.to_be_bytes()))
    }

    /// Of [`mapped`] ones.
    pub fn of_mapped(addresses: impl Iterator<Item = [u8; 16]>) -> Self {
        Self::of(addresses.map(u128::from_be_bytes).collect())
    }

    /// Of sorted numbers, some of them more than once.
    pub(super) fn of_sorted(mut numbers: Vec<u128>) -> Self {
        numbers.dedup();
        Self(numbers)
    }

    /// Sorts what is in few runs in no time.
    fn of(mut numbers: Vec<u128>) -> Self {
        numbers.sort();
        Self::of_sorted(numbers)
    }
}

impl FromIterator<IpAddr> for AddrSet {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addresses: I) -> Self {
        let mut set = Self::default();
        set.extend(addresses);
        set
    }
}

impl Extend<IpAddr> for AddrSet {
    fn extend<I: IntoIterator<Item = IpAddr>>(&mut self, addresses: I) {
        let mut numbers = std::mem::take(&mut self.0);
        numbers.extend(addresses.into_iter().map(number));
        *self = Self::of(numbers);
    }
}

/// Whether the bytes of [`mapped`], in host byte order, are of IPv4.
pub(super) fn is_mapped_v4(number: u128) -> bool {
    number >> 32 == 0xffff
}

/// Of [`mapped`], in host byte order.
fn number(addr: IpAddr) -> u128 {
    u128::from_be_bytes(mapped(addr))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_into_it() {
        let addr = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut set: AddrSet = ["192.0.2.9", "2001:db8::1", "192.0.2.9", "192.0.2.1"]
            .map(addr)
            .into_iter()
            .collect();
        set.insert(addr("192.0.2.5"));
        set.insert(addr("192.0.2.9"));
        for there in ["192.0.2.1", "192.0.2.5", "192.0.2.9", "2001:db8::1"] {
            assert!(set.has(addr(there)), "{there}");
        }
        for absent in ["192.0.2.2", "2001:db8::2", "::", "0.0.0.0"] {
            assert!(!set.has(addr(absent)), "{absent}");
        }
        assert_eq!(set.0.len(), 4);
    }
}
