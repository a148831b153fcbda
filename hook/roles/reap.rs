//! Takes away what ended containers and killed hooks left: called by poststop, by every create and
//! by `gc`. `plan/teardown.rs` decides what that is.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;

use super::environment::Environment;
use crate::apply;
use crate::error::{Error, ErrorList, Kind, Result};
use crate::facts::{HostFacts, Ledger};
use crate::inspect;
use crate::kernel::bpffs::{self, Pins};
use crate::kernel::process;
use crate::plan::teardown::{self, Teardown};
use crate::state::ended::Ended;
use crate::state::lock::{Deadline, Lock};
use crate::state::store::{Store, View};
use crate::types::claim::Claim;
use crate::types::id::{ContainerId, NetnsCookie};
use crate::types::lease::{Event, Lease};
use crate::types::record::{EndpointRecord, Member, Phase};

/// What was taken away, for `gc` to print.
#[derive(Debug, Default)]
pub struct Reaped {
    /// Names of endpoints that were taken down.
    pub endpoints: Vec<String>,
    /// Ids of containers that ended while their namespace lives on.
    pub members: Vec<String>,
    /// Names of endpoints whose hook was killed half-way.
    pub half_built: Vec<String>,
    /// Records of an earlier boot, and damaged ones of nothing that stands.
    pub forgotten: usize,
    /// Pins without a record.
    pub unpinned: usize,
    /// What could not be taken away.
    pub errors: ErrorList,
}

/// After one container ended: its endpoint, if nobody else lives in it, and what else nobody needs.
pub fn after(
    container: &ContainerId,
    environment: &Environment,
    store: &Store,
    boot_id: &str,
    deadline: &Deadline,
) -> ErrorList {
    let mut reaped = Reaped::default();
    let Some(_turn) = reaped
        .errors
        .keep(Lock::acquire(&turn(environment), deadline))
    else {
        return reaped.errors;
    };
    let found = records_of(container, store.view(), boot_id)
        .map(|records| teardown::poststop(container, &records, boot_id, &is_dead));
    if let Some(teardown) = reaped.errors.keep(found) {
        carry_out(&teardown, environment, store, deadline, &mut reaped);
    }
    if is_needed(environment, store.view(), boot_id) {
        log_errors(&everything(environment, store, boot_id, deadline));
    }
    reaped.errors
}

/// Records of the endpoints that the container may be a member of, or nobody is.
fn records_of(container: &ContainerId, view: &View, boot_id: &str) -> Result<Vec<EndpointRecord>> {
    match view.claims(boot_id) {
        Some((claims, _)) => Ok(view.records_of(&claims, boot_id, |c| c.may_have(container))),
        None => view.records(boot_id),
    }
}

fn mend(store: &Store, boot_id: &str, deadline: &Deadline) {
    let lock = store.lock_ledger(deadline);
    lock.and_then(|lock| store.mend_claims(&lock, boot_id))
        .unwrap_or_else(|e| log::warn!("{e}"));
}

/// Whether there is anything to clear up beside the endpoints there are: names of files and pins tell,
/// of which there may be thousands. What a killed hook was building or taking down, a start sees
/// without them.
pub fn is_needed(environment: &Environment, view: &View, boot_id: &str) -> bool {
    // Without endpoints there is no file of claims.
    let mut claims = view
        .claims(boot_id)
        .map_or_else(Vec::new, |(claims, _)| claims);
    claims.sort_unstable_by_key(Claim::cookie);
    let is_theirs = |cookie: &NetnsCookie| Claim::find(&claims, *cookie).is_some();
    let pins = Pins::new(&environment.paths.bpffs_dir).endpoints();
    !view.is_tidy(&claims).unwrap_or_default() || !pins.is_ok_and(|pins| pins.iter().all(is_theirs))
}

/// Before a create: if somebody is at it already, that is enough; a failure here is nobody's reason
/// to fail, so it is only logged.
pub fn dead(environment: &Environment, store: &Store, boot_id: &str, deadline: &Deadline) {
    match Lock::try_acquire(&turn(environment)) {
        Ok(Some(_turn)) => log_errors(&everything(environment, store, boot_id, deadline)),
        Ok(None) => {}
        Err(e) => log::warn!("clearing up after others: {e}"),
    }
}

fn log_errors(reaped: &Reaped) {
    for error in reaped.errors.iter() {
        log::warn!("clearing up after others: {error}");
    }
}

/// Before a create that could not be planned beside the dead: waits for its turn. What it cannot
/// take away is only logged, since the next plan meets it and says so.
///
/// # Errors
/// [`Kind::Timeout`] while another one is at it.
pub fn in_the_way(
    environment: &Environment,
    store: &Store,
    boot_id: &str,
    deadline: &Deadline,
) -> Result<()> {
    log_errors(&all(environment, store, boot_id, deadline)?);
    Ok(())
}

/// Which endpoints are asked whether they live.
#[derive(Clone, Copy, Debug)]
pub enum Asked {
    /// Every one.
    All,
    /// That of the namespace, and a few others: which, is another matter with each start.
    Few(NetnsCookie),
}

/// How many [`Asked::Few`] are, of a thousand that would make each start slower than it need be.
const FEW: usize = 8;

impl Asked {
    fn of(self, claims: &[Claim]) -> Vec<Claim> {
        let Self::Few(own) = self else {
            return claims.to_vec();
        };
        let count = claims.len();
        let first = std::process::id() as usize;
        let few = (first..first + FEW.min(count)).map(|n| n % count);
        let own = claims.iter().position(|claim| claim.cookie() == own);
        let indexes: BTreeSet<usize> = few.chain(own).collect();
        let asked = indexes.iter().filter_map(|index| claims.get(*index));
        asked.copied().collect()
    }
}

/// What was found of endpoints that were asked.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Names of those of which nobody lives.
    pub dead: Vec<String>,
    /// One is being built or taken down, or a container of a pod has ended: it may be for us to clear
    /// up.
    pub is_unsettled: bool,
}

/// Makes of what is known what it will be when the dead are reaped: their endpoints and the routes to
/// them are gone, and their addresses are the last that were given back. `records` reads those of
/// claims.
pub fn without_dead(
    ledger: &mut Ledger,
    host: &mut HostFacts,
    asked: Asked,
    records: impl Fn(&[Claim]) -> Vec<EndpointRecord>,
) -> Found {
    let mut asked = asked.of(&ledger.claims);
    asked.retain(may_have_ended);
    let mut found = Found {
        dead: Vec::new(),
        is_unsettled: !ledger.claims.iter().all(Claim::is_active),
    };
    // Most starts find nobody.
    if asked.is_empty() {
        return found;
    }
    let mut dead = records(&asked);
    found.is_unsettled |= dead.iter().any(|r| r.members.iter().any(is_dead));
    dead.retain(|record| record.members.iter().all(is_dead));
    ledger.forget(|cookie| dead.iter().any(|r| r.cookie == cookie));
    let given_back: Vec<Lease> = dead.iter().map(EndpointRecord::lease).collect();
    ledger.leases = std::mem::take(&mut ledger.leases).then(given_back.iter().flat_map(Event::all));
    let gone: HashSet<u32> = dead.iter().map(|r| r.primary_ifindex).collect();
    host.routes
        .retain(|r| r.ifindex.is_none_or(|i| !gone.contains(&i)));
    found.dead = dead.into_iter().map(|r| r.name).collect();
    found
}

/// Whether the record has to be asked who lives: the claim says so of one container.
fn may_have_ended(claim: &Claim) -> bool {
    let first = claim.first_member();
    claim.has_other_members()
        || first.is_none_or(|(pid, start_time)| process::is_dead(pid, start_time))
}

/// For `gc`: waits for its turn, then takes away all there is.
pub fn all(
    environment: &Environment,
    store: &Store,
    boot_id: &str,
    deadline: &Deadline,
) -> Result<Reaped> {
    let _turn = Lock::acquire(&turn(environment), deadline)?;
    Ok(everything(environment, store, boot_id, deadline))
}

/// One reaper at a time is enough: when many containers start or stop at once, the others would only
/// find the same list. What must not be done twice is locked per endpoint by `apply/`.
fn turn(environment: &Environment) -> PathBuf {
    environment.paths.state_dir.join("reap.lock")
}

/// All that is dead, half built, of another boot, or pinned for nobody.
fn everything(
    environment: &Environment,
    store: &Store,
    boot_id: &str,
    deadline: &Deadline,
) -> Reaped {
    let mut reaped = Reaped::default();
    match apply::recover(&environment.paths, boot_id, deadline) {
        Ok(recovered) => {
            reaped.half_built = recovered.endpoints.into_iter().map(|r| r.name).collect();
            recovered
                .errors
                .iter()
                .for_each(|e| reaped.errors.push(e.clone()));
        }
        Err(e) => reaped.errors.push(e),
    }
    let decided = decide(environment, store, boot_id, &mut reaped.errors);
    if let Some(teardown) = reaped.errors.keep(decided) {
        carry_out(&teardown, environment, store, deadline, &mut reaped);
    }
    for error in store.sweep().iter() {
        reaped.errors.push(error.clone());
    }
    mend(store, boot_id, deadline);
    reaped
}

fn decide(
    environment: &Environment,
    store: &Store,
    boot_id: &str,
    errors: &mut ErrorList,
) -> Result<Teardown> {
    // Pins first: an endpoint that appears in between has a record by then.
    let pins = Pins::new(&environment.paths.bpffs_dir).endpoints()?;
    let contents = store.view().contents()?;
    let damaged: Vec<NetnsCookie> = contents.faulty.iter().filter_map(|f| f.cookie).collect();
    let teardown = teardown::gc(&contents.records, &damaged, &pins, boot_id, &is_dead);
    for faulty in &contents.faulty {
        if faulty.cookie.is_none_or(|c| !teardown.damaged.contains(&c)) {
            let text = format!("{}: {}", faulty.path.display(), faulty.reason);
            errors.push(Error::new(Kind::Internal, text).with_hint("remove the file"));
        }
    }
    Ok(teardown)
}

fn is_dead(member: &Member) -> bool {
    process::is_dead(member.pid, member.start_time)
}

fn carry_out(
    teardown: &Teardown,
    environment: &Environment,
    store: &Store,
    deadline: &Deadline,
    reaped: &mut Reaped,
) {
    for (cookie, member) in &teardown.leave {
        let left = leave(store, *cookie, member, deadline);
        if reaped.errors.keep(left).is_some() {
            reaped.members.push(member.container_id.to_string());
        }
    }
    for (cookie, undos) in &teardown.remove {
        let Some(Some(record)) = reaped.errors.keep(close(store, *cookie, deadline)) else {
            continue;
        };
        if let Err(e) = remember(environment, store, &record) {
            log::warn!("what was refused to {} is not remembered: {e}", record.name);
        }
        let errors = apply::destroy(&environment.paths, &record, undos, deadline);
        if errors.is_empty() {
            reaped.endpoints.push(record.name.clone());
        }
        errors.iter().for_each(|e| reaped.errors.push(e.clone()));
    }
    for (boot_id, cookie) in &teardown.forget {
        let gone = store
            .lock_ledger(deadline)
            .and_then(|lock| store.remove(&lock, *cookie, boot_id));
        reaped.forgotten += usize::from(reaped.errors.keep(gone).is_some());
    }
    for cookie in &teardown.damaged {
        let gone = store
            .lock_ledger(deadline)
            .and_then(|lock| store.remove_damaged(&lock, *cookie));
        reaped.forgotten += usize::from(reaped.errors.keep(gone).is_some());
    }
    for cookie in &teardown.unpin {
        let pins = Pins::new(&environment.paths.bpffs_dir).endpoint(*cookie);
        reaped.unpinned += usize::from(reaped.errors.keep(bpffs::remove_dir(&pins)).is_some());
    }
}

/// Keeps what was refused, which goes with the endpoint's maps.
fn remember(environment: &Environment, store: &Store, record: &EndpointRecord) -> Result<()> {
    let denied = inspect::denied(&environment.paths, record.id)?;
    if denied.is_empty() {
        return Ok(());
    }
    store.remember_ended(record, &Ended::new(record, denied))
}

/// Strikes a member from the record.
fn leave(store: &Store, cookie: NetnsCookie, member: &Member, deadline: &Deadline) -> Result<()> {
    let lock = store.lock_ledger(deadline)?;
    let Some(mut record) = store.view().find(cookie)? else {
        return Ok(());
    };
    record.members.retain(|m| m != member);
    store.update(&lock, &record)
}

/// Closes an endpoint to newcomers before it is taken down; `None` if one came meanwhile.
fn close(
    store: &Store,
    cookie: NetnsCookie,
    deadline: &Deadline,
) -> Result<Option<EndpointRecord>> {
    let lock = store.lock_ledger(deadline)?;
    let Some(mut record) = store.view().find(cookie)? else {
        return Ok(None);
    };
    if !record.members.iter().all(is_dead) {
        return Ok(None);
    }
    record.phase = Phase::Ending;
    store.update(&lock, &record)?;
    Ok(Some(record))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::id::EndpointId;

    /// So many endpoints of which nobody lives.
    fn dead(count: u32) -> Vec<EndpointRecord> {
        let member = Member {
            container_id: ContainerId::new("c1").unwrap(),
            pid: i32::MAX,
            start_time: 1,
        };
        let record = |n| EndpointRecord {
            cookie: NetnsCookie(u64::from(n)),
            id: EndpointId(n),
            name: format!("e{n}"),
            members: vec![member.clone()],
            ..EndpointRecord::example()
        };
        (0..count).map(record).collect()
    }

    /// What is found and known if these are asked.
    fn ask(records: &[EndpointRecord], asked: Asked) -> (Found, Ledger) {
        let mut ledger = Ledger {
            claims: records.iter().map(Claim::from).collect(),
            ..Ledger::default()
        };
        let of = |claims: &[Claim]| {
            let is_of = |r: &&EndpointRecord| claims.iter().any(|c| c.cookie() == r.cookie);
            records.iter().filter(is_of).cloned().collect()
        };
        let found = without_dead(&mut ledger, &mut HostFacts::example(), asked, of);
        (found, ledger)
    }

    #[test]
    fn a_start_asks_its_own_endpoint_and_few_others() {
        for (count, own) in [(1, 0), (8, 3), (100, 0), (100, 50), (100, 99)] {
            let own = NetnsCookie(own);
            let (found, ledger) = ask(&dead(count), Asked::Few(own));
            let asked = found.dead.len();
            let most = (count as usize).min(FEW + 1);
            assert!((most - 1..=most).contains(&asked), "{asked} of {count}");
            assert_eq!(ledger.claims.len(), count as usize - asked);
            assert!(ledger.claims.iter().all(|c| c.cookie() != own));
            assert!(found.is_unsettled);
        }
    }

    #[test]
    fn all_are_asked_if_need_be() {
        let (found, ledger) = ask(&dead(100), Asked::All);
        assert_eq!((found.dead.len(), ledger.claims.len()), (100, 0));
    }

    #[test]
    fn an_endpoint_stays_while_one_of_its_containers_lives() {
        let living = Member {
            container_id: ContainerId::new("c2").unwrap(),
            pid: std::process::id().try_into().unwrap(),
            start_time: process::Process::open(std::process::id().try_into().unwrap())
                .and_then(|p| p.start_time())
                .unwrap(),
        };
        let mut records = dead(1);
        records[0].members.push(living.clone());
        let (found, ledger) = ask(&records, Asked::All);
        assert!(found.dead.is_empty() && found.is_unsettled);
        assert_eq!(ledger.claims.len(), 1);
        records[0].members = vec![living];
        let (found, _) = ask(&records, Asked::All);
        assert!(found.dead.is_empty() && !found.is_unsettled);
        records[0].phase = Phase::Ending;
        assert!(ask(&records, Asked::All).0.is_unsettled);
    }
}
