//! Who had which address: what `auto` goes by when it gives one out. Only a preference; who has an
//! address now is in the records. Pure.

use std::collections::HashSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

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
pub struct Leases(Vec<(IpAddr, String)>);

impl Leases {
    /// From events in their order, oldest first.
    pub fn new(events: impl IntoIterator<Item = Lease>) -> Self {
        let mut leases = Self::default();
        leases.extend(events);
        leases
    }

    /// Adds what happened next.
    pub fn extend(&mut self, events: impl IntoIterator<Item = Lease>) {
        let mut all = std::mem::take(&mut self.0);
        for Lease { name, addresses } in events {
            all.extend(addresses.into_iter().map(|addr| (addr, name.clone())));
        }
        let mut met = HashSet::new();
        all.reverse();
        all.retain(|(addr, _)| met.insert(*addr));
        all.reverse();
        self.0 = all;
    }

    /// What a name had and nobody had since, newest first.
    pub fn of<'l>(&'l self, name: &'l str) -> impl Iterator<Item = IpAddr> + 'l {
        let mine = self
            .0
            .iter()
            .rev()
            .filter(move |(_, holder)| holder == name);
        mine.map(|(addr, _)| *addr)
    }

    /// All of them, the one that was not used for the longest time first.
    pub fn oldest_first(&self) -> impl DoubleEndedIterator<Item = (IpAddr, &str)> {
        self.0.iter().map(|(addr, name)| (*addr, name.as_str()))
    }
}
