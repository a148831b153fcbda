//! Rules with names into the trie of names, and the doors that they open. Pure.
//!
//! A door is what such a rule says but the name. Each gets a bit, so that an address with several
//! names goes through the doors of all; bpf/names.h does the sum. Names stand in the trie in wire
//! format backwards, and as with addresses every longer entry carries what shorter ones say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::classes::aligned;
use super::{TABLE_BITS, TrieEntry};
use crate::error::{Error, Kind, Result};
use crate::plan::policy::Policy;
use crate::plan::rules::{Ports, Protocol, Rule, Target, number};
use crate::types::addr::mapped;
use crate::types::domain::Depth;
use crate::types::mode::Mode;
use crate::types::scope::Scope;

#[cfg(test)]
mod tests;

/// Mirrors `NK_TABLE_DOORS` and `NK_TABLE_RESOLVERS` in bpf/abi.h.
const DOORS: u32 = 0xffff_fffe;
const RESOLVERS: u32 = 0xffff_ffff;

/// Mirrors `NK_VERDICT_ALLOW`: what a resolver's entry says, though nobody asks.
const ALLOW: u32 = 1;

/// Doors of one kind: the low half of the bits, and the high half but the last, `NK_DOOR_AUDIT`.
const MOST: [usize; 2] = [32, 31];
const AUDIT: u64 = 1 << 63;

/// One entry of `nk_names`: struct nk_name_key, nk_name_rule in bpf/abi.h.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameEntry {
    /// Wire format backwards, without the root.
    pub key: Vec<u8>,
    /// Of the name.
    pub labels: u32,
    /// Doors of the name itself.
    pub exact: u64,
    /// Of those one label below.
    pub one: u64,
    /// Of those one or more labels below.
    pub deep: u64,
}

/// What a rule says but its name.
type Door = (Protocol, Option<Ports>);

/// The names of a policy and their doors.
#[derive(Clone, Debug, Default)]
pub(super) struct Names<'p> {
    rules: Vec<&'p Rule>,
    /// Ordinary ones, and those of rules with +private-ok; the position is the bit.
    doors: [Vec<Door>; 2],
}

impl<'p> Names<'p> {
    /// Of the rules of egress that the ceiling leaves.
    pub(super) fn of(policy: &'p Policy) -> Result<Self> {
        let mut names = Self {
            rules: policy.named_rules().map(|(_, rule)| rule).collect(),
            ..Self::default()
        };
        for rule in &names.rules {
            let doors = &mut names.doors[usize::from(rule.private_ok)];
            if !doors.contains(&(rule.proto, rule.ports)) {
                doors.push((rule.proto, rule.ports));
            }
        }
        for (doors, most) in names.doors.iter().zip(MOST) {
            if doors.len() > most {
                let message = format!(
                    "rules with names have {} different protocols and ports, and {most} are the most",
                    doors.len()
                );
                return Err(Error::new(Kind::BadInput, message)
                    .with_hint("give names that belong together the same ports"));
            }
        }
        Ok(names)
    }

    fn bit(&self, rule: &Rule) -> u64 {
        let doors = &self.doors[usize::from(rule.private_ok)];
        let at = doors.iter().position(|d| *d == (rule.proto, rule.ports));
        at.map_or(0, |n| 1 << (n + if rule.private_ok { 32 } else { 0 }))
    }

    /// Entries of `nk_names`; with `audit`, all names may be asked for.
    pub(super) fn entries(&self, mode: Mode) -> Vec<NameEntry> {
        let mut all: BTreeMap<Vec<u8>, NameEntry> = BTreeMap::new();
        let mut add = |key: Vec<u8>, labels: u32, depth: Depth, bit: u64| {
            let entry = all.entry(key.clone()).or_insert(NameEntry {
                key,
                labels,
                exact: 0,
                one: 0,
                deep: 0,
            });
            match depth {
                Depth::Exact => entry.exact |= bit,
                Depth::One => entry.one |= bit,
                Depth::Deep => entry.deep |= bit,
            }
        };
        if mode == Mode::Audit {
            add(Vec::new(), 0, Depth::Deep, AUDIT);
        }
        for rule in &self.rules {
            if let Target::Name(pattern) = &rule.target {
                let (key, labels) = (pattern.domain.key(), pattern.domain.labels());
                add(key, labels, pattern.depth, self.bit(rule));
            }
        }
        close(all)
    }

    /// Entries of `nk_rules` by which a learned address is judged, and the resolvers' own.
    pub(super) fn rows(&self, resolvers: &[IpAddr], out: &mut Vec<TrieEntry>) {
        for resolver in resolvers {
            out.push(TrieEntry {
                prefix_bits: TABLE_BITS + 128,
                table: RESOLVERS,
                data: mapped(*resolver),
                id: 0,
                verdict: ALLOW,
            });
        }
        let all: Vec<(Door, u64)> = [0, 1]
            .into_iter()
            .flat_map(|half| {
                let doors = self.doors[half].iter().zip(32 * half..);
                doors.map(|(door, n)| (*door, 1 << n)).collect::<Vec<_>>()
            })
            .collect();
        let private: Vec<(Door, u64)> = all.iter().copied().filter(|d| d.1 >> 32 != 0).collect();
        door_rows(Scope::Outside, &all, out);
        door_rows(Scope::Containers, &private, out);
        door_rows(Scope::Network, &private, out);
    }
}

/// Walks the names from the outside in: each carries what its nearest ancestor says about it.
fn close(own: BTreeMap<Vec<u8>, NameEntry>) -> Vec<NameEntry> {
    let mut parents: Vec<NameEntry> = Vec::new();
    let mut out = Vec::new();
    for (key, mut entry) in own {
        while parents.last().is_some_and(|p| !key.starts_with(&p.key)) {
            parents.pop();
        }
        if let Some(parent) = parents.last() {
            entry.exact |= parent.deep;
            if entry.labels == parent.labels + 1 {
                entry.exact |= parent.one;
            }
            entry.deep |= parent.deep;
        }
        parents.push(entry.clone());
        out.push(entry);
    }
    out
}

/// Which doors a protocol and port are in, in one scope, as longest-prefix entries.
fn door_rows(scope: Scope, doors: &[(Door, u64)], out: &mut Vec<TrieEntry>) {
    let mut push = |bits: u8, proto: u8, port: u16, mask: u64| {
        let mut data = [0; 16];
        data[0] = scope as u8;
        data[1] = proto;
        data[2..4].copy_from_slice(&port.to_be_bytes());
        let [low, high] = [mask & 0xffff_ffff, mask >> 32].map(|half| {
            // Half of 64 bits.
            u32::try_from(half).unwrap_or(0)
        });
        out.push(TrieEntry {
            prefix_bits: TABLE_BITS + 8 + bits,
            table: DOORS,
            data,
            id: low,
            verdict: high,
        });
    };
    let any = doors
        .iter()
        .filter(|((proto, _), _)| *proto == Protocol::Any);
    let any = any.fold(0, |mask, (_, bit)| mask | bit);
    if any != 0 {
        push(0, 0, 0, any);
    }
    let protos: BTreeSet<u8> = doors.iter().flat_map(|((p, _), _)| protocols(*p)).collect();
    for proto in protos {
        let here: Vec<&(Door, u64)> = doors
            .iter()
            .filter(|((p, _), _)| protocols(*p).contains(&proto))
            .collect();
        let base = here.iter().filter(|((_, ports), _)| ports.is_none());
        let base = base.fold(any, |mask, (_, bit)| mask | bit);
        if base != any {
            push(8, proto, 0, base);
        }
        // Ports where something starts or has just ended.
        let mut edges = BTreeSet::new();
        for ports in here.iter().filter_map(|((_, ports), _)| *ports) {
            edges.insert(u32::from(ports.first));
            edges.insert(u32::from(ports.last) + 1);
        }
        let edges: Vec<u32> = edges.into_iter().collect();
        for pair in edges.windows(2) {
            let (Ok(first), Ok(last)) = (u16::try_from(pair[0]), u16::try_from(pair[1] - 1)) else {
                continue;
            };
            let within = here
                .iter()
                .filter(|((_, ports), _)| ports.is_some_and(|p| p.contains(first)));
            let mask = within.fold(base, |mask, (_, bit)| mask | bit);
            if mask == base {
                continue;
            }
            for (port, bits) in aligned(first, last) {
                push(8 + bits, proto, port, mask);
            }
        }
    }
}

/// Numbers that a door is about; none for every protocol.
fn protocols(proto: Protocol) -> Vec<u8> {
    match proto {
        Protocol::Any => Vec::new(),
        Protocol::One(n) => vec![n],
        Protocol::Icmp => vec![number::ICMP, number::ICMPV6],
        Protocol::TcpUdp => vec![number::TCP, number::UDP],
        Protocol::Ported => vec![number::TCP, number::UDP, number::SCTP],
    }
}
