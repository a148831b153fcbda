//! The claims of all endpoints in one file, so that a start need not open a thousand records, nor list
//! them.
//!
//! The records are what counts. The file has a head, and the [`Claim`] of each endpoint where its id
//! says. Claims are written under the ledger lock. One is there before its record and as long as that,
//! has a container no later and is active no sooner: a killed process leaves claims of more than
//! there is, never of less, and what it was building or taking down is not active.
//!
//! Who only reads takes no lock: the head counts changes, and an odd number says that one is under way.
//! A process that was killed in between leaves it odd, and who writes next begins the file anew, from
//! the records; as it does where the head is of another layout or boot. Until then the records are
//! read.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nix::time::{ClockId, clock_gettime};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::store::{LedgerLock, Store, View, remove_file, replace};
use crate::error::{Context, Error, Kind, Result};
use crate::facts::Ledger;
use crate::types::claim::{Claim, Interest};
use crate::types::id::{EndpointId, NetnsCookie};
use crate::types::lease::Leases;
use crate::types::record::{EndpointRecord, Phase};

const CLAIMS: &str = "claims";

/// With its version at the end: to be another one whenever a field of [`Head`] or [`Claim`] changes.
const LAYOUT: [u8; 8] = *b"nkclaim3";

/// How often a reader looks again while somebody writes.
const ATTEMPTS: usize = 3;

/// What the file begins with. In host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Head {
    layout: [u8; 8],
    /// Since an arbitrary number, which no other file of the boot had; odd while one is under way.
    changes: u64,
    /// /proc/sys/kernel/random/boot_id, which has 36 bytes.
    boot_id: [u8; 40],
}

const HEAD: usize = size_of::<Head>();
const CLAIM: usize = size_of::<Claim>();

/// Tells whether the claims are still those that were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimsStamp(u64);

impl Head {
    /// Of a file that begins.
    fn new(boot_id: &str) -> Result<Self> {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).context("read the clock")?;
        let nanoseconds =
            1_000_000_000 * now.tv_sec().unsigned_abs() + now.tv_nsec().unsigned_abs();
        Ok(Self {
            layout: LAYOUT,
            changes: nanoseconds & !1,
            boot_id: padded(boot_id),
        })
    }

    fn is_of(&self, boot_id: &str) -> bool {
        (self.layout, self.boot_id) == (LAYOUT, padded(boot_id))
    }

    fn is_settled(&self) -> bool {
        self.changes % 2 == 0
    }

    fn read(file: &File) -> Option<Self> {
        let mut bytes = [0; HEAD];
        file.read_exact_at(&mut bytes, 0).ok()?;
        Self::read_from_bytes(&bytes).ok()
    }
}

fn padded(boot_id: &str) -> [u8; 40] {
    let mut bytes = [0; 40];
    for (place, byte) in bytes.iter_mut().zip(boot_id.bytes()) {
        *place = byte;
    }
    bytes
}

impl View {
    /// The claims of this boot, in the order of their ids; `None` if the file does not say.
    #[must_use]
    pub fn claims(&self, boot_id: &str) -> Option<(Vec<Claim>, ClaimsStamp)> {
        let file = File::open(self.file(CLAIMS)).ok()?;
        (0..ATTEMPTS).find_map(|_| read(&file, boot_id))
    }

    /// Whether the claims are still those.
    #[must_use]
    pub fn has_claims(&self, boot_id: &str, stamp: ClaimsStamp) -> bool {
        let file = File::open(self.file(CLAIMS));
        let head = file.ok().and_then(|file| Head::read(&file));
        head.is_some_and(|head| head.is_of(boot_id) && head.changes == stamp.0)
    }

    /// The endpoints of this boot, as far as they concern a start, without the leases; all of them
    /// where the file of claims does not say. No stamp then, nor where a record is missing: a claim
    /// is there first, so who looks without the lock may be just before it.
    ///
    /// # Errors
    /// As [`View::contents`].
    pub fn ledger_for(
        &self,
        boot_id: &str,
        interest: &Interest,
    ) -> Result<(Ledger, Option<ClaimsStamp>)> {
        let Some((claims, stamp)) = self.claims(boot_id) else {
            return Ok((self.ledger(boot_id)?, None));
        };
        let concerned: Vec<Claim> = claims
            .iter()
            .filter(|claim| interest.concerns(claim))
            .copied()
            .collect();
        let records = self.records_of(&concerned, boot_id, |_| true);
        let is_whole = records.len() == concerned.len();
        let is_unreadable = |c: &Claim| interest.may_meet(c) && self.find(c.cookie()).is_err();
        let unreadable = if is_whole {
            Vec::new()
        } else {
            concerned.into_iter().filter(is_unreadable).collect()
        };
        let ledger = Ledger {
            claims,
            records,
            unreadable,
            leases: Leases::default(),
        };
        Ok((ledger, is_whole.then_some(stamp)))
    }

    /// Records of some of the endpoints. One that cannot be read is missing.
    pub fn records_of(
        &self,
        claims: &[Claim],
        boot_id: &str,
        is_wanted: impl Fn(&Claim) -> bool,
    ) -> Vec<EndpointRecord> {
        let wanted = claims.iter().filter(|claim| is_wanted(claim));
        let found = wanted.filter_map(|claim| self.find(claim.cookie()).ok().flatten());
        found.filter(|record| record.boot_id == boot_id).collect()
    }

    /// Whether there are records of just these, as far as their names tell, and those that are not
    /// active say so themselves.
    fn is_told(&self, claims: &[Claim]) -> Result<bool> {
        let mut records = self.with_records()?;
        let mut claimed: Vec<NetnsCookie> = claims.iter().map(Claim::cookie).collect();
        records.sort_unstable();
        claimed.sort_unstable();
        let says = |claim: &Claim| {
            let record = self.find(claim.cookie()).ok().flatten();
            record.is_some_and(|record| Claim::from(&record) == *claim)
        };
        Ok(records == claimed && claims.iter().all(|c| c.is_active() || says(c)))
    }
}

fn read(file: &File, boot_id: &str) -> Option<(Vec<Claim>, ClaimsStamp)> {
    let head = Head::read(file)?;
    let len = usize::try_from(file.metadata().ok()?.len()).ok()?;
    let mut claims = Claim::new_vec_zeroed(len.checked_sub(HEAD)? / CLAIM).ok()?;
    file.read_exact_at(claims.as_mut_bytes(), HEAD as u64)
        .ok()?;
    if !head.is_of(boot_id) || !head.is_settled() || Head::read(file) != Some(head) {
        return None;
    }
    claims.retain(|claim| !claim.is_free());
    Some((claims, ClaimsStamp(head.changes)))
}

impl Store {
    /// Writes the record of an endpoint, with its claim; `before` is what was on record.
    pub(super) fn write_claimed(
        &self,
        lock: &LedgerLock,
        record: &EndpointRecord,
        before: Option<&EndpointRecord>,
        write: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let claim = || self.write_claim(lock, record, Claim::from(record));
        let is_joined = before.is_some_and(|b| b.members.len() < record.members.len());
        if record.phase == Phase::Active && !is_joined {
            write()?;
            claim()
        } else {
            claim()?;
            write()
        }
    }

    /// After its record is gone; removes the file with the last one.
    pub(super) fn end_claim(&self, lock: &LedgerLock, record: &EndpointRecord) -> Result<()> {
        if self.view().has_records()? {
            self.write_claim(lock, record, Claim::free())
        } else {
            remove_file(&self.view().file(CLAIMS))
        }
    }

    fn write_claim(&self, lock: &LedgerLock, record: &EndpointRecord, claim: Claim) -> Result<()> {
        let path = self.view().file(CLAIMS);
        let file = open(&path);
        let head = file.as_ref().and_then(Head::read);
        let head = head.filter(|head| head.is_of(&record.boot_id) && head.is_settled());
        let (Some(file), Some(head)) = (file, head) else {
            return self.begin_claims(lock, &record.boot_id, Some((record.id, claim)));
        };
        let at = place(record.id)? as u64;
        let changed = |by| Head {
            changes: head.changes.wrapping_add(by),
            ..head
        };
        file.write_all_at(changed(1).as_bytes(), 0)
            .and_then(|()| file.write_all_at(claim.as_bytes(), at))
            .and_then(|()| file.write_all_at(changed(2).as_bytes(), 0))
            .with_context(|| format!("write {}", path.display()))
    }

    /// Writes the file anew from the records, and what is not on record: to be, or cannot be read.
    fn begin_claims(
        &self,
        _lock: &LedgerLock,
        boot_id: &str,
        others: impl IntoIterator<Item = (EndpointId, Claim)>,
    ) -> Result<()> {
        let records = self.view().records(boot_id)?;
        let of_records = records
            .iter()
            .map(|record| (record.id, Claim::from(record)));
        let mut bytes = Head::new(boot_id)?.as_bytes().to_vec();
        for (id, claim) in of_records.chain(others) {
            let at = place(id)?;
            if bytes.len() < at + CLAIM {
                bytes.resize(at + CLAIM, 0);
            }
            bytes[at..at + CLAIM].copy_from_slice(claim.as_bytes());
        }
        replace(&self.view().file(CLAIMS), &bytes, |_| Ok(()))
    }

    /// Writes the file anew if it does not say what the records do; removes it where there is none.
    ///
    /// # Errors
    /// When the records cannot be listed or the file not written.
    pub fn mend_claims(&self, lock: &LedgerLock, boot_id: &str) -> Result<()> {
        if !self.view().has_records()? {
            return remove_file(&self.view().file(CLAIMS));
        }
        let (there, _) = self.view().claims(boot_id).unzip();
        let there = there.unwrap_or_default();
        if self.view().is_told(&there)? {
            return Ok(());
        }
        // It may well be running.
        let is_unreadable = |claim: &&Claim| self.view().find(claim.cookie()).is_err();
        let unreadable: Vec<Claim> = there.iter().filter(is_unreadable).copied().collect();
        let mut wanted = self.view().ledger(boot_id)?.claims;
        wanted.extend(&unreadable);
        wanted.sort_unstable_by_key(Claim::id);
        if there == wanted {
            return Ok(());
        }
        self.begin_claims(lock, boot_id, unreadable.iter().map(|c| (c.id(), *c)))
    }
}

/// Where the claim of an endpoint is, in bytes.
fn place(id: EndpointId) -> Result<usize> {
    if id.0 < EndpointId::COUNT {
        Ok(HEAD + CLAIM * id.0 as usize)
    } else {
        let text = format!("{id} is no id of an endpoint");
        Err(Error::new(Kind::Internal, text))
    }
}

fn open(path: &Path) -> Option<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)
        .ok()
}

#[cfg(test)]
mod tests;
