//! Finds facts about the host and a container's namespace; judges nothing, changes nothing.

use std::path::Path;

use super::netns::Netns;
use super::process::Process;
use crate::error::{Error, Kind, Result};
use crate::facts::{HostFacts, NamespaceFacts};
use crate::state::Paths;

/// The host, now.
///
/// # Errors
/// [`Kind::Kernel`] when /proc or rtnetlink refuse. What this host cannot do is in the facts.
pub fn host_facts(paths: &Paths) -> Result<HostFacts> {
    let _ = paths;
    Err(Error::new(Kind::Internal, "not written"))
}

/// /proc/sys/kernel/random/boot_id.
///
/// # Errors
/// When /proc is not mounted.
pub fn boot_id() -> Result<String> {
    Err(Error::new(Kind::Internal, "not written"))
}

/// The namespace of the container's init process. Opened before the process is asked whether it
/// lives, so it is that process's.
///
/// # Errors
/// [`Kind::BadInput`] for a pid that is none or dead, and for an unreadable bundle.
pub fn namespace_facts(process: &Process, bundle: &Path) -> Result<(Netns, NamespaceFacts)> {
    let _ = (process, bundle);
    Err(Error::new(Kind::Internal, "not written"))
}
