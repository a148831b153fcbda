//! Links: programs on an endpoint's pair and on uplinks, pinned so that they outlive the hook.
//!
//! Both netkit hooks are reached through the primary's ifindex, in the host's namespace. A link
//! whose device is gone stays as a pin without effect; whoever meets one unpins it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::thread;

use libbpf_sys as raw;
use nix::errno::Errno;

use super::load::{Program, open_program};
use super::{cgroup, sys};
use crate::error::{Context, ErrorList, Result};
use crate::kernel::bpffs::{self, Pins};
use crate::types::id::NetnsCookie;

/// An endpoint's links: pin, program, hook.
const ENDPOINT_LINKS: [(&str, Program, u32); 3] = [
    (
        "from_container",
        Program::FromContainer,
        raw::BPF_NETKIT_PEER,
    ),
    (
        "to_container",
        Program::ToContainer,
        raw::BPF_NETKIT_PRIMARY,
    ),
    ("guard", Program::Guard, raw::BPF_TCX_INGRESS),
];

/// In front of other programs on the same hook: an endpoint's packets are ours to judge and never
/// theirs to see; all others pass on unseen.
const IN_FRONT: u32 = raw::BPF_F_BEFORE;

/// Attaches the programs of a generation to a new pair and pins their links. Links that a crash
/// left for the namespace are unpinned first.
///
/// # Errors
/// When the kernel refuses one; the others may be attached: see [`detach_endpoint`].
pub fn attach_endpoint(
    pins: &Pins,
    generation: &str,
    cookie: NetnsCookie,
    primary_ifindex: u32,
    guard: bool,
) -> Result<()> {
    let dir = pins.endpoint(cookie);
    bpffs::remove_dir(&dir)?;
    bpffs::ensure_dir(&dir)?;
    let one = |(name, program, hook): &(&str, Program, u32)| {
        let flags = if *hook == raw::BPF_TCX_INGRESS {
            IN_FRONT
        } else {
            0
        };
        let path = dir.join(name);
        let program = open_program(pins, generation, *program)?;
        attach(program.as_fd(), primary_ifindex, *hook, flags, &path)
            .with_context(|| format!("attach {name} to device {primary_ifindex}"))
    };
    let (first, others) = ENDPOINT_LINKS[..if guard { 3 } else { 2 }].split_at(1);
    thread::scope(|scope| {
        // Each waits for a grace period of its own.
        let attaching: Vec<_> = others.iter().map(|l| scope.spawn(|| one(l))).collect();
        let mut errors = ErrorList::new();
        for link in first {
            errors.keep(one(link));
        }
        for thread in attaching {
            errors.keep(
                thread
                    .join()
                    .unwrap_or_else(|p| std::panic::resume_unwind(p)),
            );
        }
        errors.into_result(())
    })
}

/// Unpins an endpoint's links, which detaches them; then the policy of the pair, blackhole,
/// counts. Gone already is success.
///
/// # Errors
/// When a pin cannot be removed.
pub fn detach_endpoint(pins: &Pins, cookie: NetnsCookie) -> Result<()> {
    bpffs::remove_dir(&pins.endpoint(cookie))
}

/// Names of an endpoint's links that are pinned and whose device lives.
///
/// # Errors
/// When a pin cannot be looked at.
pub fn attached(pins: &Pins, cookie: NetnsCookie) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for (name, _, _) in ENDPOINT_LINKS {
        if let Some(link) = open_link(&pins.endpoint(cookie).join(name))? {
            let info =
                sys::link_info(link.as_fd()).with_context(|| format!("look at link {name}"))?;
            if info.ifindex != 0 {
                names.push(name.to_owned());
            }
        }
    }
    Ok(names)
}

/// Makes sure that from_wire of a generation runs on an uplink. Says whether it was put there
/// now. Callers hold the generation lock.
///
/// # Errors
/// When the kernel refuses.
pub fn ensure_uplink(pins: &Pins, generation: &str, ifindex: u32) -> Result<bool> {
    let path = pins.uplinks().join(ifindex.to_string());
    let program = open_program(pins, generation, Program::FromWire)?;
    if let Some(link) = open_link(&path)? {
        if runs(link.as_fd(), program.as_fd(), ifindex)? {
            return Ok(false);
        }
        bpffs::unpin(&path)?;
    }
    bpffs::ensure_dir(&pins.uplinks())?;
    attach(
        program.as_fd(),
        ifindex,
        raw::BPF_TCX_INGRESS,
        IN_FRONT,
        &path,
    )?;
    Ok(true)
}

/// Whether a link of an uplink runs the program, after swapping it in if need be. False for a
/// link whose device is gone, or was another one of the same index.
fn runs(link: BorrowedFd<'_>, program: BorrowedFd<'_>, ifindex: u32) -> Result<bool> {
    let info = sys::link_info(link).context("look at link")?;
    if info.ifindex != ifindex {
        return Ok(false);
    }
    if info.program_id == sys::program_id(program).context("look at program")? {
        return Ok(true);
    }
    replace(link, program)
}

/// Swaps the program of a link; false where its device is gone.
fn replace(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<bool> {
    match sys::link_update(link, program) {
        Ok(()) => Ok(true),
        Err(Errno::ENOLINK) => Ok(false),
        Err(e) => Err(e).context("replace program of link"),
    }
}

/// Takes from_wire off an uplink, at once: unpinning alone would leave it to a later moment, and a
/// new attach before that would find the same program there. Gone already is success.
///
/// # Errors
/// When the kernel refuses.
pub fn remove_uplink(pins: &Pins, ifindex: u32) -> Result<()> {
    let path = pins.uplinks().join(ifindex.to_string());
    if let Some(link) = open_link(&path)? {
        match sys::link_detach(link.as_fd()) {
            Ok(()) | Err(Errno::ENOLINK) => {}
            Err(e) => {
                return Err(e).with_context(|| format!("detach from_wire from device {ifindex}"));
            }
        }
    }
    bpffs::unpin(&path)
}

/// Uplinks with a pin, and whether their device lives and has the program.
///
/// # Errors
/// When a pin cannot be looked at.
pub fn uplinks(pins: &Pins) -> Result<Vec<(u32, bool)>> {
    let mut found = Vec::new();
    for name in bpffs::list(&pins.uplinks())? {
        let Ok(ifindex) = name.parse() else { continue };
        if let Some(link) = open_link(&pins.uplinks().join(&name))? {
            let info =
                sys::link_info(link.as_fd()).with_context(|| format!("look at uplink {name}"))?;
            found.push((ifindex, info.ifindex == ifindex));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// What [`replace_all`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replaced {
    /// Links that run another program now.
    pub updated: usize,
    /// Pins of links whose device is gone, removed.
    pub unpinned: usize,
}

/// Makes every link run the programs of a generation, for an upgrade: link by link, with no
/// packet unseen. Links without a device are unpinned. Never stops.
pub fn replace_all(pins: &Pins, generation: &str, errors: &mut ErrorList) -> Replaced {
    let mut links = Vec::new();
    for cookie in errors.keep(pins.endpoints()).unwrap_or_default() {
        for (name, program, _) in ENDPOINT_LINKS {
            links.push((pins.endpoint(cookie).join(name), program));
        }
    }
    let uplinks = errors.keep(bpffs::list(&pins.uplinks()));
    for name in uplinks.unwrap_or_default() {
        links.push((pins.uplinks().join(name), Program::FromWire));
    }
    links.extend(cgroup::links(pins));
    let mut replaced = Replaced::default();
    for (path, program) in links {
        let done = replace_pinned(pins, generation, program, &path, &mut replaced);
        errors.keep(done.with_context(|| format!("update {}", path.display())));
    }
    replaced
}

fn replace_pinned(
    pins: &Pins,
    generation: &str,
    program: Program,
    path: &Path,
    replaced: &mut Replaced,
) -> Result<()> {
    let Some(link) = open_link(path)? else {
        return Ok(());
    };
    let program = open_program(pins, generation, program)?;
    let wanted = sys::program_id(program.as_fd()).context("look at program")?;
    let info = sys::link_info(link.as_fd()).context("look at link")?;
    if info.ifindex == 0 {
        replaced.unpinned += 1;
        return bpffs::unpin(path);
    }
    if info.program_id == wanted {
        return Ok(());
    }
    if replace(link.as_fd(), program.as_fd())? {
        replaced.updated += 1;
        return Ok(());
    }
    replaced.unpinned += 1;
    bpffs::unpin(path)
}

fn attach(program: BorrowedFd<'_>, ifindex: u32, hook: u32, flags: u32, pin: &Path) -> Result<()> {
    let link = sys::link_create(program, ifindex, hook, flags).context("create link")?;
    sys::obj_pin(link.as_fd(), pin).with_context(|| format!("pin {}", pin.display()))
}

pub(super) fn open_link(path: &Path) -> Result<Option<OwnedFd>> {
    match sys::obj_get(path) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::ENOENT) => Ok(None),
        Err(e) => Err(e).with_context(|| format!("open link {}", path.display())),
    }
}
