//! What a front-end asks for, whatever dialect it spoke. Pure.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::types::id::ContainerId;

/// Prefix of the annotation keys that are ours.
pub const PREFIX: &str = "io.oci-netkit.";

/// Attach this container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// OCI id.
    pub container_id: ContainerId,
    /// Host pid of its init process; 0 in a dry run.
    pub pid: i32,
    /// Bundle directory, for the process's capabilities; never for policy.
    pub bundle: PathBuf,
    /// Annotations under [`PREFIX`], without it, unparsed.
    pub keys: BTreeMap<String, String>,
}
