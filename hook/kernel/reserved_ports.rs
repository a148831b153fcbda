//! The ports for masquerading in `ip_local_reserved_ports`, so that the kernel gives none of them to
//! a socket of the host that asks for any (ip-sysctl.rst).
//!
//! The list may hold others' ports too. What we add is written down first; only that is taken away.

use std::fs;

use crate::error::{Context, Result};
use crate::state::store::Store;
use crate::types::port::{PortRange, PortSet};

const PATH: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// Adds the ports, and takes away what was added earlier and is not wanted any more. Callers hold
/// the generation lock, and are in the host's namespace.
///
/// # Errors
/// [`crate::error::Kind::Kernel`] when the list cannot be read or written.
pub fn reserve(store: &Store, boot_id: &str, ports: PortRange) -> Result<()> {
    let now = read()?;
    let before = now.without(&store.view().reserved_ports(boot_id));
    let ours = PortSet::from(ports).without(&before);
    store.set_reserved_ports(boot_id, &ours)?;
    write(&now, &before.with(&ours))
}

/// Takes away what was added. Callers hold the generation lock. Nothing added is success.
///
/// # Errors
/// As [`reserve`].
pub fn release(store: &Store, boot_id: &str) -> Result<()> {
    let ours = store.view().reserved_ports(boot_id);
    if ours.is_empty() {
        return Ok(());
    }
    let now = read()?;
    write(&now, &now.without(&ours))?;
    store.set_reserved_ports(boot_id, &PortSet::default())
}

fn read() -> Result<PortSet> {
    let text = fs::read_to_string(PATH).with_context(|| format!("read {PATH}"))?;
    text.parse::<PortSet>()
        .with_context(|| format!("read {PATH}"))
}

fn write(now: &PortSet, ports: &PortSet) -> Result<()> {
    if now == ports {
        return Ok(());
    }
    // The kernel takes an empty line for an empty list, and nothing at all for no request.
    fs::write(PATH, format!("{ports}\n")).with_context(|| format!("write {PATH}"))
}
