//! The claims of all endpoints in one file of lines, so that a start need not open a thousand
//! records.
//!
//! The records are what counts. A line is used only while there is a record of its namespace, and
//! says that the endpoint is active and what it claims; of one that is being built or taken down
//! the last line says nothing, and the record is read. Lines are written under the ledger lock and
//! before the record that they are about, so a killed process leaves no record with a line that is
//! older.
//!
//! A line is the cookie as in the record's file name, a space and the claim as JSON, or nothing:
//! what is superseded, or not asked for, is passed over by its first bytes.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;

use super::store::{LedgerLock, Store, View, remove_file, replace};
use crate::error::{Context, Error, Kind, Result};
use crate::types::claim::Claim;
use crate::types::id::NetnsCookie;
use crate::types::record::{EndpointRecord, Phase};

const CLAIMS: &str = "claims";

/// Lines beyond two for each record at which the file is written anew without what is superseded.
const SURPLUS: usize = 16;

impl View {
    /// The claims of this boot, in the order of the namespaces' cookies. A record that cannot be read
    /// claims nothing.
    ///
    /// # Errors
    /// When the records cannot be listed.
    pub fn claims(&self, boot_id: &str) -> Result<Vec<Claim>> {
        self.claims_like(boot_id, &|_| true)
    }

    /// At least those of which that is true as JSON without white space.
    ///
    /// # Errors
    /// As [`View::claims`].
    pub fn claims_like(&self, boot_id: &str, is_like: &dyn Fn(&str) -> bool) -> Result<Vec<Claim>> {
        // Before the lines, since each is there before its record.
        let cookies = self.cookies()?;
        if cookies.is_empty() {
            return Ok(Vec::new());
        }
        let mut claims = self.read_claims(&cookies, &self.claims_file(), is_like);
        claims.retain(|claim| claim.boot_id == boot_id);
        Ok(claims)
    }

    fn read_claims(
        &self,
        cookies: &[NetnsCookie],
        bytes: &[u8],
        is_like: &dyn Fn(&str) -> bool,
    ) -> Vec<Claim> {
        let lines = last_lines(bytes).unwrap_or_default();
        let on_record = |cookie| {
            let record = self.find(cookie).ok().flatten();
            let record = record.filter(|record| record.cookie == cookie);
            record.map(|record| Claim::from(&record))
        };
        let claim = |cookie: &NetnsCookie| match lines.get(cookie) {
            Some(line) if !line.is_empty() && !is_like(line) => None,
            Some(line) => serde_json::from_str(line)
                .ok()
                .or_else(|| on_record(*cookie)),
            None => on_record(*cookie),
        };
        cookies.iter().filter_map(claim).collect()
    }

    fn claims_file(&self) -> Vec<u8> {
        let path = self.file(CLAIMS);
        fs::read(&path).unwrap_or_else(|e| {
            if e.kind() != ErrorKind::NotFound {
                log::warn!("read {}: {e}", path.display());
            }
            Vec::new()
        })
    }
}

impl Store {
    /// Says what is about to be on record. What a full disk cuts off is followed by a line break, as
    /// every line begins with one.
    pub(super) fn claim(&self, _lock: &LedgerLock, record: &EndpointRecord) -> Result<()> {
        let line = line(&Claim::from(record))?;
        let path = self.view().file(CLAIMS);
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(&path)
            .and_then(|mut file| file.write_all(&line))
            .with_context(|| format!("write {}", path.display()))
    }

    /// Removes the file where there is no record any more.
    pub(super) fn end_claims(&self, _lock: &LedgerLock) -> Result<()> {
        if self.view().cookies()?.is_empty() {
            remove_file(&self.view().file(CLAIMS))?;
        }
        Ok(())
    }

    /// Writes the file anew, if much of it is superseded or damaged; removes it where there is no record.
    ///
    /// # Errors
    /// When the records cannot be listed or the file not written.
    pub fn shorten_claims(&self, lock: &LedgerLock) -> Result<()> {
        let cookies = self.view().cookies()?;
        if cookies.is_empty() {
            return self.end_claims(lock);
        }
        let bytes = self.view().claims_file();
        let count = bytes.iter().filter(|b| **b == b'\n').count();
        if count <= 2 * cookies.len() + SURPLUS {
            return Ok(());
        }
        let claims = self.view().read_claims(&cookies, &bytes, &|_| true);
        let lines = claims.iter().map(line).collect::<Result<Vec<_>>>()?;
        replace(&self.view().file(CLAIMS), &lines.concat(), |_| Ok(()))
    }
}

fn line(claim: &Claim) -> Result<Vec<u8>> {
    let mut line = format!("\n{} ", claim.cookie.file_name()).into_bytes();
    if claim.phase == Phase::Active {
        serde_json::to_writer(&mut line, claim)
            .map_err(|e| Error::new(Kind::Internal, format!("write {CLAIMS}: {e}")))?;
    }
    Ok(line)
}

/// The last line of each namespace, without the cookie. `None` if a cookie cannot be read, but for the
/// last of all, which may be just being written: what it took back would stand again.
fn last_lines(bytes: &[u8]) -> Option<HashMap<NetnsCookie, &str>> {
    let mut last = HashMap::new();
    let mut lines = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    while let Some(line) = lines.next() {
        match cookie(line) {
            Some((cookie, claim)) => last.insert(cookie, claim),
            None if lines.next().is_none() => break,
            None => return None,
        };
    }
    Some(last)
}

fn cookie(line: &[u8]) -> Option<(NetnsCookie, &str)> {
    let (digits, claim) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    let cookie = u64::from_str_radix(digits, 16).ok()?;
    Some((NetnsCookie(cookie), claim))
}

#[cfg(test)]
mod tests;
