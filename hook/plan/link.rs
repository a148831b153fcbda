//! Devices: which are uplinks, what the pair is called and how large its packets are. Pure.

use crate::config::Config;
use crate::error::{Error, ErrorList, Kind, Result};
use crate::facts::{HostFacts, Ledger, Link};
use crate::types::claim;
use crate::types::id::EndpointId;
use crate::types::name::IfName;

use super::step::{LinkSizes, Uplink};

/// Uplinks at a time; mirrors `NK_MAX_UPLINKS` in bpf/abi.h.
const MAX_UPLINKS: usize = 64;

/// Smallest MTU of IPv4 (RFC 791) and of IPv6 (RFC 8200, 5), bytes.
const LEAST_MTU: [u32; 2] = [68, 1280];

/// `GSO_LEGACY_MAX_SIZE`, include/linux/netdevice.h, bytes: larger packets are BIG TCP.
const LEGACY_PACKET: u32 = 65536;

/// The first major version with IPv6 packets above that size as they are. Older kernels put a
/// hop-by-hop header into them (RFC 2675), which no program of ours lets through.
const PLAIN_BIG_TCP: u32 = 7;

/// Start of the names of our primaries; the endpoint's id follows.
const PRIMARY: &str = "onk";

/// The links that lead out, with what is odd about them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Uplinks<'h> {
    pub(super) links: Vec<&'h Link>,
    pub(super) warnings: Vec<String>,
    /// Large IPv6 packets have a header of their own.
    pub(super) has_jumbo_header: bool,
}

impl Uplinks<'_> {
    pub(super) fn has(&self, ifindex: u32) -> bool {
        self.links.iter().any(|l| l.ifindex == ifindex)
    }

    /// As the steps want them.
    pub(crate) fn specs(&self) -> Vec<Uplink> {
        self.links
            .iter()
            .map(|l| Uplink {
                ifindex: l.ifindex,
                name: l.name.clone(),
                mac: l.mac.unwrap_or_default(),
                mtu_bytes: l.mtu_bytes,
            })
            .collect()
    }

    /// The sizes that fit every uplink that is up; of all, if none is.
    pub(super) fn sizes(&self) -> LinkSizes {
        let up: Vec<&Link> = self.links.iter().copied().filter(|l| l.up).collect();
        let links = if up.is_empty() { &self.links } else { &up };
        let least = |size: fn(&Link) -> u32| {
            links
                .iter()
                .map(|l| size(l))
                .filter(|n| *n != 0)
                .min()
                .unwrap_or(0)
        };
        let most_ipv6 = if self.has_jumbo_header {
            LEGACY_PACKET
        } else {
            u32::MAX
        };
        LinkSizes {
            mtu_bytes: least(|l| l.mtu_bytes),
            gso_max_bytes: least(|l| l.gso_max_bytes).min(most_ipv6),
            gso_ipv4_max_bytes: least(|l| l.gso_ipv4_max_bytes),
            gro_max_bytes: least(|l| l.gro_max_bytes).min(most_ipv6),
            gro_ipv4_max_bytes: least(|l| l.gro_ipv4_max_bytes),
            headroom_bytes: links.iter().map(|l| l.headroom_bytes).max().unwrap_or(0),
        }
    }
}

/// True for a primary of ours, also one that was left behind.
pub(super) fn is_ours(link: &Link) -> bool {
    let id = link.name.strip_prefix(PRIMARY).unwrap_or_default();
    link.kind.as_deref() == Some("netkit") && id.parse::<u32>().is_ok()
}

/// The uplinks of the config; without any there, each physical link and each with a default route.
///
/// # Errors
/// [`Kind::Config`] for a link of the config that is no uplink, [`Kind::Unsupported`] if none is
/// left.
pub(crate) fn uplinks<'h>(config: &Config, host: &'h HostFacts) -> Result<Uplinks<'h>> {
    let mut uplinks = Uplinks {
        has_jumbo_header: has_jumbo_header(&host.kernel_release),
        ..Uplinks::default()
    };
    let mut faults = ErrorList::new();
    match &config.uplinks {
        Some(names) => {
            for name in names {
                uplinks.links.extend(faults.keep(named(name, host)));
            }
        }
        None => {
            for link in host.links.iter().filter(|l| leads_out(l, host)) {
                if link.mac.is_some() {
                    uplinks.links.push(link);
                } else {
                    let name = &link.name;
                    uplinks
                        .warnings
                        .push(format!("{name} leads out, but is not Ethernet: not used"));
                }
            }
        }
    }
    if uplinks.has_jumbo_header {
        let joins = |l: &&&Link| l.gro_max_bytes > LEGACY_PACKET;
        let names = uplinks.links.iter().filter(joins).map(|l| &l.name);
        uplinks.warnings.extend(names.map(|name| {
            format!(
                "{name} joins what it receives to more than 64 KiB (BIG TCP), and containers get no \
                 such IPv6 packet on this kernel: ip link set {name} gro_max_size {LEGACY_PACKET}"
            )
        }));
    }
    if faults.is_empty() && uplinks.links.is_empty() {
        let message =
            "no interface of this host leads out: none is physical or has a default route";
        faults.push(Error::new(Kind::Unsupported, message).with_hint(format!(
            "name it in {}: uplinks = [\"eth0\"]",
            crate::config::PATH
        )));
    }
    if uplinks.links.len() > MAX_UPLINKS {
        let message = format!(
            "{} uplinks, and {MAX_UPLINKS} are the most",
            uplinks.links.len()
        );
        faults.push(Error::new(Kind::Unsupported, message));
    }
    faults.into_result(uplinks)
}

fn has_jumbo_header(release: &str) -> bool {
    let major = release
        .split('.')
        .next()
        .and_then(|n| n.parse::<u32>().ok());
    major.is_some_and(|major| major < PLAIN_BIG_TCP)
}

fn named<'h>(name: &IfName, host: &'h HostFacts) -> Result<&'h Link> {
    let fault = |message: String| Error::new(Kind::Config, format!("uplinks: {message}"));
    let link = host
        .links
        .iter()
        .find(|l| l.name == name.as_str())
        .ok_or_else(|| fault(format!("this host has no {name}")))?;
    if is_ours(link) {
        return Err(fault(format!("{name} is the host side of a container")));
    }
    if link.mac.is_none() {
        return Err(fault(format!(
            "{name} is not Ethernet, and only that is supported"
        )));
    }
    Ok(link)
}

fn leads_out(link: &Link, host: &HostFacts) -> bool {
    // First of all, since a full host has thousands of ours, and a route for each.
    if link.loopback || is_ours(link) {
        return false;
    }
    let default = host
        .routes
        .iter()
        .any(|r| r.destination.prefix_len() == 0 && r.ifindex == Some(link.ifindex));
    link.physical || default
}

/// The lowest id that neither an endpoint nor a left-behind device has, and the name it gives.
///
/// # Errors
/// [`Kind::Conflict`] when all are taken.
pub(super) fn primary(host: &HostFacts, ledger: &Ledger) -> Result<(EndpointId, IfName)> {
    let is_left = |name: &str| host.links.iter().any(|l| l.name == name);
    (0..EndpointId::COUNT)
        .zip(claim::ids(&ledger.claims))
        .filter_map(|(id, is_taken)| (!is_taken).then_some(id))
        .map(|id| (EndpointId(id), format!("{PRIMARY}{id}")))
        .find(|(_, name)| !is_left(name))
        .map_or_else(
            || {
                let count = EndpointId::COUNT;
                let message = format!("all {count} endpoints of this host are in use");
                Err(Error::new(Kind::Conflict, message)
                    .with_hint("`oci-netkit gc` removes what ended containers left behind"))
            },
            |(id, name)| Ok((id, IfName::new(&name)?)),
        )
}

/// The MTU of both ends: the smallest of the uplinks, or what is asked for if that fits.
///
/// # Errors
/// [`Kind::BadInput`] when it does not fit.
pub(super) fn mtu_bytes(wish: Option<u32>, most: u32, has_ipv6: bool) -> Result<u32> {
    let least = LEAST_MTU[usize::from(has_ipv6)];
    if most < least {
        let message = format!("an uplink has an MTU of {most}, and IPv6 needs {least}");
        return Err(Error::new(Kind::Unsupported, message).with_hint("ask for IPv4 only"));
    }
    let Some(wish) = wish else { return Ok(most) };
    let fault = |message: String| {
        Error::new(
            Kind::BadInput,
            format!("annotation io.oci-netkit.mtu: {wish} {message}"),
        )
    };
    if wish < least {
        return Err(fault(format!(
            "is below {least}, the least that IPv6 works with"
        )));
    }
    if wish > most {
        return Err(fault(format!(
            "is above {most}, the smallest MTU of the uplinks"
        )));
    }
    Ok(wish)
}
