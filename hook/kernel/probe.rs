//! Finds facts about the host and a container's namespace; judges nothing, changes nothing.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::netlink::{Netlink, addr, link, route, rule};
use super::netns::Netns;
use super::process::{self, Process};
use super::{bpffs, caps, netns};
use crate::error::{Context, Result};
use crate::facts::{Ability, HostFacts, HostRoute, Link, NamespaceFacts, RoutingRule};
use crate::state::Paths;
use crate::state::names::for_names;
use crate::state::store::View;
use crate::types::claim::{self, Claim};
use crate::types::domain::search_domain;
use crate::types::engine::Engine;
use crate::types::name::IfName;

const RESOLV_CONF: &str = "/etc/resolv.conf";
/// systemd-resolved's list of the servers behind its own 127.0.0.53.
const RESOLVED_UPSTREAMS: &str = "/run/systemd/resolve/resolv.conf";
const DEVICES: &str = "/sys/class/net";
/// Not in /proc/sys, where the way to `ipv6` leads past those of all namespaces.
const IPV6: &str = "/proc/net/if_inet6";
const BTF: &str = "/sys/kernel/btf/vmlinux";

/// The host, now.
///
/// # Errors
/// [`crate::error::Kind::Kernel`] when /proc or rtnetlink refuse. What this host cannot do is in
/// the facts.
pub fn host_facts(paths: &Paths) -> Result<HostFacts> {
    let netlink = Netlink::open()?;
    let mut host = host_facts_by(&netlink, paths)?;
    host.addresses = addr::list(&netlink)?;
    host.routes = route::list(&netlink)?;
    host.links = link::list(&netlink)?;
    host.links.iter_mut().for_each(look_behind);
    Ok(host)
}

/// As [`host_facts`], by a socket that goes on being used, and without devices, addresses and routes.
///
/// # Errors
/// As [`host_facts`].
pub fn host_facts_by(netlink: &Netlink, paths: &Paths) -> Result<HostFacts> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs());
    let (resolvers, search) = name_servers();
    Ok(HostFacts {
        boot_id: boot_id()?,
        netns: netns::own_cookie()?,
        kernel_release: trimmed("/proc/sys/kernel/osrelease")?,
        netkit: netkit(netlink),
        btf: btf(),
        bpffs: bpffs_at(&paths.bpffs_dir),
        privileges: privileges()?,
        ipv6: Path::new(IPV6).exists(),
        ula: View::new(paths).ula(),
        links: Vec::new(),
        addresses: Vec::new(),
        routes: Vec::new(),
        resolvers,
        search,
        sockets: Vec::new(),
        neighbours: Vec::new(),
        now,
    })
}

/// Devices beside those of endpoints, of which each is asked for what it has: with more, all
/// addresses and routes are listed.
const FEW_DEVICES: usize = 5;
/// Endpoints for each such device at which that takes less.
const MANY_ENDPOINTS: usize = 16;

/// Addresses, routes, and the devices that matter to a start: that have one of these, are hardware, are
/// `named`, or were left behind. Not those of the endpoints, which are known; nor the routes to
/// these, of which there may be thousands.
///
/// To list all takes the kernel the square of their number: for each pair, rtnl_fill_link_netnsid(),
/// net/core/rtnetlink.c, goes through a list of all namespaces.
///
/// # Errors
/// When rtnetlink refuses.
pub fn look_at_network(
    netlink: &Netlink,
    host: &mut HostFacts,
    claims: &[Claim],
    named: &[IfName],
) -> Result<()> {
    let mut others = devices_but(claims)?;
    others.extend(named.iter().map(|name| name.as_str().to_owned()));
    let is_named = |name: &str| named.iter().any(|n| n.as_str() == name);
    let matters =
        |name: &str| is_named(name) || name.starts_with(link::PRIMARY_PREFIX) || is_hardware(name);
    if others.len() <= FEW_DEVICES && claims.len() >= MANY_ENDPOINTS * others.len() {
        look_for(netlink, &mut host.links, &BTreeSet::new(), &others)?;
        for link in &host.links {
            host.addresses.extend(addr::list_on(netlink, link.ifindex)?);
            // No address of a container lies behind loopback.
            if !link.loopback {
                host.routes
                    .extend(route::list_out_of(netlink, link.ifindex)?);
            }
        }
    } else {
        host.addresses = addr::list(netlink)?;
        host.routes = routes_but(netlink, claims)?;
    }
    let mut indexes: BTreeSet<u32> = host.addresses.iter().map(|a| a.ifindex).collect();
    indexes.extend(host.routes.iter().filter_map(|r| r.ifindex));
    host.links
        .retain(|l| indexes.contains(&l.ifindex) || matters(&l.name));
    others.retain(|name| matters(name));
    look_for(netlink, &mut host.links, &indexes, &others)?;
    host.links.iter_mut().for_each(look_behind);
    Ok(())
}

/// Adds the devices of these indexes and names that are not known yet.
fn look_for(
    netlink: &Netlink,
    links: &mut Vec<Link>,
    indexes: &BTreeSet<u32>,
    names: &BTreeSet<String>,
) -> Result<()> {
    for ifindex in indexes {
        if links.iter().all(|l| l.ifindex != *ifindex) {
            links.extend(link::find_by_index(netlink, *ifindex)?);
        }
    }
    for name in names {
        if links.iter().all(|l| l.name != *name) {
            links.extend(link::find(netlink, name)?);
        }
    }
    Ok(())
}

/// Names of the devices but those of endpoints.
fn devices_but(claims: &[Claim]) -> Result<BTreeSet<String>> {
    let ids = claim::ids(claims);
    let is_theirs = |name: &str| {
        let id = name.strip_prefix(link::PRIMARY_PREFIX);
        let id = id.and_then(|id| id.parse::<usize>().ok());
        id.and_then(|id| ids.get(id))
            .is_some_and(|is_there| *is_there)
    };
    let mut others = BTreeSet::new();
    for_names(Path::new(DEVICES), |name| {
        if !is_theirs(name) {
            others.insert(name.to_owned());
        }
    })?;
    Ok(others)
}

/// All routes but those to addresses of endpoints.
fn routes_but(netlink: &Netlink, claims: &[Claim]) -> Result<Vec<HostRoute>> {
    let mut by_ifindex: Vec<&Claim> = claims.iter().collect();
    by_ifindex.sort_unstable_by_key(|claim| claim.primary_ifindex());
    route::list_but(netlink, |ifindex, to| {
        let at = by_ifindex.binary_search_by_key(&ifindex, |claim| claim.primary_ifindex());
        let claim = at.ok().and_then(|at| by_ifindex.get(at));
        claim.is_some_and(|claim| claim.addresses().any(|addr| addr == to))
    })
}

fn is_hardware(name: &str) -> bool {
    Path::new(DEVICES).join(name).join("device").exists()
}

fn look_behind(link: &mut Link) {
    // Of pairs there may be a thousand.
    link.physical = link.kind.as_deref() != Some("netkit") && is_hardware(&link.name);
}

/// Policy routing rules of the host.
///
/// # Errors
/// When rtnetlink refuses.
pub fn routing_rules() -> Result<Vec<RoutingRule>> {
    rule::list(&Netlink::open()?)
}

/// /proc/sys/kernel/random/boot_id.
///
/// # Errors
/// When /proc is not mounted.
pub fn boot_id() -> Result<String> {
    trimmed("/proc/sys/kernel/random/boot_id")
}

/// The namespace of the container's init process. Opened before the process is asked whether it
/// lives, so it is that process's.
///
/// # Errors
/// [`crate::error::Kind::BadInput`] for a process that has ended, and for an unreadable bundle.
pub fn namespace_facts(process: &Process, bundle: &Path) -> Result<(Netns, NamespaceFacts)> {
    let start_time = process.start_time()?;
    let netns = Netns::of_process(process)?;
    let has_user_namespace = process.has_user_namespace()?;
    let mut links = link::list(&Netlink::open_in(&netns)?)?;
    links.retain(|l| !l.loopback);
    let bundle = process::bundle_facts(bundle)?;
    let facts = NamespaceFacts {
        cookie: netns.cookie(),
        is_host: netns.is_own()?,
        network_comes_later: has_user_namespace && links.is_empty() && bundle.expects_network,
        links,
        has_user_namespace,
        bypass_capabilities: bundle.bypass_capabilities,
        start_time,
        root: bundle.root,
        engine: Engine::Other,
        endpoint: None,
    };
    // All of the above was about this process only if it still is this process.
    process.check_alive()?;
    Ok((netns, facts))
}

fn trimmed(path: &str) -> Result<String> {
    Ok(fs::read_to_string(path)
        .with_context(|| format!("read {path}"))?
        .trim()
        .to_owned())
}

/// Asks the kernel, which needs `CAP_NET_ADMIN`; where it does not say, its type information
/// has the device's private struct.
fn netkit(netlink: &Netlink) -> Ability {
    let has = link::has_netkit(netlink)
        .unwrap_or_else(|| fs::read(BTF).is_ok_and(|btf| contains(&btf, b"\0netkit_link\0")));
    if has {
        Ability::Yes
    } else {
        Ability::No(link::NO_NETKIT.into())
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|w| w == needle)
}

fn btf() -> Ability {
    if Path::new(BTF).exists() {
        Ability::Yes
    } else {
        Ability::No(format!(
            "this kernel has no type information ({BTF}, CONFIG_DEBUG_INFO_BTF)"
        ))
    }
}

/// Our directory, or where it is going to be.
fn bpffs_at(dir: &Path) -> Ability {
    let there = dir.ancestors().find(|d| d.exists()).unwrap_or(dir);
    if bpffs::is_bpffs(there) {
        return Ability::Yes;
    }
    let mount = dir.parent().unwrap_or(dir).display().to_string();
    Ability::No(format!(
        "no bpf file system at {mount} (mount -t bpf bpf {mount})"
    ))
}

fn privileges() -> Result<Ability> {
    if !process::in_initial_user_namespace()? {
        return Ok(Ability::No(
            "this is rootless: only root of the host can do it".into(),
        ));
    }
    let missing = caps::missing()?;
    if missing.is_empty() {
        return Ok(Ability::Yes);
    }
    Ok(Ability::No(format!(
        "this process lacks {}",
        missing.join(", ")
    )))
}

/// Name servers a container can reach, loopback being the host's own, and the domains to search, of
/// the first file that names such a server.
fn name_servers() -> (Vec<IpAddr>, Vec<String>) {
    for path in [RESOLV_CONF, RESOLVED_UPSTREAMS] {
        let found = match fs::read_to_string(path) {
            Ok(text) => (reachable(&text), searched(&text)),
            Err(e) => {
                if e.kind() != ErrorKind::NotFound {
                    log::warn!("read {path}: {e}");
                }
                continue;
            }
        };
        if !found.0.is_empty() {
            return found;
        }
    }
    (Vec::new(), Vec::new())
}

/// Servers of a resolv.conf that are not loopback. One with a zone is link-local: of no use
/// elsewhere.
fn reachable(text: &str) -> Vec<IpAddr> {
    let mut servers: Vec<IpAddr> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        let server = words.next().and_then(|w| w.parse().ok());
        servers.extend(server.filter(|s: &IpAddr| !s.is_loopback() && !s.is_unspecified()));
    }
    servers
}

/// Domains to search: the last line about them counts (resolv.conf(5)).
fn searched(text: &str) -> Vec<String> {
    let is_search = |line: &&str| {
        let word = line.split_ascii_whitespace().next();
        matches!(word, Some("search" | "domain"))
    };
    let last = text.lines().rfind(is_search).unwrap_or_default();
    let domains = last.split_ascii_whitespace().skip(1);
    domains.filter_map(|d| search_domain(d).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reachable_servers_count() {
        let text = "# nameserver 1.1.1.1\nnameserver 127.0.0.53\nnameserver\t192.0.2.1 # x\n\
                    nameserver ::1\nnameserver 2001:db8::1\nnameserver fe80::1%eth0\n\
                    options edns0\nnameserver\nnameservers 9.9.9.9\n";
        let wanted: Vec<IpAddr> =
            vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        assert_eq!(reachable(text), wanted);
        assert!(reachable("nameserver 127.0.0.53").is_empty());
    }

    #[test]
    fn the_last_line_says_what_is_searched() {
        let text = "domain old.example\nsearch Corp.example. lan a..b .\noptions edns0\n";
        assert_eq!(searched(text), ["corp.example", "lan"]);
        assert!(searched("search corp.example\nsearch .\n").is_empty());
        assert!(searched("nameserver 192.0.2.1\n").is_empty());
    }

    #[test]
    fn needle_is_found_whole() {
        assert!(contains(b"\0x\0netkit_link\0", b"\0netkit_link\0"));
        assert!(!contains(b"\0netkit_links\0", b"\0netkit_link\0"));
    }
}
