//! The only layer that touches the kernel; every file owns one kind of object.
//! Judges nothing: `plan` decides, `apply` orders.

pub mod bpf;
pub mod bpffs;
pub mod caps;
pub mod engine;
pub mod host;
pub mod lan;
pub mod netlink;
pub mod netns;
pub mod probe;
pub mod process;
pub mod reserved_ports;
pub mod resolv_conf;
pub mod sockets;
pub mod sysctl;
pub mod whole;

use crate::error::{Context, Error, Kind, Result, lower};

impl<T> Context<T> for std::result::Result<T, nix::Error> {
    fn with_context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|e| Error::new(Kind::Kernel, lower(e.desc())).with_context(what()))
    }
}

impl<T> Context<T> for std::result::Result<T, libbpf_rs::Error> {
    fn with_context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|e| Error::new(Kind::Kernel, lower(&format!("{e:#}"))).with_context(what()))
    }
}
