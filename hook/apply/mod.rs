//! Runs a plan's steps in order and takes them back newest first, the failed one included.
//!
//! Each step's undo is in the journal before the step runs, so that a process killed at any
//! instruction leaves a list of what may have to be taken back; [`recover`] does that. Touches the
//! kernel through [`Host`] only, decides nothing.

pub mod journal;

use std::path::Path;

pub use crate::kernel::host::Host;

use crate::error::{Context, Error, ErrorList, Result};
use crate::kernel::host::RealHost;
use crate::kernel::netns::Netns;
use crate::plan::step::{Step, Undo};
use crate::state::Paths;
use crate::state::lock::Deadline;
use crate::state::store::Store;
use crate::types::record::{EndpointRecord, Phase};
use journal::{FileJournal, Journal};

/// Runs the steps. If one fails or time runs out, takes back all that may have happened.
///
/// # Errors
/// The step's error; if taking back failed too, that is in the text.
pub fn apply(
    steps: &[Step],
    record: &EndpointRecord,
    host: &mut dyn Host,
    journal: &mut dyn Journal,
    deadline: &Deadline,
) -> Result<()> {
    let mut done = Vec::new();
    for step in steps {
        let result = run(step, record, host, journal, deadline, &mut done);
        if let Err(cause) = result {
            done.reverse();
            return Err(both(cause, &teardown(&done, host)));
        }
    }
    Ok(())
}

/// One step: journal first, since SIGKILL may land between.
fn run(
    step: &Step,
    record: &EndpointRecord,
    host: &mut dyn Host,
    journal: &mut dyn Journal,
    deadline: &Deadline,
    done: &mut Vec<Undo>,
) -> Result<()> {
    let what = step.describe();
    deadline.check(&what)?;
    if let Some(undo) = step.undo(record) {
        journal.record(&undo).context("write journal")?;
        done.push(undo);
    }
    host.run(step).context(what)
}

/// Runs undos in the given order; one that fails does not stop the next.
pub fn teardown(undos: &[Undo], host: &mut dyn Host) -> ErrorList {
    let mut errors = ErrorList::new();
    for undo in undos {
        errors.keep(host.undo(undo));
    }
    errors
}

/// Keeps the cause in front and what rollback could not do behind it.
fn both(cause: Error, rollback: &ErrorList) -> Error {
    if rollback.is_empty() {
        return cause;
    }
    let texts: Vec<String> = rollback.iter().map(ToString::to_string).collect();
    let text = format!("{cause}; and taking it back failed: {}", texts.join("; "));
    let error = Error::new(cause.kind(), text);
    match cause.hint() {
        Some(hint) => error.with_hint(hint),
        None => error.with_hint("run: oci-netkit gc"),
    }
}

/// Builds an endpoint whose record is reserved already: journal, steps, record active.
///
/// On failure nothing is left but what the journal still holds; the reservation is given up only
/// when everything was taken back, else it stays for `gc`, so that its addresses are not reused.
///
/// # Errors
/// What went wrong, both causes if rollback failed too.
pub fn create(
    paths: &Paths,
    record: &EndpointRecord,
    steps: &[Step],
    netns: Netns,
    deadline: &Deadline,
) -> Result<EndpointRecord> {
    let store = Store::open(paths)?;
    let mut journal = FileJournal::create(&store.view().journal_path(record.cookie), record)?;
    let mut host = RealHost::new(paths, record.clone(), Some(netns));
    let built = apply(steps, record, &mut host, &mut journal, deadline)
        .and_then(|()| activate(&store, &mut host, deadline));
    match built {
        Ok(record) => {
            journal.finish()?;
            Ok(record)
        }
        Err(cause) => {
            let undos = journal.newest_first();
            let mut errors = teardown(&undos, &mut host);
            if errors.is_empty() {
                errors.keep(forget(&store, record, deadline));
                errors.keep(journal.finish());
            }
            Err(both(cause, &errors))
        }
    }
}

/// The record counts as complete; what was loaded for it stays.
fn activate(store: &Store, host: &mut RealHost, deadline: &Deadline) -> Result<EndpointRecord> {
    let lock = store.lock_ledger(deadline)?;
    let mut record = host.record().clone();
    store.activate(&lock, &mut record)?;
    host.commit()?;
    Ok(record)
}

fn forget(store: &Store, record: &EndpointRecord, deadline: &Deadline) -> Result<()> {
    // The deadline may be what failed; giving up a reservation gets its own moment.
    let time = deadline.remaining().max(std::time::Duration::from_secs(2));
    let lock = store.lock_ledger(&Deadline::after(time))?;
    store.remove(&lock, record.cookie, &record.boot_id)
}

/// Takes an endpoint down: the undos in the given order, then its record. Never stops; the record
/// stays if something could not be undone, so that `gc` tries again.
pub fn destroy(
    paths: &Paths,
    record: &EndpointRecord,
    undos: &[Undo],
    deadline: &Deadline,
) -> ErrorList {
    let mut host = RealHost::new(paths, record.clone(), None);
    let mut errors = teardown(undos, &mut host);
    if errors.is_empty() {
        let removed = Store::open(paths).and_then(|store| forget(&store, record, deadline));
        errors.keep(removed);
    }
    errors
}

/// What [`recover`] did.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Half-built endpoints that were taken down.
    pub endpoints: Vec<EndpointRecord>,
    /// Journals that could not be read: they stay, and are for people.
    pub errors: ErrorList,
}

/// Takes back what killed hooks left half done. Journals of hooks that still run are left alone.
///
/// # Errors
/// When the journals cannot be listed.
pub fn recover(paths: &Paths, boot_id: &str, deadline: &Deadline) -> Result<Recovered> {
    let store = Store::open(paths)?;
    let mut recovered = Recovered::default();
    for cookie in store.view().journals()? {
        let path = store.view().journal_path(cookie);
        match recover_one(&store, paths, &path, boot_id, deadline) {
            Ok(Some(record)) => recovered.endpoints.push(record),
            Ok(None) => {}
            Err(e) => {
                recovered
                    .errors
                    .push(e.with_context(format!("recover {}", path.display())));
            }
        }
    }
    Ok(recovered)
}

fn recover_one(
    store: &Store,
    paths: &Paths,
    path: &Path,
    boot_id: &str,
    deadline: &Deadline,
) -> Result<Option<EndpointRecord>> {
    let Some(journal) = FileJournal::adopt(path)? else {
        return Ok(None);
    };
    let Some(record) = journal.record_at_start().cloned() else {
        // Killed before the first line was whole: before any step.
        journal.finish()?;
        return Ok(None);
    };
    let now = store.view().find(record.cookie)?;
    let stands = now.is_some_and(|r| r.boot_id == record.boot_id && r.phase == Phase::Active);
    if record.boot_id != boot_id || stands {
        // Of another boot, or killed after the endpoint was complete.
        journal.finish()?;
        return Ok(None);
    }
    let mut host = RealHost::new(paths, record.clone(), None);
    teardown(&journal.newest_first(), &mut host).into_result(())?;
    forget(store, &record, deadline)?;
    journal.finish()?;
    Ok(Some(record))
}
