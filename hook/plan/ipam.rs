//! Addresses: which wishes lead to a lease, and whether an address that is asked for may be had.
//! Pure. Which address is leased is `lease.rs`'s.

use std::net::IpAddr;

use ipnet::IpNet;

use super::lan;
use super::lease::Giver;
use super::link::Uplinks;
use super::pools::{self, Family, single, snippet};
use crate::annotations::{AddressWish, Wishes};
use crate::config::{Config, PATH, Pool};
use crate::error::{Error, ErrorList, Kind, Result};
use crate::facts::{HostFacts, Ledger};
use crate::types::addr::{AddrSet, is_private, not_unicast};
use crate::types::reach::Reach;
use crate::types::record::EndpointRecord;

/// What decides about addresses.
#[derive(Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) config: &'a Config,
    pub(super) host: &'a HostFacts,
    pub(super) ledger: &'a Ledger,
    pub(super) uplinks: &'a Uplinks<'a>,
    /// Those in effect.
    pub(super) pools: &'a [Pool],
    /// Of the new endpoint.
    pub(super) name: &'a str,
}

fn fault(kind: Kind, message: impl AsRef<str>) -> Error {
    Error::new(
        kind,
        format!("annotation io.oci-netkit.address: {}", message.as_ref()),
    )
}

impl<'c> Field<'c> {
    /// The addresses of a new endpoint and how each is reached, in the order asked for; leases are
    /// single addresses.
    ///
    /// # Errors
    /// All faults: [`Kind::BadInput`] for what no container can have, [`Kind::Conflict`] for what
    /// another has or a full pool, [`Kind::Config`] for a pool that is not there.
    pub(super) fn assign(
        self,
        wishes: &Wishes,
    ) -> std::result::Result<Vec<(IpNet, Reach)>, ErrorList> {
        let mut faults = ErrorList::new();
        let mut giver = Giver::new(self.name, &self.ledger.leases, self.taken(wishes));
        let mut addresses = Vec::new();
        for wish in &wishes.address {
            let families: &[Family] = match wish {
                AddressWish::Static { addr, prefix_len } => {
                    let checked = self.check(*addr, *prefix_len, wishes.reach);
                    addresses.extend(faults.keep(checked));
                    continue;
                }
                AddressWish::Auto => &[Family::V4, Family::V6],
                AddressWish::Auto4 => &[Family::V4],
                AddressWish::Auto6 => &[Family::V6],
            };
            match self.lease(families, wishes.reach, &mut giver) {
                Ok(leases) => addresses.extend(leases),
                Err(e) => faults.push(e),
            }
        }
        if faults.is_empty() {
            Ok(addresses)
        } else {
            Err(faults)
        }
    }

    /// Addresses that cannot be leased: somebody's, the host's, and those that are asked for.
    fn taken(self, wishes: &Wishes) -> AddrSet {
        let routes = self.host.routes.iter();
        let gateways = routes.clone().filter_map(|r| r.gateway);
        let wished = wishes.address.iter().filter_map(|w| match w {
            AddressWish::Static { addr, .. } => Some(*addr),
            _ => None,
        });
        let of_host = self.host.addresses.iter().map(|a| a.net.addr());
        let mut taken = self.ledger.addresses();
        taken.extend(
            of_host
                .chain(self.host.neighbours.iter().copied())
                .chain(routes.filter_map(single))
                .chain(gateways)
                .chain(lan::networks(self.host, self.uplinks).flat_map(|n| n.edges()))
                .chain(wished),
        );
        taken
    }

    /// Addresses outside the pools that are somebody's, and that nobody says are routed here.
    pub(super) fn taken_from_others(
        self,
        addresses: &[(IpNet, Reach)],
    ) -> impl Iterator<Item = String> {
        let theirs = addresses.iter().filter(move |(net, reach)| {
            *reach == Reach::Masquerade
                && !is_private(net.addr())
                && !self.pools.iter().any(|p| p.prefix.contains(&net.addr()))
        });
        theirs.map(|(net, _)| {
            format!(
                "{} is no private address: who has it elsewhere is not reached from this host \
                 while the container runs",
                net.addr()
            )
        })
    }

    /// One lease of each family that has a pool to lease from; of the only one, if it is one.
    fn lease(
        self,
        families: &[Family],
        reach: Option<Reach>,
        giver: &mut Giver<'_>,
    ) -> Result<Vec<(IpNet, Reach)>> {
        let must_have_all = families.len() == 1;
        let mut leases = Vec::new();
        for family in families {
            if *family == Family::V6 && !self.host.ipv6 {
                if must_have_all {
                    return Err(no_ipv6());
                }
                continue;
            }
            let pools = self.serving(*family, reach);
            if pools.is_empty() {
                if must_have_all {
                    return Err(no_pool(Some(*family), reach));
                }
                continue;
            }
            for pool in &pools {
                pools::check_built_in(pool, self.config, self.host)?;
            }
            let Some((addr, pool)) = giver.give(&pools) else {
                return Err(self.none_left(&pools));
            };
            leases.push((IpNet::from(addr), reach.unwrap_or(pool.reach)));
        }
        if leases.is_empty() {
            Err(no_pool(None, reach))
        } else {
            Ok(leases)
        }
    }

    fn none_left(self, pools: &[&Pool]) -> Error {
        let list: Vec<String> = pools.iter().map(|p| p.prefix.to_string()).collect();
        let mut text = format!("no free address is left in {}", list.join(", "));
        let is_of_pools = |addr: &&IpAddr| pools.iter().any(|p| p.prefix.contains(*addr));
        let neighbours = self.host.neighbours.iter().filter(is_of_pools).count();
        if neighbours > 0 {
            text += &format!("; other machines have {neighbours} of them");
        }
        fault(Kind::Conflict, text)
            .with_hint("`oci-netkit gc` removes what ended containers left behind")
    }

    /// The pools that serve a wish, in the order to lease from: those that say the wish itself come
    /// first, so that routed addresses are not spent on who does not want them.
    fn serving(self, family: Family, reach: Option<Reach>) -> Vec<&'c Pool> {
        let mut pools: Vec<&Pool> = self
            .pools
            .iter()
            .filter(|p| family.has(&p.prefix) && reach.is_none_or(|r| p.reach.permits(r)))
            .collect();
        pools.sort_by_key(|p| reach.is_some_and(|r| p.reach != r));
        pools
    }

    /// Whether a static address may be had, how it stands on the device inside and is reached.
    fn check(
        self,
        addr: IpAddr,
        prefix_len: Option<u8>,
        reach: Option<Reach>,
    ) -> Result<(IpNet, Reach)> {
        let net = match prefix_len {
            Some(len) => IpNet::new(addr, len)
                .map_err(|_| fault(Kind::BadInput, format!("{addr}/{len} has no such prefix")))?,
            None => IpNet::from(addr),
        };
        if let Some(what) = not_unicast(addr) {
            return Err(fault(
                Kind::BadInput,
                format!("{addr} is {what}, not for a container"),
            ));
        }
        if addr.is_ipv6() && !self.host.ipv6 {
            return Err(no_ipv6());
        }
        let is_edge = addr == net.network() || (addr.is_ipv4() && addr == net.broadcast());
        if net.max_prefix_len() - net.prefix_len() >= 2 && is_edge {
            let message = format!("{net} is the network or broadcast address of its prefix");
            return Err(fault(Kind::BadInput, message));
        }
        let mut records = self.ledger.records.iter();
        let has = |r: &&EndpointRecord| r.addresses.iter().any(|a| a.addr() == addr);
        if let Some(holder) = records.find(has) {
            return Err(fault(
                Kind::Conflict,
                format!("{addr} belongs to {}", holder.in_words()),
            ));
        }
        if self.host.addresses.iter().any(|a| a.net.addr() == addr) {
            let link = self.link_name(addr);
            return Err(fault(
                Kind::Conflict,
                format!("{addr} is this host's own{link}"),
            ));
        }
        if self.host.routes.iter().any(|r| single(r) == Some(addr)) {
            return Err(fault(
                Kind::Conflict,
                format!("this host has a route for {addr} already"),
            )
            .with_hint("`oci-netkit gc` removes what ended containers left behind"));
        }
        match self.pools.iter().find(|p| p.prefix.contains(&addr)) {
            Some(pool) => {
                pools::check_built_in(pool, self.config, self.host)?;
                match reach {
                    Some(wish) if !pool.reach.permits(wish) => Err(contradiction(addr, pool, wish)),
                    wish => {
                        let reach = wish.unwrap_or(pool.reach);
                        if reach == Reach::Lan {
                            lan::check(self.host, self.uplinks, addr)?;
                        }
                        Ok((net, reach))
                    }
                }
            }
            None => {
                self.check_ceiling(addr)?;
                Ok((net, self.check_outside_pools(addr, reach)?))
            }
        }
    }

    /// Whether an address outside the pools may be asked for at all.
    fn check_ceiling(self, addr: IpAddr) -> Result<()> {
        let ceiling = self.config.ceiling.as_ref();
        if ceiling.is_none_or(|c| c.address.iter().any(|net| net.contains(&addr))) {
            return Ok(());
        }
        let message =
            format!("{addr} is in no pool, and the ceiling of the config does not allow it either");
        let hint = format!(
            "leave it to auto, or write to {PATH}, under [ceiling]: address = [\"{}\"]",
            IpNet::from(addr)
        );
        Err(fault(Kind::NotPermitted, message).with_hint(hint))
    }

    /// How an address outside the pools is reached, if it may be.
    fn check_outside_pools(self, addr: IpAddr, reach: Option<Reach>) -> Result<Reach> {
        match (lan::network(self.host, self.uplinks, addr), reach) {
            (Some(_), None) | (_, Some(Reach::Lan)) => {
                lan::check(self.host, self.uplinks, addr)?;
                Ok(Reach::Lan)
            }
            (Some(network), Some(wish)) => {
                let (net, name) = (network.net.trunc(), &network.link.name);
                let message = format!(
                    "annotation io.oci-netkit.reach: {wish}, but {addr} is inside {net} ({name}), \
                     whose machines would not find it"
                );
                Err(Error::new(Kind::BadInput, message).with_hint(
                    "leave the key out (or write lan), or take an address outside that network",
                ))
            }
            (None, wish) => {
                self.check_subnet(addr)?;
                Ok(wish.unwrap_or(Reach::Masquerade))
            }
        }
    }

    /// Whether an address outside the pools is that of a network behind the host.
    fn check_subnet(self, addr: IpAddr) -> Result<()> {
        let subnet = self
            .host
            .addresses
            .iter()
            .find(|a| a.net.prefix_len() < a.net.max_prefix_len() && a.net.contains(&addr));
        if let Some(subnet) = subnet {
            let (net, link) = (subnet.net.trunc(), self.link_name(subnet.net.addr()));
            return Err(fault(
                Kind::Conflict,
                format!("{addr} is inside {net}{link}"),
            ));
        }
        Ok(())
    }

    /// " (eth0)" of the host's address.
    fn link_name(self, addr: IpAddr) -> String {
        let ifindex = self
            .host
            .addresses
            .iter()
            .find(|a| a.net.addr() == addr)
            .map(|a| a.ifindex);
        let link = self.host.links.iter().find(|l| Some(l.ifindex) == ifindex);
        link.map_or_else(String::new, |l| format!(" ({})", l.name))
    }
}

fn no_pool(family: Option<Family>, reach: Option<Reach>) -> Error {
    let of = family.map_or("", Family::word);
    let with = reach.map_or_else(String::new, |r| format!(" with reach={r}"));
    let message = format!("auto needs a pool{of}{with}, and the config has none");
    let family = family.unwrap_or(Family::V4);
    fault(Kind::Config, message).with_hint(snippet(family, reach.unwrap_or(Reach::Masquerade)))
}

/// An address is reached as its pool says, or less than that.
fn contradiction(addr: IpAddr, pool: &Pool, wish: Reach) -> Error {
    let (prefix, reach) = (pool.prefix, pool.reach);
    let message = format!(
        "annotation io.oci-netkit.reach: {wish}, but {addr} is of the pool {prefix}, which has \
         reach={reach}"
    );
    Error::new(Kind::BadInput, message).with_hint(match wish {
        Reach::Routed => format!(
            "leave the key out, or if the network routes {prefix} to this host, write to {PATH}: \
             pool = [{{ prefix = \"{prefix}\", reach = \"{wish}\" }}]"
        ),
        Reach::Lan | Reach::Masquerade => {
            "leave the key out, or take an address outside the pool".into()
        }
    })
}

fn no_ipv6() -> Error {
    fault(Kind::Unsupported, "this host has IPv6 turned off").with_hint("ask for IPv4 only")
}
