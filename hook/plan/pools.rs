//! The pools in effect: the config's, else the built-in ones, and whether their addresses are the
//! containers' alone. Pure. Which address of a pool is given out is `lease.rs`'s.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::config::{Config, PATH, Pool};
use crate::error::{Error, ErrorList, Kind, Result};
use crate::facts::{HostFacts, HostRoute};
use crate::types::addr::overlap;
use crate::types::reach::Reach;

/// IPv4 where the config has no pool: beside podman's networks (10.88.0.0/16 and up), and nobody
/// else's default. IPv6 has a prefix that is each host's own, [`HostFacts::ula`].
const BUILT_IN: IpNet = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(10, 87, 128, 0), 17));

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn of(net: &IpNet) -> Self {
        match net {
            IpNet::V4(_) => Self::V4,
            IpNet::V6(_) => Self::V6,
        }
    }

    pub(super) fn has(self, net: &IpNet) -> bool {
        Self::of(net) == self
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::V4 => " of IPv4",
            Self::V6 => " of IPv6",
        }
    }
}

/// For hints: a pool in one line that may stand in the config as it is.
pub(super) fn snippet(family: Family, reach: Reach) -> String {
    let prefix = match (family, reach) {
        (Family::V4, Reach::Routed | Reach::Lan) => "192.0.2.0/24",
        (Family::V6, Reach::Routed | Reach::Lan) => "2001:db8::/64",
        (Family::V4, Reach::Masquerade) => "10.86.0.0/16",
        (Family::V6, Reach::Masquerade) => "fd12:3456:789a::/64",
    };
    format!("add to {PATH}: pool = [{{ prefix = \"{prefix}\", reach = \"{reach}\" }}]")
}

/// All pools that there are, in order of preference.
pub(super) fn in_effect(config: &Config, host: &HostFacts) -> Vec<Pool> {
    if !config.pools.is_empty() {
        return config.pools.clone();
    }
    let masqueraded = |prefix| Pool {
        prefix,
        reach: Reach::Masquerade,
    };
    let ula = host.ula.filter(|_| host.ipv6).map(IpNet::V6);
    [BUILT_IN].into_iter().chain(ula).map(masqueraded).collect()
}

/// Pools of the config that the host routes elsewhere: a mistake whoever asks. A lan pool is part of
/// such a network, see `lan.rs`.
pub(super) fn check(config: &Config, host: &HostFacts) -> ErrorList {
    let mut faults = ErrorList::new();
    for pool in config.pools.iter().filter(|p| p.reach != Reach::Lan) {
        if let Some(met) = met(pool, host) {
            faults.push(
                Error::new(Kind::Config, format!("pool {} overlaps {met}", pool.prefix)).with_hint(
                    format!(
                        "change the pool in {PATH}: its addresses must be the containers' alone"
                    ),
                ),
            );
        }
    }
    faults
}

/// As [`check`] for the built-in pools, which are nobody's mistake: asked only about one whose
/// address somebody wants.
///
/// # Errors
/// [`Kind::Config`] with a pool to write instead.
pub(super) fn check_built_in(pool: &Pool, config: &Config, host: &HostFacts) -> Result<()> {
    match met(pool, host) {
        Some(met) if config.pools.is_empty() => {
            let message = format!("the built-in pool {} overlaps {met}", pool.prefix);
            let instead = snippet(Family::of(&pool.prefix), pool.reach);
            Err(Error::new(Kind::Config, message)
                .with_hint(format!("{instead}, with a prefix that is free here")))
        }
        _ => Ok(()),
    }
}

/// What of the host has addresses of the pool.
///
/// A pool has no route on this host but one per container. Routes for single addresses only take
/// that address, see `ipam.rs`. A wider one through a gateway is fine, it is what a default route
/// is; a narrower, an equal or a connected one means that others have these addresses.
fn met(pool: &Pool, host: &HostFacts) -> Option<String> {
    let route = host.routes.iter().find(|r| {
        let wider = r.destination.prefix_len() < pool.prefix.prefix_len();
        overlap(&r.destination, &pool.prefix)
            && r.destination.prefix_len() != 0
            && !(wider && r.gateway.is_some())
            && single(r).is_none()
            && r.ifindex.is_some()
    })?;
    let mut links = host.links.iter();
    let link = links.find(|l| Some(l.ifindex) == route.ifindex);
    let link = link.map_or_else(String::new, |l| format!(" through {}", l.name));
    Some(format!(
        "the route {}{link} of this host",
        route.destination
    ))
}

/// The address of a host route.
pub(super) fn single(route: &HostRoute) -> Option<IpAddr> {
    let net = &route.destination;
    (net.prefix_len() == net.max_prefix_len()).then(|| net.addr())
}
