//! Ports for masquerading: each endpoint has a share that is its alone, so that no container can
//! use up another's. Pure.
//!
//! One port serves one connection to each remote address and port, so a share bounds connections
//! to one and the same server, not connections: those that it opens within a minute, for which the
//! server may remember a closed one (TIME_WAIT). The first containers get large shares, later ones
//! smaller ones, since most hosts run few.

use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::facts::Ledger;
use crate::types::claim::Claim;
use crate::types::port::{CHUNK, PortShare};

#[cfg(test)]
mod tests;

/// What part of all ports the first share is.
const FIRST: usize = 8;

/// A share that no endpoint has.
///
/// # Errors
/// [`Kind::Conflict`] when all are taken.
pub(super) fn share(config: &Config, ledger: &Ledger) -> Result<PortShare> {
    let all = config.nat_ports.chunks();
    let mut taken = vec![false; usize::from(u16::MAX / CHUNK) + 1];
    let shares = ledger.claims.iter().filter_map(Claim::nat);
    for share in shares {
        let (first, last) = (share.first / CHUNK, share.last() / CHUNK);
        taken[usize::from(first)..=usize::from(last)].fill(true);
    }
    let free = all.clone().filter(|c| !taken[usize::from(*c)]).count();
    let sizes = std::iter::successors(Some(wanted(free, all.len())), |size| Some(size / 2));
    sizes
        .take_while(|size| *size > 0)
        .find_map(|size| run(all.clone(), &taken, size))
        .ok_or_else(|| {
            let (ports, count) = (config.nat_ports, ledger.claims.len());
            let message = format!(
                "all ports for masquerading ({ports}) belong to the {count} containers there are"
            );
            Error::new(Kind::Conflict, message).with_hint(format!(
                "widen them in {}: nat_ports = \"1024-29999\"",
                crate::config::PATH
            ))
        })
}

/// Chunks of the next share, which falls with the square of what is free: so there is one for many times
/// as many containers as there would be if all were like the first.
fn wanted(free: usize, all: usize) -> u16 {
    let chunks = free * free / (FIRST * all.max(1));
    u16::try_from(chunks).unwrap_or(u16::MAX).max(1)
}

/// The highest so many chunks in a row that are free: what comes to a port of a share costs a look for
/// its flow, and the host's own services have low ones.
fn run(all: std::ops::Range<u16>, taken: &[bool], wanted: u16) -> Option<PortShare> {
    let mut length = 0;
    for chunk in all.rev() {
        length = if taken[usize::from(chunk)] {
            0
        } else {
            length + 1
        };
        if length == wanted {
            return Some(PortShare {
                first: chunk * CHUNK,
                count: wanted * CHUNK,
            });
        }
    }
    None
}
