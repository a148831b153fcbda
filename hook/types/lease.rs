//! Who had which address: what `auto` goes by when it gives one out. Only a preference; who has an
//! address now is in the records. Pure.

use std::cmp::Reverse;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::addr::{AddrSet, number};

/// One name that took, or gave back, its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Name of the endpoint.
    pub name: String,
    /// Of both families.
    pub addresses: Vec<IpAddr>,
}

/// Every address once, with who had it last. By the order of events, not by a clock: clocks are set
/// back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leases {
    /// Oldest first.
    last: Vec<(IpAddr, String)>,
    /// All of these.
    had: AddrSet,
}

impl Leases {
    /// From events in their order, oldest first.
    pub fn new(events: impl IntoIterator<Item = Lease>) -> Self {
        let mut leases = Self::default();
        leases.extend(events);
        leases
    }

    /// From names and what they took or gave back, newest first: the others of an address need not
    /// be kept.
    pub fn newest_first<'e>(events: impl IntoIterator<Item = (&'e str, Vec<IpAddr>)>) -> Self {
        let mut all: Vec<(u128, usize, IpAddr, &str)> = Vec::new();
        for (name, addresses) in events {
            for addr in addresses.into_iter().rev() {
                all.push((number(addr), all.len(), addr, name));
            }
        }
        // The first of each address is who had it last.
        all.sort_unstable_by_key(|(number, age, ..)| (*number, *age));
        all.dedup_by_key(|(number, ..)| *number);
        all.sort_unstable_by_key(|(_, age, ..)| Reverse(*age));
        Self {
            had: all.iter().map(|(_, _, addr, _)| *addr).collect(),
            last: all
                .into_iter()
                .map(|(_, _, addr, name)| (addr, name.to_owned()))
                .collect(),
        }
    }

    /// Adds what happened next.
    pub fn extend(&mut self, events: impl IntoIterator<Item = Lease>) {
        for Lease { name, addresses } in events {
            self.last.retain(|(addr, _)| !addresses.contains(addr));
            addresses.iter().for_each(|addr| self.had.insert(*addr));
            let named = addresses.into_iter().map(|addr| (addr, name.clone()));
            self.last.extend(named);
        }
    }

    /// Whether somebody had it.
    #[must_use]
    pub fn has(&self, addr: IpAddr) -> bool {
        self.had.has(addr)
    }

    /// What a name had and nobody had since, newest first.
    pub fn of<'l>(&'l self, name: &'l str) -> impl Iterator<Item = IpAddr> + 'l {
        let mine = self
            .last
            .iter()
            .rev()
            .filter(move |(_, holder)| holder == name);
        mine.map(|(addr, _)| *addr)
    }

    /// All of them, the one that was not used for the longest time first.
    pub fn oldest_first(&self) -> impl DoubleEndedIterator<Item = (IpAddr, &str)> {
        self.last.iter().map(|(addr, name)| (*addr, name.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whichever_end_is_first_the_last_holder_of_each_address_is_known() {
        let addr = |n: u8| IpAddr::from([192, 0, 2, n]);
        let events = [
            ("a", vec![2, 3]),
            ("b", vec![2]),
            ("a", vec![3]),
            ("c", vec![4, 5]),
        ];
        let addresses = |list: &[u8]| list.iter().map(|n| addr(*n)).collect::<Vec<_>>();
        let forward = Leases::new(events.iter().map(|(name, list)| Lease {
            name: (*name).into(),
            addresses: addresses(list),
        }));
        let all: Vec<_> = forward.oldest_first().collect();
        assert_eq!(
            all,
            [
                (addr(2), "b"),
                (addr(3), "a"),
                (addr(4), "c"),
                (addr(5), "c")
            ]
        );
        let newest = events.iter().rev();
        let backward = Leases::newest_first(newest.map(|(name, list)| (*name, addresses(list))));
        assert_eq!(backward, forward);
        assert!(forward.has(addr(5)) && !forward.has(addr(6)));
    }
}
