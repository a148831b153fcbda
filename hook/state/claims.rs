//! The claims of all endpoints in one file, so that a start need not open a thousand
//! records.
//!
//! The records are what counts. A frame is used only while there is a record of its namespace, and
//! says that the endpoint is active and what it claims; of one that is being built or taken down
//! the last frame says nothing, and the record is read. Frames are written under the ledger lock and
//! before the record that they are about, so a killed process leaves no record with a frame that is
//! older.
//!
//! A frame (`frames.rs`) has the layout, the namespace and the claim, which is absent from one that says
//! nothing.

use std::collections::HashMap;
use std::io::Write;

use super::frames::{self, frames};
use super::store::{Files, LedgerLock, Store, View, remove_file, replace};
use crate::error::{Context, Result};
use crate::types::claim::Claim;
use crate::types::id::NetnsCookie;
use crate::types::record::{EndpointRecord, Phase};

const CLAIMS: &str = "claims";

/// To be another one whenever a field of [`Claim`] changes: postcard does not tell one from the next.
const LAYOUT: u8 = 1;

/// Frames beyond two for each record at which the file is written anew without what is superseded.
const SURPLUS: usize = 16;

impl View {
    /// The claims of this boot, of these records and in their order. A record that cannot be read
    /// claims nothing.
    #[must_use]
    pub fn claims(&self, files: &Files, boot_id: &str) -> Vec<Claim> {
        if files.records.is_empty() {
            return Vec::new();
        }
        let mut claims = self.read_claims(files, self.claims_file());
        claims.retain(|claim| claim.boot_id == boot_id);
        claims
    }

    /// The files are older than the bytes, since a claim is there before its record.
    fn read_claims(&self, files: &Files, bytes: Vec<u8>) -> Vec<Claim> {
        let mut last = last_claims(bytes, files.records.len()).unwrap_or_default();
        let on_record = |cookie| {
            let record = self.find(cookie).ok().flatten();
            let record = record.filter(|record| record.cookie == cookie);
            record.map(|record| Claim::from(&record))
        };
        let claim = |cookie: &NetnsCookie| match last.remove(cookie) {
            Some(Some(claim)) => Some(claim),
            _ => on_record(*cookie),
        };
        files.records.iter().filter_map(claim).collect()
    }

    fn claims_file(&self) -> Vec<u8> {
        frames::read(&self.file(CLAIMS))
    }
}

impl Store {
    /// Says what is about to be on record.
    pub(super) fn claim(&self, _lock: &LedgerLock, record: &EndpointRecord) -> Result<()> {
        let frame = frame(&Claim::from(record))?;
        let path = self.view().file(CLAIMS);
        frames::open(&path)
            .and_then(|mut file| file.write_all(&frame))
            .with_context(|| format!("write {}", path.display()))
    }

    /// Removes the file where there is no record any more.
    pub(super) fn end_claims(&self, _lock: &LedgerLock) -> Result<()> {
        if self.view().files()?.records.is_empty() {
            remove_file(&self.view().file(CLAIMS))?;
        }
        Ok(())
    }

    /// Writes the file anew, if much of it is superseded or damaged; removes it where there is no record.
    ///
    /// # Errors
    /// When the records cannot be listed or the file not written.
    pub fn shorten_claims(&self, _lock: &LedgerLock) -> Result<()> {
        let files = self.view().files()?;
        let path = self.view().file(CLAIMS);
        if files.records.is_empty() {
            return remove_file(&path);
        }
        let mut bytes = self.view().claims_file();
        if frames(&mut bytes).count() <= 2 * files.records.len() + SURPLUS {
            return Ok(());
        }
        let claims = self.view().read_claims(&files, bytes);
        let frames = claims.iter().map(frame).collect::<Result<Vec<_>>>()?;
        replace(&path, &frames.concat(), |_| Ok(()))
    }
}

/// What a frame says of its namespace.
type Said<C> = (u8, NetnsCookie, Option<C>);

fn frame(claim: &Claim) -> Result<Vec<u8>> {
    let active = (claim.phase == Phase::Active).then_some(claim);
    let said: Said<&Claim> = (LAYOUT, claim.cookie, active);
    frames::frame(&said)
}

/// What was last said of each namespace. `None` if there is another thing among it, but for the last
/// of all, which may be just being written: what it took back would stand again.
fn last_claims(mut bytes: Vec<u8>, count: usize) -> Option<HashMap<NetnsCookie, Option<Claim>>> {
    let mut last = HashMap::with_capacity(count);
    let mut frames = frames(&mut bytes);
    while let Some(frame) = frames.next() {
        match postcard::from_bytes_cobs::<Said<Claim>>(frame) {
            Ok((LAYOUT, cookie, claim)) => last.insert(cookie, claim),
            _ if frames.next().is_none() => break,
            _ => return None,
        };
    }
    Some(last)
}

#[cfg(test)]
mod tests;
