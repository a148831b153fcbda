//! The claims of all endpoints in one file, so that a start need not open a thousand
//! records.
//!
//! The records are what counts. A frame is used only while there is a record of its namespace, and
//! says that the endpoint is active and what it claims; of one that is being built or taken down
//! the last frame says nothing, and the record is read. Frames are written under the ledger lock and
//! before the record that they are about, so a killed process leaves no record with a frame that is
//! older.
//!
//! The first frame (`frames.rs`) has the layout and the boot: a file of another one says nothing, and is
//! begun anew by who writes next. The others have the namespace and the claim, which is absent from one
//! that says nothing.

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
const LAYOUT: u8 = 2;

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
        self.read_claims(files, self.claims_file(), boot_id)
    }

    /// The files are older than the bytes, since a claim is there before its record.
    fn read_claims(&self, files: &Files, bytes: Vec<u8>, boot_id: &str) -> Vec<Claim> {
        let last = is_of(boot_id, &bytes).then(|| last_claims(bytes, files.records.len()));
        let mut last = last.flatten().unwrap_or_default();
        let on_record = |cookie| {
            let record = self.find(cookie).ok().flatten();
            let record = record.filter(|r| r.cookie == cookie && r.boot_id == boot_id);
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
        let head = head(&record.boot_id)?;
        if !frames::begins_with(&path, &head) {
            return replace(&path, &[head, frame].concat(), |_| Ok(()));
        }
        frames::open(&path)
            .and_then(|mut file| file.write_all(&frame))
            .with_context(|| format!("write {}", path.display()))
    }

    /// Removes the file where there is no record any more.
    pub(super) fn end_claims(&self, _lock: &LedgerLock) -> Result<()> {
        if self.view().has_records()? {
            return Ok(());
        }
        remove_file(&self.view().file(CLAIMS))
    }

    /// Writes the file anew with the claims of this boot, if it says nothing or much of it is superseded
    /// or damaged; removes it where there is no record.
    ///
    /// # Errors
    /// When the records cannot be listed or the file not written.
    pub fn shorten_claims(&self, _lock: &LedgerLock, boot_id: &str) -> Result<()> {
        let files = self.view().files()?;
        let path = self.view().file(CLAIMS);
        if files.records.is_empty() {
            return remove_file(&path);
        }
        let mut bytes = self.view().claims_file();
        let most = 2 * files.records.len() + SURPLUS;
        if is_of(boot_id, &bytes) && frames(&mut bytes).skip(1).count() <= most {
            return Ok(());
        }
        let claims = self.view().read_claims(&files, bytes, boot_id);
        let frames = std::iter::once(head(boot_id)).chain(claims.iter().map(frame));
        let frames = frames.collect::<Result<Vec<_>>>()?;
        replace(&path, &frames.concat(), |_| Ok(()))
    }
}

/// What a frame says of its namespace.
type Said<C> = (NetnsCookie, Option<C>);

fn head(boot_id: &str) -> Result<Vec<u8>> {
    frames::frame(&(LAYOUT, boot_id))
}

fn is_of(boot_id: &str, bytes: &[u8]) -> bool {
    head(boot_id).is_ok_and(|head| bytes.starts_with(&head))
}

fn frame(claim: &Claim) -> Result<Vec<u8>> {
    let active = (claim.phase == Phase::Active).then_some(claim);
    let said: Said<&Claim> = (claim.cookie, active);
    frames::frame(&said)
}

/// What was last said of each namespace. `None` if there is another thing among it, but for the last
/// of all, which may be just being written: what it took back would stand again.
fn last_claims(mut bytes: Vec<u8>, count: usize) -> Option<HashMap<NetnsCookie, Option<Claim>>> {
    let mut last = HashMap::with_capacity(count);
    let mut frames = frames(&mut bytes).skip(1);
    while let Some(frame) = frames.next() {
        match postcard::from_bytes_cobs::<Said<Claim>>(frame) {
            Ok((cookie, claim)) => last.insert(cookie, claim),
            Err(_) if frames.next().is_none() => break,
            Err(_) => return None,
        };
    }
    Some(last)
}

#[cfg(test)]
mod tests;
