//! What outlives the boot, in a directory of mode 0700 in /var/lib that is made by the first who has
//! something to keep: the prefix of the built-in IPv6 pool. `unload` leaves it, so that containers
//! have the same addresses afterwards; the purge of the package removes it.

use std::fs::File;
use std::io::Read;

use ipnet::Ipv6Net;

use super::store::{LedgerLock, Store, View, private_dir, read_json, replace};
use crate::error::{Context, Error, Kind, Result};

const ULA: &str = "ula.json";

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
        File::open(&dir)
            .and_then(|dir| dir.sync_all())
            .context(format!("write {}", dir.display()))
    }
}

#[cfg(test)]
mod tests;
