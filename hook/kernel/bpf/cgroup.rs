//! Links on the root cgroup: the programs that send the host's own processes to published ports.
//! There only while something is published; callers hold the generation lock.
//!
//! Attached with links beside whatever else is on the root cgroup; none is replaced.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use libbpf_sys as raw;
use nix::errno::Errno;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use super::load::{Program, open_program};
use super::{attach, sys};
use crate::error::{Context, Result};
use crate::kernel::bpffs::{self, Pins};

/// Where the root cgroup of version 2 may be: alone, or beside version 1.
const ROOTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// Pin, program, hook.
const LINKS: [(&str, Program, u32); 8] = [
    ("connect4", Program::Connect4, raw::BPF_CGROUP_INET4_CONNECT),
    ("connect6", Program::Connect6, raw::BPF_CGROUP_INET6_CONNECT),
    ("sendmsg4", Program::Sendmsg4, raw::BPF_CGROUP_UDP4_SENDMSG),
    ("sendmsg6", Program::Sendmsg6, raw::BPF_CGROUP_UDP6_SENDMSG),
    ("recvmsg4", Program::Recvmsg4, raw::BPF_CGROUP_UDP4_RECVMSG),
    ("recvmsg6", Program::Recvmsg6, raw::BPF_CGROUP_UDP6_RECVMSG),
    (
        "getpeername4",
        Program::Getpeername4,
        raw::BPF_CGROUP_INET4_GETPEERNAME,
    ),
    (
        "getpeername6",
        Program::Getpeername6,
        raw::BPF_CGROUP_INET6_GETPEERNAME,
    ),
];

/// The root cgroup of version 2; `None` where it is mounted nowhere.
fn root() -> Option<&'static Path> {
    let is_v2 = |p: &&Path| statfs(*p).is_ok_and(|s| s.filesystem_type() == CGROUP2_SUPER_MAGIC);
    ROOTS.iter().map(Path::new).find(is_v2)
}

/// Makes sure that the programs are there; those that are stay as they are. False where there is
/// no cgroup to put them on: then published ports are for the wire only.
///
/// # Errors
/// When the kernel refuses one; the others may be attached.
pub fn ensure(pins: &Pins, generation: &str) -> Result<bool> {
    let Some(root) = root() else {
        return Ok(false);
    };
    let cgroup = File::open(root).with_context(|| format!("open {}", root.display()))?;
    let dir = pins.cgroup();
    bpffs::ensure_dir(&dir)?;
    for (name, program, hook) in LINKS {
        let pin = dir.join(name);
        if attach::open_link(&pin)?.is_some() {
            continue;
        }
        let program = open_program(pins, generation, program)?;
        let link = sys::link_create_on(program.as_fd(), cgroup.as_fd(), hook)
            .with_context(|| format!("attach {name} to {}", root.display()))?;
        sys::obj_pin(link.as_fd(), &pin).with_context(|| format!("pin {}", pin.display()))?;
    }
    Ok(true)
}

/// Takes them away, at once. Gone already is success.
///
/// # Errors
/// When the kernel refuses.
pub fn remove(pins: &Pins) -> Result<()> {
    for (name, path) in paths(pins) {
        if let Some(link) = attach::open_link(&path)? {
            match sys::link_detach(link.as_fd()) {
                Ok(()) | Err(Errno::ENOLINK) => {}
                Err(e) => {
                    return Err(e).with_context(|| format!("detach {name} from the root cgroup"));
                }
            }
        }
    }
    bpffs::remove_dir(&pins.cgroup())
}

/// Pins and programs of the links that may be there.
pub(super) fn links(pins: &Pins) -> impl Iterator<Item = (PathBuf, Program)> {
    let dir = pins.cgroup();
    LINKS
        .map(|(name, program, _)| (dir.join(name), program))
        .into_iter()
}

fn paths(pins: &Pins) -> impl Iterator<Item = (&'static str, PathBuf)> {
    let dir = pins.cgroup();
    LINKS.map(|(name, _, _)| (name, dir.join(name))).into_iter()
}
