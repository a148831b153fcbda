//! Runs a plan's steps in order and takes them back newest first, the failed one included.
//!
//! Each step's undo is in the journal before the step runs, so that a process killed at any
//! instruction leaves a list of what may have to be taken back; [`recover`] does that. Touches the
//! kernel through [`Host`] only, decides nothing.

pub mod journal;
pub mod times;

use std::time::Duration;

pub use crate::kernel::host::Host;

use crate::error::{Context, Error, ErrorList, Kind, Result};
use crate::kernel::bpf::load;
use crate::kernel::bpffs::Pins;
use crate::kernel::host::RealHost;
use crate::kernel::netlink::Netlink;
use crate::kernel::netns::Netns;
use crate::plan::reconcile::LanEndpoint;
use crate::plan::revise::{PolicyWord, Revision};
use crate::plan::step::{Step, Undo};
use crate::state::Paths;
use crate::state::lock::{Deadline, Lock};
use crate::state::store::Store;
use crate::types::id::NetnsCookie;
use crate::types::record::{EndpointRecord, Phase};
use journal::{FileJournal, Journal};
use times::Laps;

/// Time for giving up a reservation, beside the deadline that ran out.
const GRACE: Duration = Duration::from_secs(2);

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
    let mut laps = Laps::start();
    for step in steps {
        let result = run(step, record, host, journal, deadline, &mut done);
        laps.end(step);
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
    deadline.check(step)?;
    if let Some(undo) = step.undo(record) {
        journal.record(&undo).context("write journal")?;
        done.push(undo);
    }
    host.run(step).with_context(|| step.to_string())
}

/// Runs undos in the given order; one that fails does not stop the next.
pub fn teardown(undos: &[Undo], host: &mut dyn Host) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut laps = Laps::start();
    for undo in undos {
        errors.keep(host.undo(undo));
        laps.end(undo);
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

/// Builds an endpoint whose record is reserved already: journal, steps, record active. `lock` is the
/// endpoint's, held since before the reservation: a reservation whose lock is free is a dead hook's.
///
/// On failure nothing is left; the reservation is given up only when everything was taken back,
/// else it stays with the journal for [`recover`], so that its id and addresses are not reused.
///
/// # Errors
/// What went wrong, both causes if rollback failed too. [`Kind::Conflict`] when the reservation is
/// gone.
pub fn create(
    paths: &Paths,
    lock: Lock,
    record: &EndpointRecord,
    steps: &[Step],
    netns: Netns,
    outside: Netlink,
    deadline: &Deadline,
) -> Result<EndpointRecord> {
    let host = RealHost::new(paths, record.clone(), Some(netns));
    let mut host = host.by(outside).until(*deadline);
    create_on(&mut host, paths, lock, record, steps, deadline)
}

/// As [`create`], on any host.
///
/// # Errors
/// As [`create`].
pub fn create_on(
    host: &mut dyn Host,
    paths: &Paths,
    lock: Lock,
    record: &EndpointRecord,
    steps: &[Step],
    deadline: &Deadline,
) -> Result<EndpointRecord> {
    let store = Store::open(paths)?;
    if !is_reserved(&store, record)? {
        let text = format!(
            "the reservation of network namespace {} is gone",
            record.cookie
        );
        return Err(Error::new(Kind::Conflict, text));
    }
    let path = store.view().journal_path(record.cookie);
    let mut journal = match FileJournal::create(&path, record) {
        Ok(journal) => journal,
        // Nothing has been touched yet, so nothing has to be taken back but the reservation.
        Err(cause) => {
            let given_up = forget(&store, record).and_then(|()| lock.remove());
            let mut errors = ErrorList::new();
            errors.keep(given_up);
            return Err(both(cause, &errors));
        }
    };
    let built = build(&store, record, steps, host, &mut journal, deadline);
    match built {
        Ok(record) => {
            // The endpoint stands; a journal that stays is dropped by `recover`.
            if let Err(e) = journal.finish() {
                log::warn!("{e}");
            }
            Ok(record)
        }
        Err(cause) => {
            let rollback = undo_journal(&store, record, host);
            if rollback.is_empty() {
                lock.remove()?;
            }
            Err(both(cause, &rollback))
        }
    }
}

/// Still the one that was planned, not a later endpoint's.
fn is_reserved(store: &Store, record: &EndpointRecord) -> Result<bool> {
    let now = store.view().find(record.cookie)?;
    Ok(now.is_some_and(|r| r.boot_id == record.boot_id && r.id == record.id))
}

/// Publication opens the endpoint: packets pass only once the record says that all stands, so
/// whatever a kill leaves either is on record or has no network. What was loaded then stays.
fn build(
    store: &Store,
    record: &EndpointRecord,
    steps: &[Step],
    host: &mut dyn Host,
    journal: &mut dyn Journal,
    deadline: &Deadline,
) -> Result<EndpointRecord> {
    let (building, opening) = steps.split_at(opening(steps));
    apply(building, record, host, journal, deadline)?;
    let mut laps = Laps::start();
    let record = activate(store, host, deadline)?;
    laps.end("note that it stands");
    apply(opening, &record, host, journal, deadline)?;
    host.commit()?;
    Ok(record)
}

/// Index of the step that opens the endpoint.
fn opening(steps: &[Step]) -> usize {
    let opens = |step: &Step| matches!(step, Step::PublishAddresses { .. });
    steps.iter().position(opens).unwrap_or(steps.len())
}

fn activate(store: &Store, host: &dyn Host, deadline: &Deadline) -> Result<EndpointRecord> {
    let lock = store.lock_ledger(deadline)?;
    let mut record = host.record().clone();
    store.activate(&lock, &mut record)?;
    Ok(record)
}

/// Takes back all that the journal says, then gives up the reservation. What [`apply`] took back
/// already is gone, which costs nothing to see again; what it could not is tried once more.
///
/// The journal goes before the record: killed in between, the record is left to `gc`. The other
/// way round, a journal would speak of an id that is somebody else's.
fn undo_journal(store: &Store, record: &EndpointRecord, host: &mut dyn Host) -> ErrorList {
    let path = store.view().journal_path(record.cookie);
    let mut errors = ErrorList::new();
    let entries = errors
        .keep(journal::read(&path))
        .flatten()
        .unwrap_or_default();
    for error in teardown(&entries.undos, host).iter() {
        errors.push(error.clone());
    }
    if errors.is_empty() {
        errors.keep(journal::finish(&path).and_then(|()| forget(store, record)));
    }
    errors
}

fn forget(store: &Store, record: &EndpointRecord) -> Result<()> {
    // The create's deadline may be what failed; giving up a reservation gets its own time.
    let lock = store.lock_ledger(&Deadline::after(GRACE))?;
    store.remove(&lock, record.cookie, &record.boot_id)
}

/// Takes an endpoint down: the undos in the given order, then its record. Never stops; the record
/// stays if something could not be undone, so that `gc` tries again. An endpoint that another
/// process builds or takes down at this moment is left to that one.
pub fn destroy(
    paths: &Paths,
    record: &EndpointRecord,
    undos: &[Undo],
    deadline: &Deadline,
) -> ErrorList {
    let mut errors = ErrorList::new();
    if let Err(e) = destroy_locked(paths, record, undos, deadline, &mut errors) {
        errors.push(e);
    }
    errors
}

fn destroy_locked(
    paths: &Paths,
    record: &EndpointRecord,
    undos: &[Undo],
    deadline: &Deadline,
    errors: &mut ErrorList,
) -> Result<()> {
    let store = Store::open(paths)?;
    let Some(lock) = store.try_lock_endpoint(record.cookie)? else {
        return Ok(());
    };
    if !is_reserved(&store, record)? {
        return lock.remove(); // another process took it down before
    }
    let mut host = RealHost::new(paths, record.clone(), None).until(*deadline);
    *errors = teardown(undos, &mut host);
    if errors.is_empty() {
        journal::finish(&store.view().journal_path(record.cookie))?;
        forget(&store, record)?;
        lock.remove()?;
    }
    Ok(())
}

/// Has the uplinks answer for an endpoint's addresses where these are asked for now; true if that
/// is elsewhere than on record. The record first, so that a teardown knows what to take away. An
/// endpoint that another process builds or takes down at this moment is left to that one.
///
/// # Errors
/// When the kernel refuses, or the record cannot be written.
pub fn serve(paths: &Paths, endpoint: &LanEndpoint, deadline: &Deadline) -> Result<bool> {
    let store = Store::open(paths)?;
    let Some(_lock) = store.try_lock_endpoint(endpoint.record.cookie)? else {
        return Ok(false);
    };
    let now = store.view().find(endpoint.record.cookie)?;
    let Some(mut record) = now.filter(|r| r.phase == Phase::Active && r.id == endpoint.record.id)
    else {
        return Ok(false);
    };
    if endpoint.has_moved() {
        record.lan.clone_from(&endpoint.lan);
        store.update(&store.lock_ledger(deadline)?, &record)?;
    }
    let mut host = RealHost::new(paths, record, None);
    host.run(&Step::AddProxies(endpoint.specs.clone()))?;
    if endpoint.has_moved() {
        host.run(&Step::ClaimAddresses(endpoint.specs.clone()))?;
    }
    Ok(endpoint.has_moved())
}

/// Puts a policy in force that `decide` makes of the record and of what is in force now, and gives
/// the record as it is then; `None` if it makes none.
///
/// The new rules fill the unused slot, then the record says what they are, then one store switches
/// over. Killed before that, the record is ahead of the programs: `reconcile` sees it, and so does
/// the next change.
///
/// # Errors
/// What `decide` says; [`Kind::Conflict`] when the endpoint is gone; the kernel's refusal, and then
/// the old rules stay in force.
pub fn revise(
    paths: &Paths,
    cookie: NetnsCookie,
    decide: &dyn Fn(&EndpointRecord, PolicyWord) -> Result<Option<Revision>>,
    deadline: &Deadline,
) -> Result<Option<EndpointRecord>> {
    let store = Store::open(paths)?;
    let _lock = store.lock_endpoint(cookie, deadline)?;
    let gone = || Error::new(Kind::Conflict, "the container has ended");
    let record = store.view().find(cookie)?.ok_or_else(gone)?;
    let maps = load::open_maps(&Pins::new(&paths.bpffs_dir))?;
    let Some(revision) = decide(&record, maps.policy(record.id)?)? else {
        return Ok(None);
    };
    if revision.tables.names.is_some() {
        maps.ensure_name_tables(record.id, revision.learned)?;
    }
    if let Some(flows) = revision.flows_in {
        maps.ensure_inbound_flows(record.id, flows)?;
    }
    maps.fill_names(revision.next.slot, revision.tables.names.as_deref())?;
    maps.fill_rules(revision.next.slot, &revision.tables.rules)?;
    let ledger = store.lock_ledger(deadline)?;
    // Read again: members come and go under the ledger lock alone.
    let mut record = store.view().find(cookie)?.ok_or_else(gone)?;
    record.egress = revision.egress;
    record.ingress = revision.ingress;
    record.mode = revision.mode;
    record.revised = revision.revised;
    record.ceiling = revision.ceiling;
    record.epoch = revision.next.epoch;
    store.update(&ledger, &record)?;
    maps.switch(record.id, revision.next)?;
    Ok(Some(record))
}

/// What [`recover`] did.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Half-built endpoints that were taken down.
    pub endpoints: Vec<EndpointRecord>,
    /// What could not be taken back; its journal stays.
    pub errors: ErrorList,
}

/// Takes back what killed hooks left half done. What hooks work on that still run is left alone.
///
/// # Errors
/// When the journals or records cannot be listed.
pub fn recover(paths: &Paths, boot_id: &str, deadline: &Deadline) -> Result<Recovered> {
    let store = Store::open(paths)?;
    let mut cookies = store.view().journals()?;
    for record in store.view().records(boot_id)? {
        if record.phase == Phase::Creating && !cookies.contains(&record.cookie) {
            cookies.push(record.cookie);
        }
    }
    let mut recovered = Recovered::default();
    for cookie in cookies {
        match recover_one(&store, paths, cookie, boot_id, deadline) {
            Ok(Some(record)) => recovered.endpoints.push(record),
            Ok(None) => {}
            Err(e) => recovered
                .errors
                .push(e.with_context(format!("recover endpoint {cookie}"))),
        }
    }
    Ok(recovered)
}

fn recover_one(
    store: &Store,
    paths: &Paths,
    cookie: NetnsCookie,
    boot_id: &str,
    deadline: &Deadline,
) -> Result<Option<EndpointRecord>> {
    let Some(lock) = store.try_lock_endpoint(cookie)? else {
        return Ok(None);
    };
    let path = store.view().journal_path(cookie);
    let stands = has_pins(paths, cookie);
    let entries = unless_damaged(journal::read(&path), stands)?.unwrap_or_default();
    let now = unless_damaged(store.view().find(cookie), stands)?.filter(|r| r.boot_id == boot_id);
    match (now, entries.record.filter(|r| r.boot_id == boot_id)) {
        // Killed after the endpoint was complete, or while it was taken down.
        (Some(now), _) if now.phase != Phase::Creating => {
            journal::finish(&path)?;
            Ok(None)
        }
        (_, Some(record)) => {
            let mut host = RealHost::new(paths, record.clone(), None).until(*deadline);
            undo_journal(store, &record, &mut host).into_result(())?;
            lock.remove()?;
            Ok(Some(record))
        }
        // Killed before the first line was whole, so before any step.
        (Some(now), None) => {
            journal::finish(&path)?;
            forget(store, &now)?;
            lock.remove()?;
            Ok(Some(now))
        }
        // Of another boot.
        (None, None) => {
            journal::finish(&path)?;
            lock.remove()?;
            Ok(None)
        }
    }
}

/// Only a power cut damages a file, and it took all but the file away.
fn unless_damaged<T>(found: Result<Option<T>>, stands: bool) -> Result<Option<T>> {
    match found {
        Err(e) if !stands => {
            log::warn!("{e}: nothing of it stands");
            Ok(None)
        }
        other => other,
    }
}

fn has_pins(paths: &Paths, cookie: NetnsCookie) -> bool {
    Pins::new(&paths.bpffs_dir).endpoint(cookie).exists()
}

#[cfg(test)]
mod tests;
