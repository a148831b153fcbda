//! Names of rules, and what an endpoint learned by them: `nk_names`, `nk_queries`, `nk_resolved`,
//! `nk_learned`, `nk_refused`.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::thread;

use libbpf_sys as raw;
use nix::time::{ClockId, clock_gettime};

use super::super::skel::types;
use super::super::sys::Map;
use super::{Maps, checked};
use crate::error::{Context, Error, Kind, Result};
use crate::plan::compile::NameEntry;
use crate::types::domain::name_of_key;
use crate::types::id::EndpointId;
use crate::types::learned::{Learned, LearnedName};

/// Queries that may be under way at once.
const QUERIES: u32 = 256;
/// Names that were refused and are remembered.
const REFUSED: u32 = 256;

/// `NK_TICK_SHIFT`, bpf/abi.h.
const TICK_SHIFT: u32 = types::nk_time::NK_TICK_SHIFT.0;

type Trie = Map<types::nk_name_key, types::nk_name_rule>;

impl Maps {
    /// Fills the names of a slot that is not in force; `None` = its policy filters no queries.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn fill_names(&self, slot: u32, names: Option<&[NameEntry]>) -> Result<()> {
        let Some(names) = names else {
            // What an earlier policy of the slot had.
            return super::remove(&self.names, slot).context("clear nk_names");
        };
        let max = u32::try_from(names.len().max(1))
            .map_err(|_| Error::new(Kind::Internal, "more names than a map can hold"))?;
        let trie = Trie::create(
            "nk_name",
            raw::BPF_MAP_TYPE_LPM_TRIE,
            max,
            raw::BPF_F_NO_PREALLOC,
        )?;
        let (keys, values): (Vec<_>, Vec<_>) = names.iter().map(encode).unzip();
        trie.update_many(&keys, &values)
            .with_context(|| format!("write {max} names"))?;
        self.names
            .update(&slot, &trie.as_value())
            .context("write nk_names")
    }

    /// Gives an endpoint the tables that names need, unless it has them: what was learned stays over
    /// a change of rules.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn ensure_name_tables(&self, id: EndpointId, learned: u32) -> Result<()> {
        let id = checked(id)?;
        let lru = raw::BPF_MAP_TYPE_LRU_HASH;
        if self
            .learned
            .lookup(&id)
            .context("read nk_learned")?
            .is_some()
        {
            return Ok(());
        }
        let queries =
            Map::<types::nk_query_key, types::nk_query>::create("nk_query", lru, QUERIES, 0)?;
        let resolved =
            Map::<u64, types::nk_resolved>::create("nk_resolved", lru, learned.div_ceil(2), 0)?;
        let refused = Map::<u64, types::nk_refused>::create("nk_refused", lru, REFUSED, 0)?;
        let addresses = Map::<types::nk_addr_key, types::nk_learned>::create(
            "nk_learned",
            lru,
            learned.max(1),
            0,
        )?;
        // Each waits for a grace period, so they wait together.
        thread::scope(|scope| {
            let updates = [
                ("write nk_queries", &self.queries, queries.as_value()),
                ("write nk_resolved", &self.resolved, resolved.as_value()),
                ("write nk_refused", &self.refused, refused.as_value()),
            ];
            let updates = updates.map(|(what, outer, inner)| {
                scope.spawn(move || outer.update(&id, &inner).context(what))
            });
            updates
                .into_iter()
                .try_for_each(|u| super::joined(u.join()))
        })?;
        // Last, since it is what tells that all are there.
        self.learned
            .update(&id, &addresses.as_value())
            .context("write nk_learned")
    }

    /// What an endpoint knows of addresses and their names; names that were forgotten are left out.
    ///
    /// # Errors
    /// When the maps or the clock cannot be read.
    pub fn learned(&self, id: EndpointId) -> Result<Vec<Learned>> {
        let id = checked(id)?;
        let names = self.resolved_names(id)?;
        let now = ticks()?;
        let Some(table) =
            Map::<types::nk_addr_key, types::nk_learned>::open_inner(&self.learned, id)?
        else {
            return Ok(Vec::new());
        };
        let mut list: HashMap<IpAddr, Learned> = HashMap::new();
        for key in table.keys().context("read nk_learned")? {
            let Some(value) = table.lookup(&key).context("read nk_learned")? else {
                continue;
            };
            let address = IpAddr::V6(Ipv6Addr::from(key.addr)).to_canonical();
            let known = value.names.iter().filter_map(|slot| {
                Some(LearnedName {
                    name: names.get(&slot.name)?.clone(),
                    seconds: seconds(slot.expires.wrapping_sub(now)),
                    private: slot.flags != 0,
                })
            });
            let mut names: Vec<LearnedName> = known.collect();
            names.sort_by_key(|n| std::cmp::Reverse(n.seconds));
            list.insert(address, Learned { address, names });
        }
        let mut list: Vec<Learned> = list.into_values().collect();
        list.sort_by_key(|l| l.address);
        Ok(list)
    }

    fn resolved_names(&self, id: u32) -> Result<HashMap<u64, String>> {
        let Some(table) = Map::<u64, types::nk_resolved>::open_inner(&self.resolved, id)? else {
            return Ok(HashMap::new());
        };
        let mut names = HashMap::new();
        for hash in table.keys().context("read nk_resolved")? {
            let value = table.lookup(&hash).context("read nk_resolved")?;
            if let Some(name) = value.and_then(|v| decode(&v.key)) {
                names.insert(hash, name);
            }
        }
        Ok(names)
    }

    /// Names whose queries were refused, or passed on trial only, with the counters of each.
    ///
    /// # Errors
    /// When the maps cannot be read.
    pub(super) fn refused_names(&self, id: u32) -> Result<Vec<(String, types::nk_refused)>> {
        let Some(table) = Map::<u64, types::nk_refused>::open_inner(&self.refused, id)? else {
            return Ok(Vec::new());
        };
        let mut list: HashMap<u64, (String, types::nk_refused)> = HashMap::new();
        for hash in table.keys().context("read nk_refused")? {
            let value = table.lookup(&hash).context("read nk_refused")?;
            if let Some((name, value)) = value.and_then(|v| Some((decode(&v.key)?, v))) {
                list.insert(hash, (name, value));
            }
        }
        Ok(list.into_values().collect())
    }
}

fn encode(entry: &NameEntry) -> (types::nk_name_key, types::nk_name_rule) {
    let mut key = types::nk_name_key::default();
    // A domain has at most 253 bytes, hence a key as many at most.
    let bytes = entry.key.len().min(key.name.len());
    key.name[..bytes].copy_from_slice(&entry.key[..bytes]);
    key.prefixlen = u32::try_from(8 * bytes).unwrap_or(0);
    let rule = types::nk_name_rule {
        exact: entry.exact,
        one: entry.one,
        deep: entry.deep,
        labels: entry.labels,
        ..Default::default()
    };
    (key, rule)
}

fn decode(key: &types::nk_name_key) -> Option<String> {
    let bytes = usize::try_from(key.prefixlen / 8).ok()?;
    name_of_key(key.name.get(..bytes)?)
}

/// The clock of the programs, bpf/flow.h.
fn ticks() -> Result<u32> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).context("read the clock")?;
    let ns = std::time::Duration::from(now).as_nanos() >> TICK_SHIFT;
    // Wraps in two years, like theirs.
    Ok(u32::try_from(ns & u128::from(u32::MAX)).unwrap_or(0))
}

/// How long from now; 0 for what is over.
fn seconds(ticks: u32) -> u64 {
    if ticks > u32::MAX / 2 {
        return 0;
    }
    (u64::from(ticks) << TICK_SHIFT) / 1_000_000_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::domain::Domain;

    #[test]
    fn a_name_is_written_and_read_backwards() {
        let entry = NameEntry {
            key: Domain::new("api.example.com").unwrap().key(),
            labels: 3,
            exact: 1,
            one: 2,
            deep: 4,
        };
        let (key, rule) = encode(&entry);
        assert_eq!((key.prefixlen, rule.labels), (8 * 16, 3));
        assert_eq!(decode(&key).as_deref(), Some("api.example.com"));
    }

    #[test]
    fn time_that_is_over_is_none() {
        assert_eq!(seconds(0), 0);
        assert_eq!(seconds(u32::MAX), 0);
        assert_eq!(seconds(60 * 60), 60);
    }
}
