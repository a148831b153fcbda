//! Addresses of an uplink's own network (reach = lan): which these are, who may have one, and on
//! which uplink its neighbours ask for it. Pure.

use std::net::IpAddr;

use ipnet::IpNet;

use super::link::Uplinks;
use super::step::{LanSpec, Uplink};
use crate::config::Config;
use crate::error::{Error, ErrorList, Kind, Result};
use crate::facts::{HostFacts, Link};
use crate::types::reach::{LanAddress, Reach};

#[cfg(test)]
mod tests;

/// The network of an uplink that holds an address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Network<'h> {
    /// As the host has it there.
    pub(super) net: IpNet,
    pub(super) link: &'h Link,
}

/// All networks of the uplinks, link-local ones aside: no container has such an address.
pub(super) fn networks<'h>(
    host: &'h HostFacts,
    uplinks: &Uplinks<'h>,
) -> impl Iterator<Item = Network<'h>> {
    let links = uplinks.links.clone();
    host.addresses.iter().filter_map(move |a| {
        let link = links.iter().copied().find(|l| l.ifindex == a.ifindex)?;
        let is_shared = a.net.prefix_len() < a.net.max_prefix_len();
        let is_link_local = matches!(a.net, IpNet::V6(v6) if v6.addr().is_unicast_link_local());
        let net = a.net;
        (is_shared && !is_link_local).then_some(Network { net, link })
    })
}

/// Where an address belongs: by the narrowest network, and a device that is up before others.
pub(super) fn network<'h>(
    host: &'h HostFacts,
    uplinks: &Uplinks<'h>,
    addr: IpAddr,
) -> Option<Network<'h>> {
    networks(host, uplinks)
        .filter(|n| n.net.contains(&addr))
        .min_by_key(|n| (!n.link.up, u8::MAX - n.net.prefix_len()))
}

impl Network<'_> {
    /// Addresses that are no machine's: network and broadcast; IPv6 has the routers' anycast
    /// address (RFC 4291, 2.6.1). A network of two has none (RFC 3021, RFC 6164).
    pub(super) fn edges(&self) -> Vec<IpAddr> {
        if self.net.max_prefix_len() - self.net.prefix_len() < 2 {
            return Vec::new();
        }
        match self.net {
            IpNet::V4(_) => vec![self.net.network(), self.net.broadcast()],
            IpNet::V6(_) => vec![self.net.network()],
        }
    }

    /// Why no container can have an address of this network.
    pub(super) fn refuses(&self, host: &HostFacts, addr: IpAddr) -> Option<String> {
        let (net, name) = (self.net.trunc(), &self.link.name);
        if self.edges().contains(&addr) {
            return Some(format!(
                "{addr} is the network or broadcast address of {net} ({name})"
            ));
        }
        let is_gateway = host.routes.iter().any(|r| r.gateway == Some(addr));
        is_gateway.then(|| format!("{addr} is a gateway of this host ({name})"))
    }
}

/// Whether an address of an uplink's network may be a container's. Whether it is free there, only
/// the network can tell.
///
/// # Errors
/// [`Kind::BadInput`] if it is in none, or nobody's to have.
pub(super) fn check(host: &HostFacts, uplinks: &Uplinks<'_>, addr: IpAddr) -> Result<()> {
    let fault = |why: String| {
        let message = format!("annotation io.oci-netkit.address: {why}");
        Error::new(Kind::BadInput, message)
    };
    let Some(network) = network(host, uplinks, addr) else {
        let why = format!("{addr} has reach=lan, but is inside no network of an uplink");
        return Err(fault(why).with_hint(in_words(host, uplinks)));
    };
    match network.refuses(host, addr) {
        Some(why) => Err(fault(why)),
        None => Ok(()),
    }
}

/// Pools of the config with reach = lan that are in no network.
pub(super) fn check_pools(config: &Config, host: &HostFacts, uplinks: &Uplinks<'_>) -> ErrorList {
    let mut faults = ErrorList::new();
    for pool in config.pools.iter().filter(|p| p.reach == Reach::Lan) {
        if !networks(host, uplinks).any(|n| n.net.contains(&pool.prefix)) {
            let message = format!(
                "pool {} has reach=lan, but is inside no network of an uplink",
                pool.prefix
            );
            let fault = Error::new(Kind::Config, message);
            faults.push(fault.with_hint(in_words(host, uplinks)));
        }
    }
    faults
}

/// The networks there are, for hints.
fn in_words(host: &HostFacts, uplinks: &Uplinks<'_>) -> String {
    let list: Vec<String> = networks(host, uplinks)
        .map(|n| format!("{} ({})", n.net.trunc(), n.link.name))
        .collect();
    if list.is_empty() {
        return "no uplink of this host has an address of a network".into();
    }
    format!("take one of {}", list.join(", "))
}

/// On which uplink each address with reach = lan is asked for; the plan has checked that it is.
pub(super) fn locate(
    host: &HostFacts,
    uplinks: &Uplinks<'_>,
    addresses: &[(IpNet, Reach)],
) -> Vec<LanAddress> {
    let lan = addresses.iter().filter(|(_, reach)| *reach == Reach::Lan);
    lan.filter_map(|(net, _)| {
        let address = net.addr();
        let ifindex = network(host, uplinks, address)?.link.ifindex;
        Some(LanAddress { address, ifindex })
    })
    .collect()
}

/// The same for the steps, by uplink.
pub(super) fn specs(uplinks: &[Uplink], lan: &[LanAddress]) -> Vec<LanSpec> {
    let of = |uplink: &Uplink| LanSpec {
        uplink: uplink.clone(),
        addresses: lan
            .iter()
            .filter(|l| l.ifindex == uplink.ifindex)
            .map(|l| l.address)
            .collect(),
    };
    let specs = uplinks.iter().map(of);
    specs.filter(|s| !s.addresses.is_empty()).collect()
}
