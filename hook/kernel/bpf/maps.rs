//! What stands in the maps, encoded and decoded: settings, endpoints, policies, flow tables,
//! addresses, uplinks, counters. The layouts are `bpf/abi.h`'s, through the skeleton.
//!
//! An update of an outer map waits for a grace period (8 to 16 ms), so an endpoint's are batched
//! per map, and the maps are written at the same time.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use libbpf_sys as raw;
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::skel::types;
use super::sys::{Answer, Map};
use crate::error::{Context, Error, Kind, Result};
use crate::plan::compile::TrieEntry;
use crate::plan::revise::PolicyWord;
use crate::plan::step::{MapSpec, Uplink};
use crate::types::addr::mapped;
use crate::types::id::{EndpointId, NetnsCookie};
use crate::types::rate::Rates;
use crate::types::reach::Reach;

mod counters;
mod denied;
mod flows;
mod lan;
mod names;
mod nat;
mod published;
mod tables;

pub use counters::{Counters, Traffic};

/// Every map that is shared by the generations of an ABI, by its name in bpf/maps.h.
pub const SHARED: [&str; 23] = [
    "nk_addrs",
    "nk_asked",
    "nk_denied",
    "nk_dropped",
    "nk_endpoints",
    "nk_flows",
    "nk_host_addrs",
    "nk_ifindexes",
    "nk_learned",
    "nk_locals",
    "nk_names",
    "nk_nats",
    "nk_passed",
    "nk_policy",
    "nk_ports",
    "nk_published",
    "nk_published_bits",
    "nk_queries",
    "nk_refused",
    "nk_resolved",
    "nk_rules",
    "nk_settings",
    "nk_uplinks",
];

const POLICY_WORD_BYTES: usize = size_of::<types::nk_policy_word>();
const MAX_ENDPOINTS: u32 = types::nk_limits::NK_MAX_ENDPOINTS.0;
const NO_ENDPOINT: u32 = types::nk_limits::NK_NO_ENDPOINT.0;

/// The shared maps, open.
#[derive(Debug)]
pub struct Maps {
    addrs: Map<types::nk_addr_key, types::nk_addr>,
    denied: Map<u32, u32>,
    dropped: Map<u32, types::nk_dropped>,
    endpoints: Map<u32, types::nk_endpoint>,
    flows: Map<u32, u32>,
    host_addrs: Map<types::nk_addr_key, u32>,
    ifindexes: Map<u32, u32>,
    learned: Map<u32, u32>,
    locals: Map<types::nk_local_key, types::nk_addr_key>,
    names: Map<u32, u32>,
    nats: Map<u32, u32>,
    passed: Map<u32, types::nk_passed>,
    ports: Map<u32, u32>,
    policy: Map<u32, types::nk_policy_word>,
    published: Map<types::nk_published_key, types::nk_published>,
    published_bits: Map<u32, u32>,
    queries: Map<u32, u32>,
    refused: Map<u32, u32>,
    resolved: Map<u32, u32>,
    rules: Map<u32, u32>,
    settings: Map<u32, types::nk_settings>,
    uplinks: Map<u32, types::nk_uplink>,
}

fn encode_word(word: PolicyWord) -> u64 {
    u64::from(word.slot) << 32 | u64::from(word.epoch)
}

fn decode_word(word: u64) -> PolicyWord {
    let [a, b, c, d, e, f, g, h] = word.to_le_bytes();
    PolicyWord {
        epoch: u32::from_le_bytes([a, b, c, d]),
        slot: u32::from_le_bytes([e, f, g, h]),
    }
}

impl Maps {
    /// Opens the maps pinned in a directory.
    ///
    /// # Errors
    /// [`Kind::Kernel`] when one is missing, [`Kind::Internal`] when one has another layout.
    pub fn open(dir: &Path) -> Result<Self> {
        Ok(Self {
            addrs: Map::open(&dir.join("nk_addrs"))?,
            denied: Map::open(&dir.join("nk_denied"))?,
            dropped: Map::open(&dir.join("nk_dropped"))?,
            endpoints: Map::open(&dir.join("nk_endpoints"))?,
            flows: Map::open(&dir.join("nk_flows"))?,
            host_addrs: Map::open(&dir.join("nk_host_addrs"))?,
            ifindexes: Map::open(&dir.join("nk_ifindexes"))?,
            learned: Map::open(&dir.join("nk_learned"))?,
            locals: Map::open(&dir.join("nk_locals"))?,
            names: Map::open(&dir.join("nk_names"))?,
            nats: Map::open(&dir.join("nk_nats"))?,
            passed: Map::open(&dir.join("nk_passed"))?,
            ports: Map::open(&dir.join("nk_ports"))?,
            policy: Map::open(&dir.join("nk_policy"))?,
            published: Map::open(&dir.join("nk_published"))?,
            published_bits: Map::open(&dir.join("nk_published_bits"))?,
            queries: Map::open(&dir.join("nk_queries"))?,
            refused: Map::open(&dir.join("nk_refused"))?,
            resolved: Map::open(&dir.join("nk_resolved"))?,
            rules: Map::open(&dir.join("nk_rules"))?,
            settings: Map::open(&dir.join("nk_settings"))?,
            uplinks: Map::open(&dir.join("nk_uplinks"))?,
        })
    }

    /// Fills what every generation on this host shares; once, before any program is attached.
    ///
    /// # Errors
    /// When the kernel gives no random numbers or takes no entries.
    pub(super) fn initialise(&self, host: NetnsCookie) -> Result<()> {
        let mark_judged = random()?;
        let mut mark_reply = random()?;
        while mark_reply == mark_judged {
            mark_reply = random()?;
        }
        let settings = types::nk_settings {
            mark_judged,
            mark_reply,
            host_netns: host.0,
            name_seed: u64::from(random()?) << 32 | u64::from(random()?),
            ..Default::default()
        };
        self.settings
            .update(&0, &settings)
            .context("write nk_settings")?;
        self.dropped
            .zero_cpus(&NO_ENDPOINT)
            .context("write nk_dropped")
    }

    /// The settings in effect.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn settings(&self) -> Result<types::nk_settings> {
        Ok(self
            .settings
            .lookup(&0)
            .context("read nk_settings")?
            .unwrap_or_default())
    }

    /// Names the uplink for multicast; 0 for none.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_multicast_uplink(&self, ifindex: u32) -> Result<()> {
        let mut settings = self.settings()?;
        if settings.multicast_ifindex == ifindex {
            return Ok(());
        }
        settings.multicast_ifindex = ifindex;
        self.settings
            .update(&0, &settings)
            .context("write nk_settings")
    }

    /// Fills an endpoint's maps; the policy word last, so that no packet meets half a policy.
    ///
    /// # Errors
    /// When the kernel refuses; what was written stays, see [`Maps::clear`].
    pub fn fill(&self, spec: &MapSpec, primary_ifindex: u32, peer_ifindex: u32) -> Result<()> {
        let id = checked(spec.id)?;
        let endpoint = types::nk_endpoint {
            primary_ifindex,
            peer_ifindex,
            flags: endpoint_flags(spec),
            mtu_bytes: spec.mtu_bytes,
            nat_port: spec.nat.map_or(0, |n| n.share.first),
            nat_ports: spec.nat.map_or(0, |n| n.share.count),
            rate_mib_ns: spec.budget.map_or(0, |b| b.mib_ns),
            rate_burst_ns: spec.budget.map_or(0, |b| b.burst_ns),
            ..Default::default()
        };
        self.zero_counters(id)?;
        self.endpoints
            .update(&id, &endpoint)
            .context("write nk_endpoints")?;
        self.ifindexes
            .update(&primary_ifindex, &id)
            .context("write nk_ifindexes")?;
        thread::scope(|scope| {
            let flows = scope.spawn(|| self.fill_flows(id, spec.flows_out, spec.flows_in));
            let denied = scope.spawn(|| self.fill_denied(id, spec.denied));
            let nat = spec
                .nat
                .map(|nat| scope.spawn(move || self.fill_nat(id, nat)));
            let names = spec
                .names
                .as_ref()
                .map(|_| scope.spawn(|| self.fill_name_tables(spec)));
            let rules = self.fill_rules(spec.slot, &spec.policy);
            joined(flows.join())?;
            joined(denied.join())?;
            names.map_or_else(|| self.fill_name_tables(spec), |names| joined(names.join()))?;
            nat.map_or(Ok(()), |nat| joined(nat.join()))?;
            rules
        })?;
        self.switch(
            spec.id,
            PolicyWord {
                epoch: spec.epoch,
                slot: spec.slot,
            },
        )
    }

    fn fill_name_tables(&self, spec: &MapSpec) -> Result<()> {
        if spec.names.is_some() {
            self.ensure_name_tables(spec.id, spec.learned)?;
        }
        self.fill_names(spec.slot, spec.names.as_deref())
    }

    /// Fills a slot of `nk_rules`: one that is not in force, or packets would meet half a policy.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn fill_rules(&self, slot: u32, policy: &[TrieEntry]) -> Result<()> {
        let max = u32::try_from(policy.len().max(1))
            .map_err(|_| Error::new(Kind::Internal, "more rules than a map can hold"))?;
        let trie = Map::<types::nk_rule_key, types::nk_rule>::create(
            "nk_rule",
            raw::BPF_MAP_TYPE_LPM_TRIE,
            max,
            raw::BPF_F_NO_PREALLOC,
        )?;
        let (keys, values): (Vec<_>, Vec<_>) = policy.iter().map(encode_rule).unzip();
        trie.update_many(&keys, &values)
            .with_context(|| format!("write {max} rules"))?;
        self.rules
            .update(&slot, &trie.as_value())
            .context("write nk_rules")
    }

    /// The one store that puts a policy into effect: through the map's memory, since an update
    /// by system call copies byte by byte.
    ///
    /// # Errors
    /// When the map cannot be mapped.
    pub fn switch(&self, id: EndpointId, word: PolicyWord) -> Result<()> {
        let id = checked(id)?;
        let memory = PolicyMemory::map(&self.policy)?;
        memory.word(id).store(encode_word(word), Ordering::Release);
        Ok(())
    }

    /// The policy in effect.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn policy(&self, id: EndpointId) -> Result<PolicyWord> {
        let found = self
            .policy
            .lookup(&checked(id)?)
            .context("read nk_policy")?;
        Ok(found.map_or_else(PolicyWord::default, |p| decode_word(p.word)))
    }

    /// Takes away what [`Maps::fill`] wrote; the policy first, so that everything is dropped
    /// while the rest goes.
    ///
    /// # Errors
    /// The first refusal; the rest is attempted all the same.
    pub fn clear(&self, id: EndpointId) -> Result<()> {
        let number = checked(id)?;
        let mut first = self.switch(id, PolicyWord::default());
        let mut note = |result: Result<()>| {
            if first.is_ok() {
                first = result;
            }
        };
        note(self.clear_ports(number));
        // Outer maps take no batches of deletions; each waits, so they wait together.
        let tables = self.tables(number);
        thread::scope(|scope| {
            let mut deletions = Vec::new();
            for (name, map, key) in &tables {
                let what = move || format!("clear {name}");
                match map.lookup(key).with_context(what) {
                    Ok(None) => {}
                    Ok(Some(_)) => deletions
                        .push(scope.spawn(move || map.delete(key).map(drop).with_context(what))),
                    Err(e) => note(Err(e)),
                }
            }
            for deletion in deletions {
                note(joined(deletion.join()));
            }
        });
        note(self.clear_endpoint(number));
        note(
            self.dropped
                .delete(&number)
                .map(drop)
                .context("clear nk_dropped"),
        );
        first
    }

    fn clear_endpoint(&self, id: u32) -> Result<()> {
        let old = self
            .endpoints
            .lookup(&id)
            .context("read nk_endpoints")?
            .unwrap_or_default();
        let owner = self
            .ifindexes
            .lookup(&old.primary_ifindex)
            .context("read nk_ifindexes")?;
        if owner == Some(id) {
            self.ifindexes
                .delete(&old.primary_ifindex)
                .context("clear nk_ifindexes")?;
        }
        let none = types::nk_endpoint::default();
        self.endpoints
            .update(&id, &none)
            .context("clear nk_endpoints")
    }

    /// Enters addresses: from here on packets are delivered.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when another endpoint has one of them.
    pub fn publish(
        &self,
        id: EndpointId,
        addresses: &[(IpAddr, Reach)],
        rates: Rates,
        primary_ifindex: u32,
        peer_ifindex: u32,
    ) -> Result<()> {
        let endpoint_id = checked(id)?;
        for (index, (address, reach)) in addresses.iter().enumerate() {
            let local_index = u8::try_from(index)
                .map_err(|_| Error::new(Kind::Internal, "more than 256 addresses"))?;
            let key = types::nk_addr_key {
                addr: mapped(*address),
            };
            let there = self.addrs.lookup(&key).context("read nk_addrs")?;
            if there.is_some_and(|a| a.endpoint_id != endpoint_id) {
                let text = format!("{address} belongs to another endpoint");
                return Err(Error::new(Kind::Conflict, text));
            }
            let value = types::nk_addr {
                endpoint_id,
                primary_ifindex,
                peer_ifindex,
                local_index,
                flags: address_flags(*reach, rates),
                ..Default::default()
            };
            self.locals
                .update(&local_key(endpoint_id, local_index), &key)
                .context("write nk_locals")?;
            self.addrs.update(&key, &value).context("write nk_addrs")?;
        }
        Ok(())
    }

    /// Removes addresses that are this endpoint's.
    ///
    /// # Errors
    /// The first refusal; the rest is attempted all the same.
    pub fn retract(&self, id: EndpointId, addresses: &[IpAddr]) -> Result<()> {
        let mut first = Ok(());
        for address in addresses {
            let key = types::nk_addr_key {
                addr: mapped(*address),
            };
            let removed = match self.addrs.lookup(&key) {
                Ok(Some(found)) if found.endpoint_id == id.0 => self.addrs.delete(&key).map(drop),
                Ok(_) => Ok(()),
                Err(e) => Err(e),
            };
            if first.is_ok() {
                first = removed;
            }
        }
        first
            .context("clear nk_addrs")
            .and(self.clear_locals(id, addresses.len()))
    }

    fn clear_locals(&self, id: EndpointId, count: usize) -> Result<()> {
        let indexes = u8::try_from(count).map_or(0..=u8::MAX, |n| 0..=n);
        for index in indexes {
            let key = local_key(id.0, index);
            self.locals.delete(&key).context("clear nk_locals")?;
        }
        Ok(())
    }

    /// Makes a device an uplink, or refreshes what is known of it.
    ///
    /// # Errors
    /// When the kernel refuses, such as with more than `NK_MAX_UPLINKS`.
    pub fn add_uplink(&self, uplink: &Uplink) -> Result<()> {
        let value = types::nk_uplink {
            mac: uplink.mac,
            mtu_bytes: uplink.mtu_bytes,
            ..Default::default()
        };
        self.uplinks
            .update(&uplink.ifindex, &value)
            .context("write nk_uplinks")
    }

    /// A device is no uplink any more.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove_uplink(&self, ifindex: u32) -> Result<()> {
        self.uplinks
            .delete(&ifindex)
            .map(drop)
            .context("clear nk_uplinks")
    }
}

fn endpoint_flags(spec: &MapSpec) -> u32 {
    use types::nk_endpoint_flags as flags;
    let all = [
        (spec.guard, flags::NK_ENDPOINT_GUARD),
        (spec.rate_ingress, flags::NK_ENDPOINT_RATE_INGRESS),
        (spec.nxdomain, flags::NK_ENDPOINT_NXDOMAIN),
    ];
    all.iter().filter(|(is, _)| *is).map(|(_, bit)| bit.0).sum()
}

fn address_flags(reach: Reach, rates: Rates) -> u8 {
    use types::nk_addr_flags as flags;
    let all = [
        (reach == Reach::Masquerade, flags::NK_ADDR_MASQUERADE),
        (rates.egress.is_some(), flags::NK_ADDR_RATE_EGRESS),
        (rates.ingress.is_some(), flags::NK_ADDR_RATE_INGRESS),
    ];
    let bits: u32 = all.iter().filter(|(is, _)| *is).map(|(_, bit)| bit.0).sum();
    // All flags fit: the field in bpf/abi.h has 8 bits.
    u8::try_from(bits).unwrap_or(u8::MAX)
}

fn local_key(endpoint_id: u32, local_index: u8) -> types::nk_local_key {
    types::nk_local_key {
        endpoint_id,
        local_index: local_index.into(),
    }
}

/// An entry as the programs read it.
#[must_use]
pub fn encode_rule(entry: &TrieEntry) -> (types::nk_rule_key, types::nk_rule) {
    let key = types::nk_rule_key {
        prefixlen: u32::from(entry.prefix_bits),
        table: entry.table.to_be(),
        data: entry.data,
    };
    (
        key,
        types::nk_rule {
            id: entry.id,
            verdict: entry.verdict,
        },
    )
}

/// Deletes an element of an outer map, without waiting for a grace period if there is none.
fn remove(outer: &Map<u32, u32>, key: u32) -> Answer<()> {
    match outer.lookup(&key)? {
        Some(_) => outer.delete(&key).map(drop),
        None => Ok(()),
    }
}

/// The index, if it is one: the maps are as long as it is allowed to be.
fn checked(id: EndpointId) -> Result<u32> {
    if id.0 < MAX_ENDPOINTS {
        return Ok(id.0);
    }
    Err(Error::new(
        Kind::Internal,
        format!("endpoint id {id} is not below {MAX_ENDPOINTS}"),
    ))
}

/// Nonzero and not to be guessed by a container.
fn random() -> Result<u32> {
    loop {
        let mut bytes = [0u8; 4];
        // SAFETY: the buffer is 4 bytes long and ours.
        let got = unsafe { nix::libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        if Errno::result(got).context("getrandom")? == 4 && bytes != [0; 4] {
            return Ok(u32::from_ne_bytes(bytes));
        }
    }
}

fn joined<T>(result: thread::Result<T>) -> T {
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// `nk_policy`'s values, mapped for as long as this lives.
struct PolicyMemory {
    base: std::ptr::NonNull<std::ffi::c_void>,
}

impl PolicyMemory {
    const BYTES: NonZeroUsize =
        NonZeroUsize::new(MAX_ENDPOINTS as usize * POLICY_WORD_BYTES).unwrap();

    fn map(policy: &Map<u32, types::nk_policy_word>) -> Result<Self> {
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice; array_map_mmap(),
        // kernel/bpf/arraymap.c, refuses a length beyond the map's.
        let base = unsafe { mmap(None, Self::BYTES, access, MapFlags::MAP_SHARED, policy, 0) };
        Ok(Self {
            base: base.context("map nk_policy")?,
        })
    }

    /// `id` is below `MAX_ENDPOINTS` ([`checked`]).
    fn word(&self, id: u32) -> &AtomicU64 {
        assert!(id < MAX_ENDPOINTS);
        // SAFETY: inside the mapping by the assertion; a page is aligned to 8 bytes and so is each
        // word in it; it stays mapped while `self` is borrowed; all writers are atomic.
        unsafe { AtomicU64::from_ptr(self.base.as_ptr().cast::<u64>().add(id as usize)) }
    }
}

impl Drop for PolicyMemory {
    fn drop(&mut self) {
        // SAFETY: what `map` mapped, whole, and no reference outlives `self`.
        if let Err(e) = unsafe { munmap(self.base, Self::BYTES.get()) } {
            log::debug!("unmap nk_policy: {e}");
        }
    }
}

#[cfg(test)]
mod tests;
