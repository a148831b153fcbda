//! Who had which address: what `auto` goes by when it gives one out. Only a preference; who has an
//! address now is in the records. Pure.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::addr::{AddrSet, is_mapped_v4, mapped, unmapped};
use super::name::digest;

/// One name that took, or gave back, its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Name of the endpoint.
    pub name: String,
    /// Of both families.
    pub addresses: Vec<IpAddr>,
}

/// A name that took, or gave back, an address: what the file of leases consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Event {
    /// [`digest`] of the name, in host byte order: whose an address was is a preference only.
    name: [u8; 8],
    /// [`mapped`].
    addr: [u8; 16],
}

impl Event {
    /// Of each address.
    pub fn all(lease: &Lease) -> impl Iterator<Item = Self> {
        let name = digest(&lease.name).to_ne_bytes();
        let addresses = lease.addresses.iter();
        addresses.map(move |addr| Self {
            name,
            addr: mapped(*addr),
        })
    }

    fn number(&self) -> u128 {
        u128::from_be_bytes(self.addr)
    }
}

/// Every address once, with who had it last. By the order of events, not by a clock: clocks are set
/// back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leases {
    /// Oldest first.
    last: Vec<Event>,
    addresses: AddrSet,
}

impl Leases {
    /// From events in their order, oldest first.
    #[must_use]
    pub fn new(mut events: Vec<Event>) -> Self {
        // Both families are given out in ascending order, mostly, but by turns: a thousand would be a
        // thousand runs to sort.
        let numbers = events.iter().map(Event::number).zip(0..);
        let (mut by_address, v6): (Vec<(u128, usize)>, Vec<_>) =
            numbers.partition(|(number, _)| is_mapped_v4(*number));
        by_address.extend(v6);
        by_address.sort();
        let mut is_last = vec![true; events.len()];
        for pair in by_address.windows(2) {
            if let [(one, earlier), (other, _)] = pair {
                is_last[*earlier] = one != other;
            }
        }
        let mut is_last = is_last.into_iter();
        events.retain(|_| is_last.next().unwrap_or_default());
        Self {
            last: events,
            addresses: AddrSet::of_sorted(by_address.into_iter().map(|(n, _)| n).collect()),
        }
    }

    /// Adds what happened next.
    #[must_use]
    pub fn then(mut self, events: impl IntoIterator<Item = Event>) -> Self {
        self.last.extend(events);
        Self::new(self.last)
    }

    /// What somebody had.
    #[must_use]
    pub fn addresses(&self) -> &AddrSet {
        &self.addresses
    }

    /// What a name had and nobody had since, newest first.
    pub fn of(&self, name: &str) -> impl Iterator<Item = IpAddr> {
        let name = digest(name).to_ne_bytes();
        let mine = self.last.iter().rev().filter(move |e| e.name == name);
        mine.map(|e| unmapped(e.addr))
    }

    /// All of them, the one that was not used for the longest time first.
    pub fn oldest_first(&self) -> impl DoubleEndedIterator<Item = IpAddr> {
        self.last.iter().map(|e| unmapped(e.addr))
    }

    /// The last event of each address, oldest first.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_holder_of_each_address_is_known() {
        let addr = |n: u8| IpAddr::from([192, 0, 2, n]);
        let event = |name: &str, list: &[u8]| Lease {
            name: name.into(),
            addresses: list.iter().map(|n| addr(*n)).collect(),
        };
        let events = [
            event("a", &[2, 3]),
            event("b", &[2]),
            event("a", &[3]),
            event("c", &[5, 4]),
        ];
        let all: Vec<Event> = events.iter().flat_map(Event::all).collect();
        let leases = Leases::new(all.clone());
        let order: Vec<_> = leases.oldest_first().collect();
        assert_eq!(order, [2, 3, 5, 4].map(addr));
        let of = |name: &str| leases.of(name).collect::<Vec<_>>();
        assert_eq!(of("a"), [addr(3)]);
        assert_eq!(of("b"), [addr(2)]);
        assert_eq!(of("c"), [4, 5].map(addr));
        assert!(of("d").is_empty());
        let had = leases.addresses();
        assert!(had.has(addr(5)) && !had.has(addr(6)));
        // One after the other is the same.
        let one_by_one = all.into_iter().fold(Leases::default(), |l, e| l.then([e]));
        assert_eq!(one_by_one, leases);
    }
}
