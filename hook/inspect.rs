//! Read-only views for list, show, stats, doctor and gc. Can neither write state nor the kernel:
//! it opens no [`crate::state::store::Store`] and runs no step.

use crate::error::Result;
use crate::kernel::bpf::maps::Maps;
use crate::kernel::bpf::{attach, load};
use crate::kernel::bpffs::Pins;
use crate::kernel::netlink::{Netlink, link};
use crate::kernel::process;
use crate::state::Paths;
use crate::state::store::View;
use crate::types::denied::Denied;
use crate::types::id::{EndpointId, NetnsCookie};
use crate::types::learned::Learned;
use crate::types::record::{EndpointRecord, Phase};

pub use crate::kernel::bpf::maps::{Counters, Traffic};
pub use crate::plan::revise::PolicyWord;

/// Whether an endpoint is as its record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointView {
    /// What is written.
    pub record: EndpointRecord,
    /// Members whose init process runs, by position in `record.members`.
    pub alive: Vec<bool>,
    /// The primary exists under the recorded name and index.
    pub has_primary: bool,
    /// Links that are pinned and still attached: "from_container", "to_container", "guard".
    pub attached: Vec<String>,
    /// Policy in effect; epoch 0 = none, all is dropped.
    pub policy: PolicyWord,
}

impl EndpointView {
    /// A container runs in it, and something that the record promises is missing: the programs when
    /// their pins went with an unmounted bpffs. Nothing passes then.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.record.phase == Phase::Active && self.alive.contains(&true) && !self.is_whole()
    }

    /// Nothing that the record promises is missing.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let links = if self.record.guard { 3 } else { 2 };
        self.has_primary && self.attached.len() == links && self.policy.epoch == self.record.epoch
    }
}

/// An uplink with our program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UplinkView {
    /// Index on the host.
    pub ifindex: u32,
    /// Its device exists and the program is attached.
    pub attached: bool,
}

/// What is pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datapath {
    /// Generation this program would attach.
    pub current: String,
    /// Generations that are loaded.
    pub loaded: Vec<String>,
    /// Uplinks.
    pub uplinks: Vec<UplinkView>,
    /// Namespaces with pinned links.
    pub pinned: Vec<NetnsCookie>,
}

/// The shared maps; `None` while no programs are loaded.
fn maps(paths: &Paths) -> Result<Option<Maps>> {
    let pins = Pins::new(&paths.bpffs_dir);
    if load::has_maps(&pins) {
        load::open_maps(&pins).map(Some)
    } else {
        Ok(None)
    }
}

/// All endpoints of this boot.
///
/// # Errors
/// When state or kernel cannot be read.
pub fn endpoints(paths: &Paths, boot_id: &str) -> Result<Vec<EndpointView>> {
    let records = View::new(paths).records(boot_id)?;
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let pins = Pins::new(&paths.bpffs_dir);
    let maps = maps(paths)?;
    let links = link::list(&Netlink::open()?)?;
    records
        .into_iter()
        .map(|record| {
            let is_primary = |l: &crate::facts::Link| {
                l.name == record.primary.as_str() && l.ifindex == record.primary_ifindex
            };
            Ok(EndpointView {
                alive: record
                    .members
                    .iter()
                    .map(|m| !process::is_dead(m.pid, m.start_time))
                    .collect(),
                has_primary: links.iter().any(is_primary),
                attached: attach::attached(&pins, record.cookie)?,
                policy: match &maps {
                    Some(maps) => maps.policy(record.id)?,
                    None => PolicyWord::default(),
                },
                record,
            })
        })
        .collect()
}

/// Counters of an endpoint, or with `id` `None` of what belongs to no endpoint. There are none while
/// no programs are loaded, or of an endpoint that lost its place in the maps.
///
/// # Errors
/// When the maps cannot be read.
pub fn counters(paths: &Paths, id: Option<EndpointId>) -> Result<Option<Counters>> {
    maps(paths)?.map_or(Ok(None), |maps| maps.counters(id))
}

/// What an endpoint's tables take of the kernel's memory, bytes; 0 while no programs are loaded.
///
/// # Errors
/// When the maps cannot be read.
pub fn memory_bytes(paths: &Paths, id: EndpointId) -> Result<u64> {
    maps(paths)?.map_or(Ok(0), |maps| maps.memory_bytes(id))
}

/// What an endpoint's programs refused, on record; nothing while none are loaded.
///
/// # Errors
/// When the maps cannot be read.
pub fn denied(paths: &Paths, id: EndpointId) -> Result<Vec<Denied>> {
    maps(paths)?.map_or(Ok(Vec::new()), |maps| maps.denied(id))
}

/// Addresses that an endpoint learned by name; nothing while no programs are loaded.
///
/// # Errors
/// When the maps cannot be read.
pub fn learned(paths: &Paths, id: EndpointId) -> Result<Vec<Learned>> {
    maps(paths)?.map_or(Ok(Vec::new()), |maps| maps.learned(id))
}

/// Programs and links.
///
/// # Errors
/// When bpffs cannot be listed.
pub fn datapath(paths: &Paths) -> Result<Datapath> {
    let pins = Pins::new(&paths.bpffs_dir);
    let uplinks = attach::uplinks(&pins)?;
    Ok(Datapath {
        current: load::CURRENT.to_owned(),
        loaded: pins.generations()?,
        uplinks: uplinks
            .into_iter()
            .map(|(ifindex, attached)| UplinkView { ifindex, attached })
            .collect(),
        pinned: pins.endpoints()?,
    })
}
