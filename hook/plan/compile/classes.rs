//! One class of addresses: its rules into verdicts by scope, protocol and port. Pure.
//!
//! Three levels, each answering for all that the next does not split: scope, protocol, port. The
//! segments of ports are disjoint and carry the whole precedence (deny over allow, over all ports
//! of the protocol, over every protocol), so the longest match is the answer.

use std::collections::{BTreeMap, BTreeSet};

use super::{Atom, TABLE_BITS, TrieEntry};
use crate::plan::policy::Effect;
use crate::types::scope::Scope;

/// Mirrors `enum nk_verdict` in bpf/abi.h.
const ALLOW: u32 = 1;
const DENY: u32 = 2;
const AUDIT: u32 = 3;

/// The first rule of each effect among those that match.
#[derive(Clone, Copy, Debug, Default)]
struct Best {
    deny: Option<u32>,
    allow: Option<u32>,
    audit: Option<u32>,
}

impl Best {
    fn of(atom: &Atom) -> Self {
        let mut best = Self::default();
        let place = match atom.says.effect {
            Effect::Deny => &mut best.deny,
            Effect::Allow => &mut best.allow,
            Effect::Audit => &mut best.audit,
        };
        *place = Some(atom.rule);
        best
    }

    fn with(self, other: Self) -> Self {
        let least = |a: Option<u32>, b: Option<u32>| match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Self {
            deny: least(self.deny, other.deny),
            allow: least(self.allow, other.allow),
            audit: least(self.audit, other.audit),
        }
    }

    /// Verdict and deciding rule; `None` = the default decides.
    fn verdict(self) -> Option<(u32, u32)> {
        self.deny
            .map(|r| (DENY, r))
            .or(self.allow.map(|r| (ALLOW, r)))
            .or(self.audit.map(|r| (AUDIT, r)))
    }
}

/// An entry without its table and scope.
#[derive(Clone, Copy, Debug)]
struct Row {
    /// Bits behind the scope that count: 0, 8, or up to 24.
    bits: u8,
    proto: u8,
    port: u16,
    verdict: u32,
    rule: u32,
}

/// Appends the entries of the class numbered `table` whose addresses are under `atoms`.
pub(super) fn rows(table: u32, atoms: &[&Atom], entries: &mut Vec<TrieEntry>) {
    // Most scopes see the same rules, so rows are made once for each distinct selection.
    let mut made: BTreeMap<Vec<u32>, Vec<Row>> = BTreeMap::new();
    for scope in Scope::ALL {
        let seen: Vec<&Atom> = atoms
            .iter()
            .copied()
            .filter(|a| a.says.scopes.has(scope))
            .collect();
        let positions: Vec<u32> = atoms
            .iter()
            .zip(0u32..)
            .filter(|(a, _)| a.says.scopes.has(scope))
            .map(|p| p.1)
            .collect();
        let rows = made.entry(positions).or_insert_with(|| scope_rows(&seen));
        entries.extend(rows.iter().map(|row| {
            let mut data = [0; 16];
            data[0] = scope as u8;
            data[1] = row.proto;
            data[2..4].copy_from_slice(&row.port.to_be_bytes());
            TrieEntry {
                prefix_bits: TABLE_BITS + 8 + row.bits,
                table,
                data,
                id: row.rule,
                verdict: row.verdict,
            }
        }));
    }
}

/// Rows of one scope: every protocol, then each that is named.
fn scope_rows(atoms: &[&Atom]) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut any = Best::default();
    let mut named: BTreeMap<u8, Vec<&Atom>> = BTreeMap::new();
    for atom in atoms {
        match atom.says.proto {
            None => any = any.with(Best::of(atom)),
            Some(proto) => named.entry(proto).or_default().push(atom),
        }
    }
    if let Some((verdict, rule)) = any.verdict() {
        rows.push(Row {
            bits: 0,
            proto: 0,
            port: 0,
            verdict,
            rule,
        });
    }
    for (proto, atoms) in named {
        let is_all = |a: &Atom| a.says.first == 0 && a.says.last == u16::MAX;
        let (all, ranges): (Vec<&Atom>, Vec<&Atom>) = atoms.into_iter().partition(|a| is_all(a));
        let base = all
            .into_iter()
            .fold(any, |best, atom| best.with(Best::of(atom)));
        if base.verdict() != any.verdict() {
            if let Some((verdict, rule)) = base.verdict() {
                rows.push(Row {
                    bits: 8,
                    proto,
                    port: 0,
                    verdict,
                    rule,
                });
            }
        }
        for (first, last, verdict, rule) in segments(base, &ranges) {
            for (port, len) in aligned(first, last) {
                rows.push(Row {
                    bits: 8 + len,
                    proto,
                    port,
                    verdict,
                    rule,
                });
            }
        }
    }
    rows
}

/// Disjoint segments of ports whose verdict differs from the base, in order.
fn segments(base: Best, ranges: &[&Atom]) -> Vec<(u16, u16, u32, u32)> {
    // Ports where something starts or has just ended.
    let mut changes: BTreeMap<u32, Vec<(bool, &Atom)>> = BTreeMap::new();
    for atom in ranges {
        changes
            .entry(u32::from(atom.says.first))
            .or_default()
            .push((true, atom));
        changes
            .entry(u32::from(atom.says.last) + 1)
            .or_default()
            .push((false, atom));
    }
    let mut active: [BTreeSet<u32>; 3] = Default::default();
    let mut out: Vec<(u16, u16, u32, u32)> = Vec::new();
    let mut open: Option<(u16, (u32, u32))> = None;
    for (port, atoms) in &changes {
        for (starts, atom) in atoms {
            let set = &mut active[atom.says.effect as usize];
            // Two ranges of one rule never overlap in one protocol, so the rule names the range.
            if *starts {
                set.insert(atom.rule)
            } else {
                set.remove(&atom.rule)
            };
        }
        let [deny, allow, audit] = &active;
        let here = base.with(Best {
            deny: deny.first().copied(),
            allow: allow.first().copied(),
            audit: audit.first().copied(),
        });
        let now = here.verdict().filter(|v| Some(*v) != base.verdict());
        if open.map(|(_, v)| v) == now {
            continue;
        }
        // A segment is open, so something started before this port.
        if let (Some((first, (verdict, rule))), Some(last)) = (open, before(*port)) {
            out.push((first, last, verdict, rule));
        }
        // Nothing is active behind the last port, so a segment never starts there.
        open = now
            .zip(u16::try_from(*port).ok())
            .map(|(v, first)| (first, v));
    }
    out
}

/// The port before, which is 65535 for the end of all ports.
fn before(port: u32) -> Option<u16> {
    port.checked_sub(1).and_then(|p| u16::try_from(p).ok())
}

/// An inclusive range as aligned prefixes: first port and number of leading bits that count.
pub(super) fn aligned(first: u16, last: u16) -> Vec<(u16, u8)> {
    let mut out = Vec::new();
    let (mut at, end) = (u32::from(first), u32::from(last) + 1);
    while at < end {
        let mut bits = at.trailing_zeros().min(16);
        while at + (1 << bits) > end {
            bits -= 1;
        }
        // Both fit: at <= 65535, and bits <= 16.
        if let (Ok(port), Ok(bits)) = (u16::try_from(at), u8::try_from(bits)) {
            out.push((port, 16 - bits));
        }
        at += 1 << bits;
    }
    out
}
