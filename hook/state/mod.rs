//! What is remembered between two runs: records, journals, the last failures, locks, leases.
//!
//! What speaks of kernel objects lies under one directory of mode 0700 in /run, so it ends with the
//! boot as they do; what outlives it is `lasting.rs`'s, in /var/lib. Only files here: kernel objects
//! are `kernel/`'s, decisions `plan/`'s.

pub mod claims;
pub mod ended;
pub mod engine;
pub mod fresh;
pub mod lasting;
pub mod lock;
pub mod names;
pub mod reserved;
pub mod store;
mod sweep;

use std::path::PathBuf;

/// Where this program keeps things. Tests use directories of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// Records, journals, locks.
    pub state_dir: PathBuf,
    /// What outlives the boot.
    pub lasting_dir: PathBuf,
    /// Our directory on the bpf file system: programs, maps, links.
    pub bpffs_dir: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            state_dir: "/run/oci-netkit".into(),
            lasting_dir: "/var/lib/oci-netkit".into(),
            bpffs_dir: "/sys/fs/bpf/oci-netkit".into(),
        }
    }
}
