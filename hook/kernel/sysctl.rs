//! IPv6's sysctls of our own devices, in their namespace. Mustn't write any other: no `all`, no
//! `default`, no other device, nothing global; [`IfName`] cannot say the first two.
//!
//! /proc/sys/net shows the namespace of the thread that opens it, hence the thread.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::PathBuf;

use super::netns::Netns;
use crate::error::{Context, Error, Kind, Result};
use crate::types::name::IfName;

/// Writes net.ipv6.conf.DEVICE.NAME and reads it back; in this thread's namespace without one.
///
/// The dots in a device name are no separators here, since the path is built from parts.
///
/// # Errors
/// [`Kind::Kernel`] when the file is missing, refuses, or says something else afterwards.
pub fn set_ipv6(netns: Option<&Netns>, device: &IfName, name: &str, value: &str) -> Result<()> {
    let path = path(device, name)?;
    let what = format!("set {}={value}", path.display());
    let value = value.to_owned();
    let work = move || {
        let mut file = File::options()
            .read(true)
            .write(true)
            .open(&path)
            .context("open")?;
        file.write_all(value.as_bytes()).context("write")?;
        file.rewind().context("read back")?;
        let mut now = String::new();
        file.read_to_string(&mut now).context("read back")?;
        if now.trim() == value {
            return Ok(());
        }
        Err(Error::new(
            Kind::Kernel,
            format!("the kernel made it {}", now.trim()),
        ))
    };
    let done = match netns {
        Some(netns) => netns.run(work),
        None => work(),
    };
    done.context(what)
}

fn path(device: &IfName, name: &str) -> Result<PathBuf> {
    let plain = !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit());
    if !plain {
        return Err(Error::new(
            Kind::Internal,
            format!("no sysctl of a device: {name}"),
        ));
    }
    Ok(["/proc/sys/net/ipv6/conf", device.as_str(), name]
        .iter()
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sysctls_of_one_device_can_be_named() {
        let device = IfName::new("onk1.2").unwrap();
        assert_eq!(
            path(&device, "addr_gen_mode").unwrap().to_str().unwrap(),
            "/proc/sys/net/ipv6/conf/onk1.2/addr_gen_mode"
        );
        for name in ["../all/forwarding", "a/b", ""] {
            assert!(path(&device, name).is_err(), "{name}");
        }
    }
}
