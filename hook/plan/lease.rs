//! Which address of the pools `auto` gives out. Pure.
//!
//! In this order:
//! 1. What was last leased under the same name.
//! 2. Of the first pool that has one: the lowest address that nobody had yet.
//! 3. Of that pool: the one that was not used for the longest time, so that who still speaks to its
//!    last holder does not meet another container for as long as the pool allows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::config::Pool;
use crate::types::addr::AddrSet;
use crate::types::lease::Leases;

#[cfg(test)]
mod tests;

/// What is known of addresses while one container is planned.
pub(super) struct Giver<'a> {
    name: &'a str,
    leases: &'a Leases,
    /// That cannot be given out.
    taken: AddrSet,
}

impl<'a> Giver<'a> {
    /// For the endpoint of that name; `taken` are addresses that others have.
    pub(super) fn new(name: &'a str, leases: &'a Leases, taken: AddrSet) -> Self {
        Self {
            name,
            leases,
            taken,
        }
    }

    /// An address with the pool it is of; `None` if all are taken.
    pub(super) fn give<'p>(&mut self, pools: &[&'p Pool]) -> Option<(IpAddr, &'p Pool)> {
        let lease = self
            .again(pools)
            .or_else(|| pools.iter().find_map(|p| Some((self.next(&p.prefix)?, *p))))?;
        self.taken.insert(lease.0);
        Some(lease)
    }

    fn again<'p>(&self, pools: &[&'p Pool]) -> Option<(IpAddr, &'p Pool)> {
        let pool = |addr: IpAddr| pools.iter().find(|p| p.prefix.contains(&addr));
        self.leases
            .of(self.name)
            .filter(|addr| !self.taken.has(*addr))
            .find_map(|addr| Some((addr, *pool(addr)?)))
    }

    fn next(&self, prefix: &IpNet) -> Option<IpAddr> {
        first_free(prefix, |a| self.taken.has(a) || self.leases.has(a)).or_else(|| {
            let addresses = self.leases.oldest_first().map(|(addr, _)| addr);
            let mut in_pool = addresses.filter(|a| prefix.contains(a));
            in_pool.find(|a| !self.taken.has(*a))
        })
    }
}

/// The lowest address of a prefix that may be given out and is not taken.
///
/// IPv4 leaves out network, broadcast and the first address, which people expect to be a router's;
/// IPv6 the subnet-router anycast address (RFC 4291, 2.6.1).
fn first_free(prefix: &IpNet, is_taken: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let is_wide = prefix.max_prefix_len() - prefix.prefix_len() >= 2;
    let (skip_low, skip_high) = match prefix {
        IpNet::V4(_) if is_wide => (2, 1),
        IpNet::V6(_) if is_wide => (1, 0),
        _ => (0, 0),
    };
    let low = number(prefix.network()) + skip_low;
    let high = number(prefix.broadcast()) - skip_high;
    (low..=high)
        .map(|n| match prefix {
            // The numbers are those of addresses in the prefix.
            IpNet::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(n).unwrap_or(u32::MAX))),
            IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(n)),
        })
        .find(|a| !is_taken(*a))
}

fn number(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}
