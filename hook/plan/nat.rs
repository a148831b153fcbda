//! Ports for masquerading: each endpoint has a share that is its alone, so that no container can
//! use up another's. Pure.
//!
//! One port serves one connection to each remote address and port, so a share bounds connections
//! to one and the same server, not connections. The first containers get large shares, later ones
//! smaller ones, since most hosts run few.

use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::facts::Ledger;
use crate::types::port::{PortRange, PortShare};

#[cfg(test)]
mod tests;

/// Ports of the host that containers are masqueraded with, unless the config says otherwise: below
/// the kernel's own (`ip_local_port_range`, 32768) and Kubernetes' node ports (30000), above what
/// services are known to use.
pub(crate) const PORTS: PortRange = PortRange::new(16384, 29999).unwrap();

/// Shares begin and end at multiples of this; mirrors `NK_NAT_CHUNK` in bpf/abi.h.
pub(crate) const CHUNK: u16 = 32;

/// Ports of a share while more than a half, more than a quarter, or less of all is free.
const SIZES: [u16; 3] = [512, 128, CHUNK];

/// A share that no endpoint has.
///
/// # Errors
/// [`Kind::Conflict`] when all are taken.
pub(super) fn share(config: &Config, ledger: &Ledger) -> Result<PortShare> {
    let all = chunks(config.nat_ports);
    let mut taken = vec![false; usize::from(u16::MAX / CHUNK) + 1];
    let shares = ledger.endpoints.iter().filter_map(|e| e.nat);
    for share in shares.filter(|s| s.count > 0) {
        let (first, last) = (share.first / CHUNK, share.last() / CHUNK);
        taken[usize::from(first)..=usize::from(last)].fill(true);
    }
    let free = all.clone().filter(|c| !taken[usize::from(*c)]).count();
    let begin = match (free * 2 > all.len(), free * 4 > all.len()) {
        (true, _) => 0,
        (_, true) => 1,
        _ => 2,
    };
    SIZES[begin..]
        .iter()
        .find_map(|size| run(all.clone(), &taken, size / CHUNK))
        .ok_or_else(|| {
            let (ports, count) = (config.nat_ports, ledger.endpoints.len());
            let message = format!(
                "all ports for masquerading ({ports}) belong to the {count} containers there are"
            );
            Error::new(Kind::Conflict, message).with_hint(format!(
                "widen them in {}: nat_ports = \"10000-29999\"",
                crate::config::PATH
            ))
        })
}

/// The whole chunks of a range.
fn chunks(ports: PortRange) -> std::ops::Range<u16> {
    let first = ports.first().div_ceil(CHUNK);
    let end = (u32::from(ports.last()) + 1) / u32::from(CHUNK);
    first..u16::try_from(end).unwrap_or(u16::MAX).max(first)
}

/// Whether a range holds a share at all.
pub(crate) fn is_wide_enough(ports: PortRange) -> bool {
    !chunks(ports).is_empty()
}

/// The first so many chunks in a row that are free.
fn run(all: std::ops::Range<u16>, taken: &[bool], wanted: u16) -> Option<PortShare> {
    let mut length = 0;
    for chunk in all {
        length = if taken[usize::from(chunk)] {
            0
        } else {
            length + 1
        };
        if length == wanted {
            return Some(PortShare {
                first: (chunk + 1 - wanted) * CHUNK,
                count: wanted * CHUNK,
            });
        }
    }
    None
}
