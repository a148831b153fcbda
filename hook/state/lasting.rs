//! What outlives the boot, in a directory of mode 0700 in /var/lib that is made by the first who
//! has something to keep: the prefix of the built-in IPv6 pool, and who had which address. `unload`
//! leaves it, so that containers have the same addresses afterwards; the purge of the package
//! removes it.
//!
//! Leases are a file of frames (`frames.rs`), one when a name takes addresses and one when it gives
//! them back. They are a preference only: whether an address is free is in the records. So nothing
//! is synced, a frame that is lost or damaged costs a name its address, and a file that cannot be
//! written no container its start.

use std::fs::File;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;

use ipnet::Ipv6Net;

use super::frames::{self, frames};
use super::store::{LedgerLock, Store, View, private_dir, read_json, replace};
use crate::error::{Context, Error, Kind, Result};
use crate::types::lease::{Lease, Leases};

const ULA: &str = "ula.json";
const LEASES: &str = "leases";

/// To be another one whenever a [`Lease`] is written otherwise: postcard does not tell one from the
/// next.
const LAYOUT: u8 = 1;

/// Bytes at which the file of leases is written anew without what is superseded; and how many of
/// the newest it then has at most: 2,100 containers' with names of 12 letters, 650 with ones of 64.
/// Every start reads all of it.
const MOST_BYTES: u64 = 1 << 16;
const KEPT_BYTES: usize = 3 << 14;

/// Tells whether a file of leases is still the one that was read: it only grows, or is replaced by
/// another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeasesStamp(Option<(u64, u64, u64)>);

/// A prefix for this host, as RFC 4193, 3.2 wants it: fd00::/8, 40 random bits, subnet 0.
///
/// # Errors
/// When the kernel gives no random numbers.
pub fn draw_ula() -> Result<Ipv6Net> {
    let mut bytes = [0u8; 16];
    bytes[0] = 0xfd;
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes[1..6]))
        .context("read /dev/urandom")?;
    Ok(Ipv6Net::new_assert(bytes.into(), 64))
}

impl View {
    /// The prefix of the built-in IPv6 pool, once a container needed it. A damaged one counts as
    /// none: containers that start get another, those that run keep their addresses.
    #[must_use]
    pub fn ula(&self) -> Option<Ipv6Net> {
        let path = self.lasting_file(ULA);
        let found = read_json::<Ipv6Net>(&path).unwrap_or_else(|e| {
            log::warn!("{e}: counts as none");
            None
        });
        found.filter(|net| net.prefix_len() == 64 && net.addr().octets()[0] == 0xfd)
    }

    /// To be taken before [`View::leases`].
    #[must_use]
    pub fn leases_stamp(&self) -> LeasesStamp {
        let found = std::fs::symlink_metadata(self.lasting_file(LEASES)).ok();
        LeasesStamp(found.map(|meta| (meta.dev(), meta.ino(), meta.len())))
    }

    /// Who had which address. What is damaged counts as never leased.
    #[must_use]
    pub fn leases(&self) -> Leases {
        let path = self.lasting_file(LEASES);
        let mut bytes = frames::read(&path);
        let mut damaged = 0;
        let events = frames(&mut bytes).rev().filter_map(|frame| {
            let event = event(frame);
            damaged += usize::from(event.is_none());
            event
        });
        let leases = Leases::newest_first(events);
        if damaged > 0 {
            log::warn!("{}: {damaged} damaged entries", path.display());
        }
        leases
    }
}

impl Store {
    /// Keeps the prefix for good: addresses of it are about to be given out. There before the first
    /// of them even if the power fails, since the next boot would draw another.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_ula(&self, _lock: &LedgerLock, ula: Ipv6Net) -> Result<()> {
        if self.view().ula() == Some(ula) {
            return Ok(());
        }
        let dir = self.view().lasting_file("");
        private_dir(&dir)?;
        let text = serde_json::to_vec(&ula)
            .map_err(|e| Error::new(Kind::Internal, format!("write {ULA}: {e}")))?;
        replace(&self.view().lasting_file(ULA), &text, File::sync_all)?;
        // The directory may be new as well.
        for dir in dir.ancestors().take(2) {
            File::open(dir)
                .and_then(|dir| dir.sync_all())
                .with_context(|| format!("write {}", dir.display()))?;
        }
        Ok(())
    }
}

impl Store {
    /// Remembers that a name took addresses, or gave them back. Under the ledger lock.
    pub(super) fn note(&self, lease: &Lease) {
        let noted = private_dir(&self.view().lasting_file("")).and_then(|()| self.append(lease));
        if let Err(e) = noted {
            log::warn!("addresses of {} are not remembered: {e}", lease.name);
        }
    }

    fn append(&self, lease: &Lease) -> Result<()> {
        let path = self.view().lasting_file(LEASES);
        let what = || format!("write {}", path.display());
        let mut file = frames::open(&path).with_context(what)?;
        let len = file.metadata().with_context(what)?.len();
        let frame = frame(&lease.name, &lease.addresses)?;
        if len > MOST_BYTES {
            return self.shorten(&frame);
        }
        file.write_all(&frame).with_context(what)
    }

    /// Writes the file anew: only who had each address last, the newest of them, and `last`.
    fn shorten(&self, last: &[u8]) -> Result<()> {
        let leases = self.view().leases();
        let mut newest = vec![last.to_vec()];
        let mut len = last.len();
        for (addr, name) in leases.oldest_first().rev() {
            let frame = frame(name, &[addr])?;
            len += frame.len();
            if len > KEPT_BYTES {
                break;
            }
            newest.push(frame);
        }
        newest.reverse();
        let path = self.view().lasting_file(LEASES);
        replace(&path, &newest.concat(), |_| Ok(()))
    }
}

fn frame(name: &str, addresses: &[IpAddr]) -> Result<Vec<u8>> {
    frames::frame(&(LAYOUT, name, addresses))
}

fn event(frame: &mut [u8]) -> Option<(&str, Vec<IpAddr>)> {
    match postcard::from_bytes_cobs(frame) {
        Ok((LAYOUT, name, addresses)) => Some((name, addresses)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
