//! Capabilities of this process: which it has, and giving them up.

use caps::{CapSet, Capability, CapsHashSet};

use crate::error::{Error, Kind, Result};

/// What setting up an endpoint takes, and why.
const NEEDED: [Capability; 8] = [
    // Devices, addresses, routes, tcx and netkit links.
    Capability::CAP_NET_ADMIN,
    // Questions to the neighbours of an uplink.
    Capability::CAP_NET_RAW,
    // Maps and programs.
    Capability::CAP_BPF,
    // Pointer leaks and speculation rules that the verifier applies without it.
    Capability::CAP_PERFMON,
    // setns; links by id; pins in a bpffs of the initial namespace.
    Capability::CAP_SYS_ADMIN,
    // setns of a mount namespace.
    Capability::CAP_SYS_CHROOT,
    // /proc/PID/ns of a process with other credentials: a container with a user namespace.
    Capability::CAP_SYS_PTRACE,
    // config.json and /proc files of another uid.
    Capability::CAP_DAC_READ_SEARCH,
];

/// Gives up all but what setting up an endpoint takes; those it never had stay absent.
///
/// # Errors
/// [`Kind::Kernel`] when the kernel refuses.
pub fn drop_to_needed() -> Result<()> {
    let have = caps::read(None, CapSet::Permitted).map_err(fault)?;
    let keep: CapsHashSet = have
        .intersection(&NEEDED.into_iter().collect())
        .copied()
        .collect();
    set(&keep)
}

/// Gives up all.
///
/// # Errors
/// [`Kind::Kernel`] when the kernel refuses.
pub fn drop_all() -> Result<()> {
    set(&CapsHashSet::new())
}

/// Needed ones that this process lacks, by name, sorted.
///
/// # Errors
/// [`Kind::Kernel`] when the kernel does not tell.
pub fn missing() -> Result<Vec<String>> {
    let have = caps::read(None, CapSet::Effective).map_err(fault)?;
    let mut missing: Vec<String> = NEEDED
        .iter()
        .filter(|c| !have.contains(c))
        .map(ToString::to_string)
        .collect();
    missing.sort();
    Ok(missing)
}

/// Effective before permitted: the kernel refuses an effective one that is not permitted.
fn set(keep: &CapsHashSet) -> Result<()> {
    caps::clear(None, CapSet::Ambient).map_err(fault)?;
    caps::clear(None, CapSet::Inheritable).map_err(fault)?;
    caps::set(None, CapSet::Effective, keep).map_err(fault)?;
    caps::set(None, CapSet::Permitted, keep).map_err(fault)
}

fn fault(e: caps::errors::CapsError) -> Error {
    Error::new(Kind::Kernel, e.to_string()).with_context("change capabilities")
}
