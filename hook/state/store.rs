//! Records of endpoints, one JSON file each, and the list of the last failures.
//!
//! A file appears by rename, so a reader sees all of it or none; nothing is synced, since the
//! state ends with the boot. [`View`] cannot write and creates nothing; [`Store`] can. The ledger
//! lock covers the choice of ids and addresses only, never a kernel call.
//! A file that cannot be read is left where it is and reported; it never stops a start.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Paths;
use super::lock::{Deadline, Lock};
use super::names::{any_name, cookie_and_extension, cookie_of, extension_of, for_names, list};
use super::sweep::{TEMPORARY, is_left};
use crate::error::{Context, Error, Kind, Result};
use crate::facts::Ledger;
use crate::types::claim::Claim;
use crate::types::id::NetnsCookie;
use crate::types::lease::Leases;
use crate::types::record::{EndpointRecord, Phase};

/// How many failures are remembered.
pub const FAILURES_KEPT: usize = 100;

const ENDPOINTS: &str = "endpoints";
/// End of the name of a record.
const RECORD: &str = ".json";
const JOURNAL: &str = "journal";
const FAILURES: &str = "errors.json";
const LEDGER_LOCK: &str = "ledger.lock";
const FAILURES_LOCK: &str = "errors.lock";
const GENERATION_LOCK: &str = "generation.lock";

/// A start or stop that failed, for `errors`: engines hide what hooks print.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Seconds since 1970.
    pub time: u64,
    /// OCI id, if it came that far.
    pub container_id: Option<String>,
    /// What was asked: "hook create".
    pub command: String,
    /// Kind of the error, in words.
    pub kind: String,
    /// Exit code.
    pub exit_code: u8,
    /// The report, hint included.
    pub text: String,
}

/// A file that is no record of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faulty {
    /// The file.
    pub path: PathBuf,
    /// The namespace that it is named after, if it is.
    pub cookie: Option<NetnsCookie>,
    /// Why it cannot be used.
    pub reason: String,
}

/// All records on disk, of whatever boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// In order of their cookie.
    pub records: Vec<EndpointRecord>,
    /// What could not be read.
    pub faulty: Vec<Faulty>,
}

/// What there is of endpoints, by the names of their files.
#[derive(Clone, Debug, Default)]
pub(super) struct Files {
    /// Namespaces that have a record or a lock, in no order.
    pub(super) namespaces: Vec<NetnsCookie>,
    /// One was being written by a process that has ended.
    pub(super) has_left: bool,
    /// One is named after no namespace.
    pub(super) has_odd: bool,
}

/// Reads the state; never writes, never creates.
#[derive(Clone, Debug)]
pub struct View {
    dir: PathBuf,
    lasting_dir: PathBuf,
}

/// Writes the state.
#[derive(Clone, Debug)]
pub struct Store {
    view: View,
}

/// Held while ids and addresses are chosen and written down.
#[derive(Debug)]
pub struct LedgerLock {
    _lock: Lock,
}

impl View {
    /// The state there is; none is fine.
    #[must_use]
    pub fn new(paths: &Paths) -> Self {
        Self {
            dir: paths.state_dir.clone(),
            lasting_dir: paths.lasting_dir.clone(),
        }
    }

    /// Every record.
    ///
    /// # Errors
    /// When the directory cannot be listed. A missing one is empty.
    pub fn contents(&self) -> Result<Contents> {
        let mut contents = Contents::default();
        for path in list(&self.dir.join(ENDPOINTS), "json")? {
            match read_json::<EndpointRecord>(&path) {
                Ok(Some(record)) if path == self.record_path(record.cookie) => {
                    contents.records.push(record);
                }
                Ok(Some(_)) => contents.faulty.push(Faulty {
                    cookie: cookie_of(&path),
                    path,
                    reason: "speaks of another namespace than its name".into(),
                }),
                Ok(None) => {}
                Err(e) => contents.faulty.push(Faulty {
                    cookie: cookie_of(&path),
                    path,
                    reason: e.to_string(),
                }),
            }
        }
        Ok(contents)
    }

    /// Every record of this boot.
    ///
    /// # Errors
    /// As [`View::contents`].
    pub fn records(&self, boot_id: &str) -> Result<Vec<EndpointRecord>> {
        let mut records = self.contents()?.records;
        records.retain(|r| r.boot_id == boot_id);
        Ok(records)
    }

    /// All endpoints of this boot, without the leases.
    ///
    /// # Errors
    /// As [`View::contents`].
    pub fn ledger(&self, boot_id: &str) -> Result<Ledger> {
        Ok(Ledger::whole(self.records(boot_id)?, Leases::default()))
    }

    /// What there is of endpoints.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub(super) fn files(&self) -> Result<Files> {
        let mut files = Files::default();
        for_names(&self.endpoints_dir(), |name| {
            match cookie_and_extension(name) {
                Some((cookie, "json" | "lock")) => files.namespaces.push(cookie),
                _ => {
                    files.has_left |= is_left(name);
                    files.has_odd |= matches!(extension_of(name), Some("json" | "lock"));
                }
            }
        })?;
        Ok(files)
    }

    /// Namespaces that have a record, in no order.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub(super) fn with_records(&self) -> Result<Vec<NetnsCookie>> {
        let mut found = Vec::new();
        for_names(&self.endpoints_dir(), |name| {
            if let Some((cookie, "json")) = cookie_and_extension(name) {
                found.push(cookie);
            }
        })?;
        Ok(found)
    }

    /// Whether one of the records is so, or cannot be read and may be. Reads no further than needed.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn has_any(&self, is_so: &dyn Fn(&EndpointRecord) -> bool) -> Result<bool> {
        let dir = self.endpoints_dir();
        any_name(&dir, |name| {
            if !name.ends_with(RECORD) {
                return false;
            }
            let path = dir.join(name);
            match read_json::<EndpointRecord>(&path) {
                Ok(Some(record)) => path != self.record_path(record.cookie) || is_so(&record),
                // Removed since it was listed.
                Ok(None) => false,
                Err(_) => true,
            }
        })
    }

    /// Whether there is a record, readable or not.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub(super) fn has_records(&self) -> Result<bool> {
        any_name(&self.endpoints_dir(), |name| name.ends_with(RECORD))
    }

    /// The record of a namespace, of whatever boot.
    ///
    /// # Errors
    /// When there is a file that is no record.
    pub fn find(&self, cookie: NetnsCookie) -> Result<Option<EndpointRecord>> {
        read_json(&self.record_path(cookie))
    }

    /// Namespaces with a journal: being built, or left half built.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn journals(&self) -> Result<Vec<NetnsCookie>> {
        let files = list(&self.dir.join(JOURNAL), "jsonl")?;
        Ok(files.iter().filter_map(|p| cookie_of(p)).collect())
    }

    /// The journal of a namespace; `apply/journal.rs` owns what is in it.
    #[must_use]
    pub fn journal_path(&self, cookie: NetnsCookie) -> PathBuf {
        self.dir.join(JOURNAL).join(cookie.file_name() + ".jsonl")
    }

    /// The last failures, oldest first.
    ///
    /// # Errors
    /// When the file is there and no list of failures.
    pub fn failures(&self) -> Result<Vec<Failure>> {
        Ok(read_json(&self.failures_path())?.unwrap_or_default())
    }

    pub(super) fn failures_path(&self) -> PathBuf {
        self.dir.join(FAILURES)
    }

    pub(super) fn endpoints_dir(&self) -> PathBuf {
        self.dir.join(ENDPOINTS)
    }

    /// A file of what outlives the boot; the directory may be missing.
    pub(super) fn lasting_file(&self, name: &str) -> PathBuf {
        self.lasting_dir.join(name)
    }

    /// Whether a new endpoint of the namespace could not be written down beside what is there: a
    /// journal, or a record that cannot be read. An earlier boot left it, or a killed hook.
    #[must_use]
    pub fn is_obstructed(&self, cookie: NetnsCookie) -> bool {
        self.journal_path(cookie).exists() || self.find(cookie).is_err()
    }

    /// Whether there is a file, readable or not.
    pub(super) fn has_record(&self, cookie: NetnsCookie) -> bool {
        self.record_path(cookie).exists()
    }

    /// A file of the state directory itself.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(super) fn record_path(&self, cookie: NetnsCookie) -> PathBuf {
        self.dir.join(ENDPOINTS).join(record_name(cookie))
    }
}

fn record_name(cookie: NetnsCookie) -> String {
    cookie.file_name() + RECORD
}

impl Store {
    /// Opens the state, creating its directories.
    ///
    /// # Errors
    /// [`Kind::NotPermitted`] when the directory belongs to someone else or others may enter it.
    pub fn open(paths: &Paths) -> Result<Self> {
        let view = View::new(paths);
        private_dir(&view.dir)?;
        private_dir(&view.dir.join(ENDPOINTS))?;
        private_dir(&view.dir.join(JOURNAL))?;
        Ok(Self { view })
    }

    /// The reading half.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Waits for the ledger.
    ///
    /// # Errors
    /// [`Kind::Timeout`] when another process keeps it.
    pub fn lock_ledger(&self, deadline: &Deadline) -> Result<LedgerLock> {
        let lock = Lock::acquire(&self.view.dir.join(LEDGER_LOCK), deadline)?;
        Ok(LedgerLock { _lock: lock })
    }

    /// Waits for the right to load, unload, and attach to or detach from uplinks.
    ///
    /// # Errors
    /// [`Kind::Timeout`] when another process keeps it.
    pub fn lock_generation(&self, deadline: &Deadline) -> Result<Lock> {
        Lock::acquire(&self.view.dir.join(GENERATION_LOCK), deadline)
    }

    /// The right to build or take down an endpoint; `None` while another process does. Held from
    /// before the first change to after the last, so that nobody works by a stale record: ids are
    /// reused. Taken before any other lock.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn try_lock_endpoint(&self, cookie: NetnsCookie) -> Result<Option<Lock>> {
        Lock::try_acquire(&self.endpoint_lock(cookie))
    }

    /// As [`Store::try_lock_endpoint`], but waits.
    ///
    /// # Errors
    /// [`Kind::Timeout`] when another process keeps it.
    pub fn lock_endpoint(&self, cookie: NetnsCookie, deadline: &Deadline) -> Result<Lock> {
        Lock::acquire(&self.endpoint_lock(cookie), deadline)
    }

    fn endpoint_lock(&self, cookie: NetnsCookie) -> PathBuf {
        self.view
            .dir
            .join(ENDPOINTS)
            .join(cookie.file_name() + ".lock")
    }

    /// Takes the record's id and addresses: from here on it counts, in phase creating.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when the namespace has a record of this boot.
    pub fn reserve(&self, lock: &LedgerLock, record: &EndpointRecord) -> Result<()> {
        let there = self.view.find(record.cookie)?;
        if there.is_some_and(|r| r.boot_id == record.boot_id) {
            return Err(Error::new(
                Kind::Conflict,
                format!(
                    "network namespace {} has an endpoint already",
                    record.cookie
                ),
            ));
        }
        let record = EndpointRecord {
            phase: Phase::Creating,
            ..record.clone()
        };
        self.note(&record.lease());
        let path = self.view.record_path(record.cookie);
        let written = self.write_claimed(lock, &record, None, || write_json(&path, &record));
        if written.is_err() {
            // The first error is the one to tell.
            let _ = self.end_claim(lock, &record);
        }
        written
    }

    /// Writes the record of an endpoint that stands: members, rules, phase.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when it was removed meanwhile.
    pub fn update(&self, lock: &LedgerLock, record: &EndpointRecord) -> Result<()> {
        match self.view.find(record.cookie)? {
            Some(r) if r.boot_id == record.boot_id => {
                let path = self.view.record_path(record.cookie);
                let write = || write_json(&path, record);
                if Claim::from(&r) == Claim::from(record) {
                    write()
                } else {
                    self.write_claimed(lock, record, Some(&r), write)
                }
            }
            _ => Err(Error::new(
                Kind::Conflict,
                format!("endpoint of network namespace {} is gone", record.cookie),
            )),
        }
    }

    /// Marks the endpoint as complete.
    ///
    /// # Errors
    /// As [`Store::update`].
    pub fn activate(&self, lock: &LedgerLock, record: &mut EndpointRecord) -> Result<()> {
        record.phase = Phase::Active;
        self.update(lock, record)
    }

    /// Gives up the id and addresses. Gone already is fine; so is a record of another boot, which
    /// stays.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn remove(&self, lock: &LedgerLock, cookie: NetnsCookie, boot_id: &str) -> Result<()> {
        let path = self.view.record_path(cookie);
        match self.view.find(cookie)? {
            Some(r) if r.boot_id == boot_id => {
                remove_file(&path)?;
                self.note(&r.lease());
                self.end_claim(lock, &r)
            }
            _ => Ok(()),
        }
    }

    /// Remembers a failure; the oldest beyond [`FAILURES_KEPT`] is forgotten.
    ///
    /// # Errors
    /// When the list cannot be locked or written. A list that cannot be read starts anew.
    pub fn remember(&self, failure: Failure, deadline: &Deadline) -> Result<()> {
        let _lock = Lock::acquire(&self.view.dir.join(FAILURES_LOCK), deadline)?;
        let mut list = self.view.failures().unwrap_or_default();
        list.push(failure);
        let surplus = list.len().saturating_sub(FAILURES_KEPT);
        list.drain(..surplus);
        write_json(&self.view.dir.join(FAILURES), &list)
    }

    /// Removes the directory with all in it, for `unload`.
    ///
    /// # Errors
    /// [`Kind::Conflict`] while there are endpoints.
    pub fn destroy(self, _lock: LedgerLock) -> Result<()> {
        if !self.view.contents()?.records.is_empty() {
            return Err(Error::new(Kind::Conflict, "there are endpoints"));
        }
        fs::remove_dir_all(&self.view.dir)
            .with_context(|| format!("remove {}", self.view.dir.display()))
    }
}

/// Creates a directory of mode 0700, or checks that what is there is ours alone.
pub(super) fn private_dir(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return Ok(()),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
        Err(e) => return Err(e).with_context(|| format!("create {}", path.display())),
    }
    let meta = fs::symlink_metadata(path).with_context(|| format!("look at {}", path.display()))?;
    if !meta.is_dir() || meta.uid() != nix::unistd::geteuid().as_raw() || meta.mode() & 0o077 != 0 {
        return Err(Error::new(
            Kind::NotPermitted,
            format!(
                "{} is not a directory that only this user may enter",
                path.display()
            ),
        )
        .with_hint(format!("remove it, or: chmod 700 {}", path.display())));
    }
    Ok(())
}

pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("read {}", path.display())),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| {
        Error::new(Kind::Internal, e.to_string()).with_context(format!("read {}", path.display()))
    })
}

/// Writes beside the file, then renames over it. The name has the pid, so two writers never share
/// it; a leftover of a killed one does not end in .json, so it is ignored until it is swept.
pub(super) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let text = serde_json::to_vec(value).map_err(|e| {
        Error::new(Kind::Internal, e.to_string()).with_context(format!("write {}", path.display()))
    })?;
    replace(path, &text, |_| Ok(()))
}

/// As [`write_json`] with any bytes; `finish` runs before the file appears.
pub(super) fn replace(
    path: &Path,
    bytes: &[u8],
    finish: impl Fn(&File) -> io::Result<()>,
) -> Result<()> {
    let temporary = path.with_extension(format!("{TEMPORARY}{}", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| finish(&file)))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.with_context(|| format!("write {}", path.display()))
}

/// Removes a file; gone already is fine.
pub(crate) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        other => other.with_context(|| format!("remove {}", path.display())),
    }
}

#[cfg(test)]
mod tests;
