//! Generations: the programs of one build, verified once, pinned, and opened by every later start.
//!
//! Maps belong to the ABI, not to the generation: a new build takes over the pinned ones, so
//! running endpoints keep their flows. A directory gets its final name only when all is in it, so
//! a killed loader leaves nothing that looks whole. Callers hold the generation lock.

use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use libbpf_rs::{MapCore, PrintLevel};

use super::maps::{Maps, SHARED};
use super::skel::{DatapathSkel, DatapathSkelBuilder, OpenDatapathSkel, types};
use super::sys::{self, Shape};
use crate::error::{Context, Error, Kind, Result};
use crate::kernel::bpffs::{self, Pins};
use crate::kernel::netns;

/// Layout of the shared maps, `NK_ABI_VERSION`.
pub const ABI_VERSION: u32 = types::nk_limits::NK_ABI_VERSION.0;

/// Directory of the generation this program brings along; build.rs hashes object and version.
pub const CURRENT: &str = concat!("gen-", env!("OCI_NETKIT_OBJECT"));

/// Programs by their name in bpf/datapath.bpf.c, which is the pin's name too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// netkit peer.
    FromContainer,
    /// netkit primary.
    ToContainer,
    /// tcx ingress of uplinks.
    FromWire,
    /// tcx ingress of the primary.
    Guard,
    /// The root cgroup, as the ones below: `connect(2)`.
    Connect4,
    /// Of IPv6 sockets.
    Connect6,
    /// `sendmsg(2)` of UDP that is not connected.
    Sendmsg4,
    /// Of IPv6 sockets.
    Sendmsg6,
    /// `recvmsg(2)` of UDP.
    Recvmsg4,
    /// Of IPv6 sockets.
    Recvmsg6,
    /// `getpeername(2)`.
    Getpeername4,
    /// Of IPv6 sockets.
    Getpeername6,
}

impl Program {
    const ALL: [Self; 12] = [
        Self::FromContainer,
        Self::ToContainer,
        Self::FromWire,
        Self::Guard,
        Self::Connect4,
        Self::Connect6,
        Self::Sendmsg4,
        Self::Sendmsg6,
        Self::Recvmsg4,
        Self::Recvmsg6,
        Self::Getpeername4,
        Self::Getpeername6,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::FromContainer => "nk_from_container",
            Self::ToContainer => "nk_to_container",
            Self::FromWire => "nk_from_wire",
            Self::Guard => "nk_guard",
            Self::Connect4 => "nk_connect4",
            Self::Connect6 => "nk_connect6",
            Self::Sendmsg4 => "nk_sendmsg4",
            Self::Sendmsg6 => "nk_sendmsg6",
            Self::Recvmsg4 => "nk_recvmsg4",
            Self::Recvmsg6 => "nk_recvmsg6",
            Self::Getpeername4 => "nk_getpeername4",
            Self::Getpeername6 => "nk_getpeername6",
        }
    }
}

/// Whether the current generation is loaded whole.
#[must_use]
pub fn is_loaded(pins: &Pins) -> bool {
    pins.generation(CURRENT).is_dir() && has_maps(pins)
}

/// Whether the maps of this ABI are there.
#[must_use]
pub fn has_maps(pins: &Pins) -> bool {
    pins.maps(ABI_VERSION).is_dir()
}

/// Whether a version of this program with another ABI has pins here.
///
/// # Errors
/// When the directory cannot be listed.
pub fn has_other_abi(pins: &Pins) -> Result<bool> {
    Ok(pins.abis()?.iter().any(|version| *version != ABI_VERSION))
}

/// Why this build can neither serve nor touch what stands.
#[must_use]
pub fn other_abi() -> Error {
    let text = format!(
        "containers run with programs of another version of oci-netkit, whose maps are not ABI \
         {ABI_VERSION}; they stay under their rules"
    );
    Error::new(Kind::Conflict, text)
        .with_hint("stop these containers first, or install the version they were started with")
}

/// Loads and pins the current generation.
///
/// # Errors
/// [`Kind::Kernel`] when the verifier or bpffs refuse, [`Kind::Internal`] when maps with the same
/// ABI number have another layout.
pub fn load(pins: &Pins) -> Result<()> {
    libbpf_rs::set_print(Some((PrintLevel::Debug, hear)));
    bpffs::ensure_dir(pins.base())?;
    sweep(pins)?;
    let mut storage = MaybeUninit::uninit();
    let mut open = DatapathSkelBuilder::default()
        .open(&mut storage)
        .context("open programs")?;
    let reused = has_maps(pins);
    if reused {
        reuse_maps(&mut open, pins)?;
    }
    heard().clear();
    let skel = open
        .load()
        .context("load programs")
        .map_err(|e| e.with_context(complaint()))?;
    if !reused {
        pin_maps(&skel, pins)?;
    }
    pin_programs(&skel, pins)
}

/// What libbpf and the verifier said last; kept because the error itself is a bare number.
static HEARD: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn heard() -> MutexGuard<'static, Vec<String>> {
    HEARD.lock().unwrap_or_else(PoisonError::into_inner)
}

fn hear(level: PrintLevel, text: String) {
    let text = text.trim_end();
    if level == PrintLevel::Warn {
        log::warn!("{text}");
        heard().extend(text.lines().map(str::to_owned));
    } else {
        log::debug!("{text}");
    }
}

/// The end of the verifier's log: what it did not like, in a line.
fn complaint() -> String {
    let heard = heard();
    let end = heard
        .iter()
        .rposition(|l| l.starts_with("processed "))
        .unwrap_or(heard.len());
    let lines = heard[..end].iter().rev().take(3).rev();
    lines.map(|l| l.trim()).collect::<Vec<_>>().join(" / ")
}

/// Removes what killed loaders left: directories that never got their name.
///
/// # Errors
/// When a pin cannot be removed.
pub fn sweep(pins: &Pins) -> Result<()> {
    for name in bpffs::list(pins.base())? {
        if name.starts_with("new-") {
            bpffs::remove_dir(&pins.base().join(name))?;
        }
    }
    Ok(())
}

fn reuse_maps(open: &mut OpenDatapathSkel<'_>, pins: &Pins) -> Result<()> {
    for mut map in open.open_object_mut().maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        if !SHARED.contains(&name.as_str()) {
            continue;
        }
        let path = pins.maps(ABI_VERSION).join(&name);
        let there = sys::obj_get(&path).with_context(|| format!("open map {}", path.display()))?;
        let wanted = Shape {
            kind: map.map_type().into(),
            key_bytes: map.key_size(),
            value_bytes: map.value_size(),
            max_entries: map.max_entries(),
            flags: map.map_flags(),
        };
        let found = sys::shape(there.as_fd())?;
        if found != wanted {
            return Err(Error::new(
                Kind::Internal,
                format!("map {} is {found:?}, not {wanted:?}", path.display()),
            )
            .with_hint("another build with the same ABI number: run oci-netkit unload"));
        }
        map.reuse_fd(there.as_fd())
            .with_context(|| format!("reuse map {name}"))?;
    }
    Ok(())
}

fn pin_maps(skel: &DatapathSkel<'_>, pins: &Pins) -> Result<()> {
    let scratch = pins.base().join("new-maps");
    bpffs::ensure_dir(&scratch)?;
    let mut pinned = 0;
    for map in skel.object().maps() {
        let name = map.name().to_string_lossy().into_owned();
        if SHARED.contains(&name.as_str()) {
            sys::obj_pin(map.as_fd(), &scratch.join(&name))
                .with_context(|| format!("pin map {name}"))?;
            pinned += 1;
        }
    }
    if pinned != SHARED.len() {
        return Err(Error::new(Kind::Internal, "the object lacks a map"));
    }
    Maps::open(&scratch)?.initialise(netns::own_cookie()?)?;
    bpffs::ensure_dir(&pins.abi(ABI_VERSION))?;
    commit(&scratch, &pins.maps(ABI_VERSION))
}

fn pin_programs(skel: &DatapathSkel<'_>, pins: &Pins) -> Result<()> {
    let scratch = pins.base().join("new-programs");
    bpffs::ensure_dir(&scratch)?;
    for program in Program::ALL {
        let name = program.name();
        let loaded = skel.object().progs().find(|p| p.name() == name);
        let loaded =
            loaded.ok_or_else(|| Error::new(Kind::Internal, format!("the object lacks {name}")))?;
        sys::obj_pin(loaded.as_fd(), &scratch.join(name)).with_context(|| format!("pin {name}"))?;
    }
    commit(&scratch, &pins.generation(CURRENT))
}

/// A rename in bpffs is atomic as anywhere: simple_rename(), kernel/bpf/inode.c.
fn commit(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).with_context(|| format!("rename {} to {}", from.display(), to.display()))
}

/// Opens a program of a generation.
///
/// # Errors
/// [`Kind::Kernel`] when it is not loaded.
pub fn open_program(pins: &Pins, generation: &str, program: Program) -> Result<OwnedFd> {
    let path = pins.generation(generation).join(program.name());
    sys::obj_get(&path).with_context(|| format!("open program {}", path.display()))
}

/// Opens the shared maps.
///
/// # Errors
/// [`Kind::Kernel`] when they are not there.
pub fn open_maps(pins: &Pins) -> Result<Maps> {
    Maps::open(&pins.maps(ABI_VERSION))
}

/// Unpins a generation; links keep their programs alive.
///
/// # Errors
/// When a pin cannot be removed.
pub fn unload(pins: &Pins, generation: &str) -> Result<()> {
    bpffs::remove_dir(&pins.generation(generation))
}

/// Unpins the shared maps of this ABI. Only when no endpoint is left.
///
/// # Errors
/// When a pin cannot be removed.
pub fn unload_maps(pins: &Pins) -> Result<()> {
    bpffs::remove_dir(&pins.maps(ABI_VERSION))?;
    bpffs::remove_empty(&pins.abi(ABI_VERSION))
}
