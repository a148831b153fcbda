//! IPv6's sysctls of our own devices, in their namespace. Mustn't write any other: no `all`, no
//! `default`, no other device, nothing global; [`IfName`] cannot say the first two.
//!
//! /proc/sys/net shows the namespace of the thread that opens it, hence the thread.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

use super::netns::Netns;
use crate::error::{Context, Error, Kind, Result};
use crate::types::name::IfName;

/// Writes net.ipv6.conf.DEVICE.NAME for each name and reads it back; in this thread's namespace without
/// one.
///
/// The way to the device is gone once: at `ipv6` it leads past those of all namespaces
/// (proc_sys_compare(), fs/proc/proc_sysctl.c).
///
/// # Errors
/// [`Kind::Kernel`] when a file is missing, refuses, or says something else afterwards.
pub fn set_ipv6(
    netns: Option<&Netns>,
    device: &IfName,
    settings: &[(&'static str, &'static str)],
) -> Result<()> {
    let (dir, settings) = (dir(device), settings.to_vec());
    let work = move || {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let opened = open(&dir, flags, Mode::empty());
        let opened = opened.with_context(|| format!("open {}", dir.display()))?;
        settings.iter().try_for_each(|(name, value)| {
            set(&opened, name, value)
                .with_context(|| format!("set {}={value}", dir.join(name).display()))
        })
    };
    match netns {
        Some(netns) => netns.run(work),
        None => work(),
    }
}

fn set(dir: &OwnedFd, name: &str, value: &str) -> Result<()> {
    let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = openat(dir, plain(name)?, flags, Mode::empty()).context("open")?;
    let mut file = File::from(file);
    file.write_all(value.as_bytes()).context("write")?;
    let mut bytes = [0; 32];
    let len = file.read_at(&mut bytes, 0).context("read back")?;
    let now = String::from_utf8_lossy(bytes.get(..len).unwrap_or_default());
    if now.trim() == value {
        return Ok(());
    }
    let message = format!("the kernel made it {}", now.trim());
    Err(Error::new(Kind::Kernel, message))
}

/// The dots in a device name are no separators here, since the path is built from parts.
fn dir(device: &IfName) -> PathBuf {
    Path::new("/proc/sys/net/ipv6/conf").join(device.as_str())
}

fn plain(name: &str) -> Result<&str> {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit();
    if !name.is_empty() && name.bytes().all(is_plain) {
        return Ok(name);
    }
    let message = format!("no sysctl of a device: {name}");
    Err(Error::new(Kind::Internal, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sysctls_of_one_device_can_be_named() {
        let device = IfName::new("onk1.2").unwrap();
        assert_eq!(dir(&device), Path::new("/proc/sys/net/ipv6/conf/onk1.2"));
        assert_eq!(plain("addr_gen_mode").unwrap(), "addr_gen_mode");
        for name in ["../all/forwarding", "a/b", ".", ""] {
            assert!(plain(name).is_err(), "{name}");
        }
    }
}
