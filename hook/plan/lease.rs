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
        first_free(prefix, [&self.taken, self.leases.addresses()]).or_else(|| {
            let addresses = self.leases.oldest_first();
            let mut in_pool = addresses.filter(|a| prefix.contains(a));
            in_pool.find(|a| !self.taken.has(*a))
        })
    }
}

/// The lowest address of a prefix that may be given out and is in neither set.
///
/// IPv4 leaves out network, broadcast and the first address, which people expect to be a router's;
/// IPv6 the subnet-router anycast address (RFC 4291, 2.6.1).
fn first_free(prefix: &IpNet, sets: [&AddrSet; 2]) -> Option<IpAddr> {
    let is_wide = prefix.max_prefix_len() - prefix.prefix_len() >= 2;
    let (mut lowest, high) = match prefix {
        IpNet::V4(v4) => {
            let (low, high) = (v4.network().to_bits(), v4.broadcast().to_bits());
            let (low, high) = if is_wide {
                (low + 2, high - 1)
            } else {
                (low, high)
            };
            (Ipv4Addr::from(low).into(), Ipv4Addr::from(high).into())
        }
        IpNet::V6(v6) => {
            let low = v6.network().to_bits() + u128::from(is_wide);
            (Ipv6Addr::from(low).into(), v6.broadcast().into())
        }
    };
    loop {
        let [one, other] = sets;
        let absent = one.lowest_absent(lowest, high)?;
        lowest = other.lowest_absent(absent, high)?;
        if lowest == absent {
            return Some(lowest);
        }
    }
}
