//! Rules of both directions into one longest-prefix-match trie. Pure.
//!
//! Longest-prefix match returns one entry only, so every longer prefix must carry what the shorter
//! ones say. Addresses under the same rules share a class; `classes.rs` turns the rules of a class
//! into its verdicts by scope, protocol and port. `policy.rs` is the model both must agree with.

use std::collections::HashMap;
use std::rc::Rc;

use ipnet::IpNet;

pub use names::NameEntry;

use names::Names;

use super::policy::{Effect, Policy, Scopes, Term};
use super::rules::{Protocol, number};
use crate::error::{Error, Kind, Result};
use crate::types::addr::{mapped, mapped_prefix_len};
use crate::types::direction::Direction;

mod classes;
mod names;
#[cfg(test)]
mod tests;

/// Most entries of one policy; `nk_rules` tries must hold as many.
pub const MAX_ENTRIES: usize = 1 << 20;

/// Most members of all sets of rules together: 64 MiB while compiling.
const MAX_MEMBERS: usize = 1 << 24;

/// Bits of the table number, which starts every key.
const TABLE_BITS: u8 = 32;

/// First table that is a class; mirrors `NK_TABLE_FIRST_CLASS` in bpf/abi.h.
const FIRST_CLASS: u32 = 2;

/// One entry of `nk_rules`; `kernel/bpf/maps.rs` encodes it (struct nk_rule_key, nk_rule in bpf/abi.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrieEntry {
    /// Leading bits that count, from the start of `table`: 32 + bits of `data`.
    pub prefix_bits: u8,
    /// 0 egress addresses, 1 ingress addresses, from 2 on: a class.
    pub table: u32,
    /// Address, or scope, protocol, port (network order).
    pub data: [u8; 16],
    /// Class, or index of the deciding rule in its direction's list.
    pub id: u32,
    /// `NK_VERDICT_*`; 0 in address tables.
    pub verdict: u32,
}

/// What a policy becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    /// Rules of both directions.
    pub rules: Vec<TrieEntry>,
    /// Names; `None` where DNS is not filtered.
    pub names: Option<Vec<NameEntry>>,
}

/// Compiles both directions and the names.
///
/// The rule index of a class entry is the first rule of the list that says the same (protocol,
/// ports, scopes, allow or deny) as the deciding one, since addresses that differ only in which
/// rule names them share a class; [`super::policy::evaluate`] finds the rule for one address.
///
/// # Errors
/// [`crate::error::Kind::BadInput`] if the combination of rules needs too many entries, and for more
/// different ports of names than there are doors.
pub fn compile(policy: &Policy) -> Result<Tables> {
    let mut entries = Vec::new();
    let mut next_class = FIRST_CLASS;
    for direction in Direction::ALL {
        let mut compiler = Compiler::default();
        let (v4, v6) = compiler.items(&policy.terms(direction));
        let table = direction as u32;
        let addresses = compiler.addresses(v4, v6)?;
        entries.extend(addresses.iter().map(|(prefix, set)| TrieEntry {
            prefix_bits: TABLE_BITS + prefix.len,
            table,
            data: prefix.addr.to_be_bytes(),
            id: set.map_or(0, |s| next_class + s),
            verdict: 0,
        }));
        for set in &compiler.sets {
            let atoms: Vec<&Atom> = set.iter().map(|a| &compiler.atoms[*a as usize]).collect();
            classes::rows(next_class, &atoms, &mut entries);
            next_class += 1;
            if entries.len() > MAX_ENTRIES {
                return Err(too_many());
            }
        }
    }
    let names = Names::of(policy)?;
    let names = policy.filters_names().then(|| {
        names.rows(&policy.places.resolvers, &mut entries);
        names.entries(policy.mode)
    });
    Ok(Tables {
        rules: entries,
        names,
    })
}

fn too_many() -> Error {
    Error::new(
        Kind::BadInput,
        format!("the rules combine to more than {MAX_ENTRIES} table entries"),
    )
    .with_hint("many overlapping prefixes with many different ports multiply: use fewer of either")
}

/// What a rule says apart from where: rules with the same atom are interchangeable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Says {
    scopes: Scopes,
    /// `None` = every protocol.
    proto: Option<u8>,
    first: u16,
    last: u16,
    effect: Effect,
}

/// [`Says`] with the first rule of the list that says it.
#[derive(Clone, Copy, Debug)]
struct Atom {
    says: Says,
    rule: u32,
}

/// A prefix of mapped addresses; sorts parents before what they contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Prefix {
    addr: u128,
    len: u8,
}

impl Prefix {
    /// All of IPv4.
    const V4: Self = Self {
        addr: 0xffff << 32,
        len: 96,
    };

    fn of(net: &IpNet) -> Self {
        Self {
            addr: u128::from_be_bytes(mapped(net.network())),
            len: mapped_prefix_len(net),
        }
    }

    fn contains(self, other: Self) -> bool {
        let shift = 128 - u32::from(self.len);
        let differ = (self.addr ^ other.addr).checked_shr(shift).unwrap_or(0);
        self.len <= other.len && differ == 0
    }
}

type Items = Vec<(Prefix, u32)>;

/// One direction being compiled.
#[derive(Default)]
struct Compiler {
    /// By first appearance, hence in the order of their rules.
    atoms: Vec<Atom>,
    /// Distinct sets of atoms, each sorted; the position makes the class.
    sets: Vec<Rc<[u32]>>,
    by_set: HashMap<Rc<[u32]>, u32>,
    members: usize,
}

impl Compiler {
    /// Every prefix of every rule with its atom, the families apart.
    fn items(&mut self, terms: &[Term]) -> (Items, Items) {
        let (mut v4, mut v6) = (Items::new(), Items::new());
        let mut by_says: HashMap<Says, u32> = HashMap::new();
        for term in terms {
            let (first, last) = term.ports.map_or((0, u16::MAX), |p| (p.first, p.last));
            for (net, scopes) in term.nets.iter().copied() {
                let items = if matches!(net, IpNet::V4(_)) {
                    &mut v4
                } else {
                    &mut v6
                };
                for proto in protocols(term.proto, &net) {
                    let says = Says {
                        scopes,
                        proto: *proto,
                        first,
                        last,
                        effect: term.effect,
                    };
                    let next = u32::try_from(self.atoms.len()).unwrap_or(u32::MAX);
                    let atom = *by_says.entry(says).or_insert(next);
                    if atom == next {
                        self.atoms.push(Atom {
                            says,
                            rule: term.rule,
                        });
                    }
                    items.push((Prefix::of(&net), atom));
                }
            }
        }
        (v4, v6)
    }

    /// Address entries of both families with the set of each; `None` = no rules.
    fn addresses(&mut self, v4: Items, v6: Items) -> Result<Vec<(Prefix, Option<u32>)>> {
        let v6 = self.closure(v6)?;
        let v4 = self.closure(v4)?;
        // IPv4 lives inside the IPv6 space: a rule for [::/0] must not leak into it.
        let leaks = v6.iter().any(|(p, _)| p.contains(Prefix::V4));
        let barred = v4.first().is_some_and(|(p, _)| *p == Prefix::V4);
        let bar = (leaks && !barred).then_some((Prefix::V4, None));
        Ok(v6.into_iter().chain(bar).chain(v4).collect())
    }

    /// Walks the prefixes from the outside in: each carries its own atoms and its parent's. One
    /// that adds nothing to its parent needs no entry.
    fn closure(&mut self, mut items: Items) -> Result<Vec<(Prefix, Option<u32>)>> {
        items.sort_unstable();
        items.dedup();
        let mut known: HashMap<(Option<u32>, Vec<u32>), u32> = HashMap::new();
        let mut parents: Vec<(Prefix, u32)> = Vec::new();
        let mut out = Vec::new();
        for group in items.chunk_by(|a, b| a.0 == b.0) {
            let prefix = group[0].0;
            while parents.last().is_some_and(|(p, _)| !p.contains(prefix)) {
                parents.pop();
            }
            let parent = parents.last().map(|(_, set)| *set);
            let own: Vec<u32> = group.iter().map(|(_, atom)| *atom).collect();
            let key = (parent, own);
            let set = match known.get(&key) {
                Some(set) => *set,
                None => {
                    let set = self.intern(parent, &key.1)?;
                    known.insert(key, set);
                    set
                }
            };
            if parent == Some(set) {
                continue;
            }
            parents.push((prefix, set));
            out.push((prefix, Some(set)));
        }
        Ok(out)
    }

    /// The set of a parent's atoms and these.
    fn intern(&mut self, parent: Option<u32>, own: &[u32]) -> Result<u32> {
        let mut all = own.to_vec();
        if let Some(parent) = parent {
            all.extend_from_slice(&self.sets[parent as usize]);
        }
        all.sort_unstable();
        all.dedup();
        let all: Rc<[u32]> = all.into();
        if let Some(set) = self.by_set.get(&all) {
            return Ok(*set);
        }
        self.members += all.len();
        if self.members > MAX_MEMBERS {
            return Err(too_many());
        }
        let set = u32::try_from(self.sets.len()).unwrap_or(u32::MAX);
        self.sets.push(Rc::clone(&all));
        self.by_set.insert(all, set);
        Ok(set)
    }
}

/// Numbers as in the packet; `None` = every protocol.
fn protocols(proto: Protocol, net: &IpNet) -> &'static [Option<u8>] {
    const TCP: Option<u8> = Some(number::TCP);
    const UDP: Option<u8> = Some(number::UDP);
    match (proto, net) {
        (Protocol::Any, _) => &[None],
        (Protocol::One(n), _) => one(n),
        (Protocol::Icmp, IpNet::V4(_)) => &[Some(number::ICMP)],
        (Protocol::Icmp, IpNet::V6(_)) => &[Some(number::ICMPV6)],
        (Protocol::TcpUdp, _) => &[TCP, UDP],
        (Protocol::Ported, _) => &[TCP, UDP, Some(number::SCTP)],
    }
}

/// A slice of the one number.
fn one(n: u8) -> &'static [Option<u8>] {
    const ALL: [Option<u8>; 256] = {
        let mut all = [None; 256];
        let mut i = 0u8;
        loop {
            all[i as usize] = Some(i);
            if i == u8::MAX {
                break all;
            }
            i += 1;
        }
    };
    static TABLE: [Option<u8>; 256] = ALL;
    std::slice::from_ref(&TABLE[usize::from(n)])
}
