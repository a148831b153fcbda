//! What concerns the host as a whole and no single endpoint: an upgrade, uplinks that came or
//! went, the removal of everything. All of it under the generation lock.

use super::bpf::{attach, cgroup, load};
use super::bpffs::{self, Pins};
use super::host::LOCK_PATIENCE;
use super::netlink::{Netlink, addr};
use super::reserved_ports;
use crate::error::{ErrorList, Result};
use crate::plan::reconcile::Uplinks;
use crate::plan::step::Uplink;
use crate::state::Paths;
use crate::state::lock::{Deadline, Lock};
use crate::state::store::Store;

/// What [`reconcile`] changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Links whose program was replaced by this build's.
    pub replaced: usize,
    /// Pins of links whose device is gone.
    pub unpinned: usize,
    /// Uplinks that the program was put on, by name.
    pub attached: Vec<String>,
    /// Uplinks that were given up, by index.
    pub detached: Vec<u32>,
    /// Generations of other builds that were unloaded.
    pub unloaded: Vec<String>,
}

/// Puts the programs of this build on every link, then on the uplinks there are now, and unpins
/// what has no device any more. Link by link with `BPF_LINK_UPDATE`, so each packet meets the old
/// program or the new one, and both know all flows.
///
/// Where nothing is loaded, nothing is done. `keep_others`: a hook of another build may be at
/// work, so its generation stays.
///
/// Never stops: what could not be done is in the list, and what stood before goes on.
pub fn reconcile(paths: &Paths, uplinks: &Uplinks, keep_others: bool) -> (Changes, ErrorList) {
    let (mut changes, mut errors) = (Changes::default(), ErrorList::new());
    let done = reconcile_locked(paths, uplinks, keep_others, &mut changes, &mut errors);
    errors.keep(done);
    (changes, errors)
}

fn reconcile_locked(
    paths: &Paths,
    uplinks: &Uplinks,
    keep_others: bool,
    changes: &mut Changes,
    errors: &mut ErrorList,
) -> Result<()> {
    let pins = Pins::new(&paths.bpffs_dir);
    if !pins.base().exists() {
        return Ok(());
    }
    let _lock = lock(paths)?;
    if load::has_other_abi(&pins)? {
        return Err(load::other_abi());
    }
    let before = errors.len();
    if !pins.endpoints()?.is_empty() {
        if !load::is_loaded(&pins) {
            load::load(&pins)?;
        }
        let replaced = attach::replace_all(&pins, load::CURRENT, errors);
        (changes.replaced, changes.unpinned) = (replaced.updated, replaced.unpinned);
        errors.keep(attach_uplinks(&pins, &uplinks.attach, changes));
        if pins.cgroup().exists() {
            errors.keep(refresh_addresses(&pins));
        }
    }
    for ifindex in &uplinks.detach {
        let gone = remove_uplink(&pins, *ifindex);
        if errors.keep(gone).is_some() {
            changes.detached.push(*ifindex);
        }
    }
    // While a link could not be updated, its generation is somebody's.
    if errors.len() == before && !keep_others {
        for old in pins.generations()? {
            if old != load::CURRENT && errors.keep(load::unload(&pins, &old)).is_some() {
                changes.unloaded.push(old);
            }
        }
    }
    Ok(())
}

fn attach_uplinks(pins: &Pins, uplinks: &[Uplink], changes: &mut Changes) -> Result<()> {
    let maps = load::open_maps(pins)?;
    for uplink in uplinks {
        maps.add_uplink(uplink)?;
        if attach::ensure_uplink(pins, load::CURRENT, uplink.ifindex)? {
            changes.attached.push(uplink.name.clone());
        }
    }
    match uplinks.first() {
        Some(first) => maps.set_multicast_uplink(first.ifindex),
        None => Ok(()),
    }
}

/// By which the host's own processes may mean a published port.
fn refresh_addresses(pins: &Pins) -> Result<()> {
    let own = addr::own(&Netlink::open()?)?;
    load::open_maps(pins)?.set_host_addresses(&own)
}

fn remove_uplink(pins: &Pins, ifindex: u32) -> Result<()> {
    attach::remove_uplink(pins, ifindex)?;
    if load::has_maps(pins) {
        load::open_maps(pins)?.remove_uplink(ifindex)?;
    }
    Ok(())
}

/// Takes everything of ours off the kernel but pairs and their routes, which go with
/// [`crate::plan::step::Undo::DeletePair`]: links, programs, maps, of all generations and ABIs.
/// Never stops.
pub fn unload(paths: &Paths, boot_id: &str) -> ErrorList {
    let mut errors = ErrorList::new();
    if let Some(_lock) = errors.keep(lock(paths)) {
        errors.keep(Store::open(paths).and_then(|store| reserved_ports::release(&store, boot_id)));
        for error in remove_pins(&Pins::new(&paths.bpffs_dir)).iter() {
            errors.push(error.clone());
        }
    }
    errors
}

/// As [`unload`], for who holds the lock.
pub(super) fn remove_pins(pins: &Pins) -> ErrorList {
    let mut errors = ErrorList::new();
    for (ifindex, _) in errors.keep(attach::uplinks(pins)).unwrap_or_default() {
        errors.keep(attach::remove_uplink(pins, ifindex));
    }
    errors.keep(cgroup::remove(pins));
    errors.keep(bpffs::remove_dir(pins.base()));
    errors
}

fn lock(paths: &Paths) -> Result<Lock> {
    Store::open(paths)?.lock_generation(&Deadline::after(LOCK_PATIENCE))
}
