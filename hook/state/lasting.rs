//! What outlives the boot, in a directory of mode 0700 in /var/lib that is made by the first who
//! has something to keep: the prefix of the built-in IPv6 pool, and who had which address. `unload`
//! leaves it, so that containers have the same addresses afterwards; the purge of the package
//! removes it.
//!
//! Leases are a file of [`Event`]s behind a head, one when a name takes an address and one when it gives
//! it back. They are a preference only: whether an address is free is in the records. So nothing is
//! synced, an event that is lost or damaged costs a name its address, and a file that cannot be
//! written no container its start.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use ipnet::Ipv6Net;
use zerocopy::{FromZeros, IntoBytes};

use super::store::{LedgerLock, Store, View, private_dir, read_json, replace};
use crate::error::{Context, Error, Kind, Result};
use crate::types::lease::{Event, Lease, Leases};

const ULA: &str = "ula.json";
const LEASES: &str = "leases";

/// What the file begins with: to be another one whenever a field of [`Event`] changes.
const HEAD: [u8; 24] = *b"oci-netkit leases 2\0\0\0\0\0";
const EVENT: usize = size_of::<Event>();

/// Events at which the file of leases is written anew without what is superseded; and how many of
/// the newest it then has at most. Every start reads all of it.
const MOST_EVENTS: usize = 4096;
const KEPT_EVENTS: usize = 3072;

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
        let events = File::open(&path).and_then(|file| read_events(&file));
        let events = events.unwrap_or_else(|e| {
            if e.kind() != ErrorKind::NotFound {
                log::warn!("read {}: {e}", path.display());
            }
            Vec::new()
        });
        Leases::new(events)
    }
}

/// Straight to where they stay: every start reads thousands.
fn read_events(mut file: &File) -> io::Result<Vec<Event>> {
    let len = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    if len == 0 {
        return Ok(Vec::new());
    }
    let mut head = [0; HEAD.len()];
    if len >= head.len() {
        file.read_exact(&mut head)?;
    }
    if head != HEAD {
        return Err(io::Error::new(
            ErrorKind::InvalidData,
            "not a file of leases",
        ));
    }
    let count = len.saturating_sub(HEAD.len()) / EVENT;
    let mut events = Event::new_vec_zeroed(count).map_err(|_| ErrorKind::OutOfMemory)?;
    file.read_exact(events.as_mut_bytes())?;
    Ok(events)
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
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(&path)
            .with_context(what)?;
        let len = usize::try_from(file.metadata().with_context(what)?.len()).unwrap_or(usize::MAX);
        let mut head = [0; HEAD.len()];
        let is_ours = file.read_exact(&mut head).is_ok() && head == HEAD;
        let len = len.saturating_sub(HEAD.len());
        // What was cut off would shift what follows.
        if !is_ours || len % EVENT != 0 || len / EVENT > MOST_EVENTS {
            return self.shorten(lease);
        }
        let events: Vec<Event> = Event::all(lease).collect();
        file.write_all(events.as_bytes()).with_context(what)
    }

    /// Writes the file anew: only who had each address last, the newest of them, and `last`.
    fn shorten(&self, last: &Lease) -> Result<()> {
        let leases = self.view().leases().then(Event::all(last));
        let surplus = leases.events().len().saturating_sub(KEPT_EVENTS);
        let kept = leases.events().get(surplus..).unwrap_or_default();
        let path = self.view().lasting_file(LEASES);
        replace(&path, &[&HEAD, kept.as_bytes()].concat(), |_| Ok(()))
    }
}

#[cfg(test)]
mod tests;
