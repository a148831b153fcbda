//! The OCI hook: container state on standard input becomes a request, the plan is applied, or the
//! container's start fails with a reason. Standard output stays empty.
//!
//! Order is the point here: nothing is touched before the plan stands, and the ledger lock covers
//! only reading the ledger and reserving in it.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::{IpNet, Ipv6Net};
use nix::sys::signal::SigSet;

use super::environment::Environment;
use super::failures;
use super::io::Io;
use super::oci_state::{self, Stage};
use super::reap::{self, Asked, Found};
use crate::annotations::{self, AddressWish, Wishes};
use crate::apply;
use crate::apply::times::Laps;
use crate::config::{Config, PATH};
use crate::error::{Context, Error, Kind, Result};
use crate::facts::{HostFacts, Ledger, NamespaceFacts};
use crate::kernel::netlink::Netlink;
use crate::kernel::netns::Netns;
use crate::kernel::process::Process;
use crate::kernel::resolv_conf::{self, Provided};
use crate::kernel::{self, caps, probe, sockets};
use crate::plan::{self, Decision, Join, Plan, resolv};
use crate::request::{PREFIX, Request};
use crate::state::Paths;
use crate::state::claims::ClaimsStamp;
use crate::state::lasting::{self, LeasesStamp};
use crate::state::lock::Deadline;
use crate::state::store::{LedgerLock, Store, View};
use crate::types::claim::{Claim, Interest};
use crate::types::engine::Engine;
use crate::types::id::ContainerId;
use crate::types::record::EndpointRecord;

/// hooks.d gives the hook 30 s; it takes itself back before the runtime kills it.
const TIME: Duration = Duration::from_secs(25);

/// Clears the signal mask: crun starts hooks with every signal blocked.
///
/// # Errors
/// [`crate::error::Kind::Kernel`] if the kernel refuses, which it has no reason to.
pub fn unblock_signals() -> Result<()> {
    SigSet::empty().thread_set_mask().context("unblock signals")
}

/// Runs one stage of the hook; a failure is also remembered for `errors` and logged.
///
/// # Errors
/// Whatever failed; the caller prints it and exits with its code.
pub fn run(io: &mut Io<'_>, environment: &Environment, stage: Stage) -> Result<()> {
    let deadline = Deadline::after(TIME);
    let mut id = None;
    let result = io.read_input().and_then(|bytes| {
        let request = oci_state::parse(&bytes, stage)?;
        id = Some(request.container_id.clone());
        match stage {
            Stage::Create => create(&request, environment, &deadline),
            Stage::Poststop => poststop(&request.container_id, environment, &deadline),
        }
    });
    if let Err(error) = &result {
        let command = format!("hook {}", stage.name());
        let id = id.as_ref().map(ContainerId::as_str);
        log::info!("{command} of {}: {}", id.unwrap_or("?"), error.report());
        failures::remember(&environment.paths, &command, id, error);
    }
    // Nothing privileged follows; a failure to drop must not hide the result.
    caps::drop_all().unwrap_or_else(|e| log::warn!("{e}"));
    result
}

/// What a plan is made of.
struct Seen {
    outside: Netlink,
    host: HostFacts,
    netns: Netns,
    namespace: NamespaceFacts,
    interest: Interest,
    /// The endpoints but those that were found dead.
    known: Ledger,
    /// Of their claims; `None` if these are not on file, or the record of one is missing.
    claims_stamp: Option<ClaimsStamp>,
    found: Found,
    leases_stamp: LeasesStamp,
}

impl Seen {
    fn plan(&self, request: &Request, config: &Config) -> Result<Decision> {
        plan::plan(request, config, &self.host, &self.namespace, &self.known)
    }

    /// Goes on without the dead.
    fn ask(&mut self, asked: Asked, view: &View) {
        let boot_id = self.host.boot_id.clone();
        let records = |claims: &[Claim]| view.records_of(claims, &boot_id, |_| true);
        let found = reap::without_dead(&mut self.known, &mut self.host, asked, records);
        self.found.dead.extend(found.dead);
        self.found.is_unsettled |= found.is_unsettled;
        let own = self.namespace.cookie;
        if self.known.claims.iter().all(|c| c.cookie() != own) {
            self.namespace.endpoint = None;
        }
    }
}

fn look(request: &Request, config: &Config, paths: &Paths, process: &Process) -> Result<Seen> {
    let outside = Netlink::open()?;
    let mut host = probe::host_facts_by(&outside, paths)?;
    // First of all, since a rootless hook may not even enter the namespace.
    plan::check_host(&host)?;
    host.sockets = sockets::holding(&annotations::published_ports(&request.keys))?;
    if host.ula.is_none() {
        host.ula = Some(lasting::draw_ula()?);
    }
    let (netns, mut namespace) = probe::namespace_facts(process, &request.bundle)?;
    if config.ceiling.is_none() {
        namespace.engine = engine(paths)?;
    }
    let view = View::new(paths);
    let leases_stamp = view.leases_stamp();
    let interest = annotations::interest(request, host.netns);
    let (mut known, claims_stamp) = known(&view, &interest, &host)?;
    let cookie = namespace.cookie;
    // One that cannot be read is none, and obstructs a new one.
    namespace.endpoint = view.find(cookie).unwrap_or_default();
    if namespace.endpoint.is_none() {
        known.forget(|c| c == cookie);
    }
    let named = config.uplinks.as_deref().unwrap_or_default();
    probe::look_at_network(&outside, &mut host, &known.claims, named)?;
    let mut seen = Seen {
        outside,
        host,
        netns,
        namespace,
        interest,
        known,
        claims_stamp,
        found: Found::default(),
        leases_stamp,
    };
    seen.ask(Asked::Few(cookie), &view);
    Ok(seen)
}

/// What there is of other endpoints that a start has to know.
fn known(
    view: &View,
    interest: &Interest,
    host: &HostFacts,
) -> Result<(Ledger, Option<ClaimsStamp>)> {
    let (ledger, stamp) = view.ledger_for(&host.boot_id, interest)?;
    let leases = view.leases();
    Ok((Ledger { leases, ..ledger }, stamp))
}

/// What started this hook. podman is asked once and after its updates.
fn engine(paths: &Paths) -> Result<Engine> {
    let Some(program) = kernel::engine::podman()? else {
        return Ok(Engine::Other);
    };
    if let Some(version) = View::new(paths).podman(&program) {
        return Ok(Engine::Podman(Some(version)));
    }
    let version = kernel::engine::version(&program.path);
    if let Some(version) = version {
        Store::open(paths)?.keep_podman(program, version)?;
    }
    Ok(Engine::Podman(version))
}

fn create(request: &Request, environment: &Environment, deadline: &Deadline) -> Result<()> {
    let paths = &environment.paths;
    let mut laps = Laps::start();
    let config = environment.load_config()?;
    laps.end("read the config");
    let process = Process::open(request.pid)?;
    let mut seen = look(request, &config, paths, &process)?;
    laps.end("look at host, container and records");
    // What cannot work is refused here, before anything is touched, even other people's leftovers:
    // unless these may be what is in the way, such as a pod's endpoint whose members have ended.
    let first = match seen.plan(request, &config) {
        Err(e) => {
            seen.ask(Asked::All, &View::new(paths));
            if seen.found.dead.is_empty() {
                return Err(e);
            }
            let store = Store::open(paths)?;
            reap::in_the_way(environment, &store, &seen.host.boot_id, deadline)?;
            seen = look(request, &config, paths, &process)?;
            seen.plan(request, &config)
        }
        other => other,
    }?;
    laps.end("plan");
    name_servers(paths, &process, &mut seen, &first)?;
    seen.netns.leave();
    caps::drop_to_needed()?;

    let store = Store::open(paths)?;
    let cookie = seen.namespace.cookie;
    if succeeds(&first, &seen.found.dead) || store.view().is_obstructed(cookie) {
        reap::in_the_way(environment, &store, &seen.host.boot_id, deadline)?;
    } else if !seen.found.dead.is_empty()
        || seen.found.is_unsettled
        // Where there are others, their poststop looks after what a start need not see.
        || (seen.claims_stamp.is_none()
            && reap::is_needed(environment, store.view(), &seen.host.boot_id))
    {
        reap::dead(environment, &store, &seen.host.boot_id, deadline);
    }
    laps.end("clear up after the dead");
    let replan = |seen: &Seen| seen.plan(request, &config);
    let mut decision = first;
    // An address that is leased may turn out to be some machine's: then the next one may do.
    while let Err(e) = attempt(&store, paths, &mut seen, decision, &replan, deadline)? {
        if asks_for(request, e.taken()) {
            return Err(e.with_context(format!("annotation {PREFIX}address")));
        }
        log::warn!("{e}: looking for another address");
        seen.host.neighbours.extend(e.taken());
        decision = replan(&seen)?;
    }
    Ok(())
}

/// Gives the container its /etc/resolv.conf. Its process ends if the rest fails, and the mount with it.
fn name_servers(
    paths: &Paths,
    process: &Process,
    seen: &mut Seen,
    decision: &Decision,
) -> Result<()> {
    let record = match decision {
        Decision::Create(plan) => Some(&plan.record),
        Decision::Join(_) => seen.namespace.endpoint.as_ref(),
        Decision::Present => None,
    };
    let Some(text) = record.and_then(|r| resolv::text(&r.resolvers, &r.search)) else {
        return Ok(());
    };
    // Makes the directory.
    Store::open(paths)?;
    let root = seen.namespace.root.clone();
    match resolv_conf::provide(process, &mut seen.netns, root, &paths.state_dir, &text)? {
        Provided::Ours => {}
        Provided::Theirs => log::debug!("the container has a resolv.conf of its own"),
        Provided::Shared => log::debug!("the container reads the host's resolv.conf"),
        Provided::NoPlace => log::warn!("the image has no place for /etc/resolv.conf"),
    }
    Ok(())
}

/// Reserves and builds, or joins; the inner error is about nothing but [`Error::taken`] addresses.
fn attempt(
    store: &Store,
    paths: &Paths,
    seen: &mut Seen,
    decision: Decision,
    replan: &dyn Fn(&Seen) -> Result<Decision>,
    deadline: &Deadline,
) -> Result<Result<()>> {
    let cookie = seen.namespace.cookie;
    let mut laps = Laps::start();
    // Before the reservation, which without it would look like a dead hook's.
    let endpoint = store.lock_endpoint(cookie, deadline)?;
    let settled = decide(store, seen, decision, replan, deadline)
        .and_then(|(decision, lock)| settle(store, &lock, decision));
    let plan = match settled {
        Ok(Some(plan)) => plan,
        Ok(None) => return Ok(Ok(())),
        Err(e) => {
            if store.view().find(cookie)?.is_none() {
                endpoint.remove()?;
            }
            return Err(e);
        }
    };
    let (record, steps) = (&plan.record, &plan.steps);
    let (netns, outside) = (seen.netns.try_clone()?, seen.outside.clone());
    laps.end("reserve");
    match apply::create(paths, endpoint, record, steps, netns, outside, deadline) {
        Ok(built) => {
            report(&built);
            Ok(Ok(()))
        }
        Err(e) if e.taken().is_empty() => Err(e),
        Err(e) => Ok(Err(e)),
    }
}

/// Whether the container wants one of the addresses itself, so that no other will do.
fn asks_for(request: &Request, addresses: &[IpAddr]) -> bool {
    let is_asked = |wish: &AddressWish| matches!(wish, AddressWish::Static { addr, .. } if addresses.contains(addr));
    // The request was planned before, so its annotations can be read.
    Wishes::parse(&request.keys).is_ok_and(|wishes| wishes.address.iter().any(is_asked))
}

/// Writes the decision down; what is still to be built, if anything.
fn settle(store: &Store, lock: &LedgerLock, decision: Decision) -> Result<Option<Plan>> {
    match decision {
        Decision::Create(plan) => {
            warn(&plan.warnings);
            store.reserve(lock, &plan.record)?;
            Ok(Some(*plan))
        }
        Decision::Join(join) => {
            warn(&join.warnings);
            enter(store, lock, join)?;
            Ok(None)
        }
        Decision::Present => Ok(None),
    }
}

/// Whether a dead endpoint has the name, hence the addresses, that the new one is going to have:
/// somebody else may be at it, and is worth waiting for.
fn succeeds(decision: &Decision, dead: &[String]) -> bool {
    matches!(decision, Decision::Create(plan) if dead.contains(&plan.record.name))
}

/// What to do by the ledger as it is now, and the lock that keeps it so.
///
/// Long allowlists take a while to compile: not twice, and not under the lock, unless somebody came
/// or went since the first plan.
fn decide(
    store: &Store,
    seen: &mut Seen,
    first: Decision,
    replan: &dyn Fn(&Seen) -> Result<Decision>,
    deadline: &Deadline,
) -> Result<(Decision, LedgerLock)> {
    let lock = store.lock_ledger(deadline)?;
    let news = news(store.view(), seen, &first)?;
    let ula = store.view().ula().or(seen.host.ula);
    let decision = if news.is_none() && ula == seen.host.ula {
        first
    } else {
        if let Some((ledger, stamp)) = news {
            let found = store.view().find(seen.namespace.cookie);
            seen.namespace.endpoint = found.unwrap_or_default();
            seen.known = ledger;
            seen.claims_stamp = stamp;
        }
        seen.host.ula = ula;
        replan(seen)?
    };
    if let (Decision::Create(plan), Some(ula)) = (&decision, ula) {
        keep_ula(store, &lock, &plan.record, ula)?;
    }
    Ok((decision, lock))
}

/// What is known, if it is something else by now. The dead may still be there.
fn news(
    view: &View,
    seen: &Seen,
    first: &Decision,
) -> Result<Option<(Ledger, Option<ClaimsStamp>)>> {
    let is_last = |stamp| view.has_claims(&seen.host.boot_id, stamp);
    if matches!(first, Decision::Create(_))
        && seen.found.dead.is_empty()
        && seen.claims_stamp.is_some_and(is_last)
        && view.leases_stamp() == seen.leases_stamp
    {
        return Ok(None);
    }
    let now = known(view, &seen.interest, &seen.host)?;
    Ok((now.0 != seen.known).then_some(now))
}

/// A prefix that was only drawn becomes this host's with the first address of it.
fn keep_ula(store: &Store, lock: &LedgerLock, record: &EndpointRecord, ula: Ipv6Net) -> Result<()> {
    if !record.addresses.iter().any(|a| IpNet::V6(ula).contains(a)) {
        return Ok(());
    }
    store.keep_ula(lock, ula).map_err(|e| {
        e.with_context("keep the prefix of the built-in IPv6 pool")
            .with_hint(format!(
                "write a pool to {PATH}, or ask for {PREFIX}address=auto4"
            ))
    })
}

fn report(record: &EndpointRecord) {
    let addresses: Vec<String> = record.addresses.iter().map(ToString::to_string).collect();
    log::info!(
        "{} has {} on {}",
        record.name,
        addresses.join(" "),
        record.primary
    );
}

/// Adds the container to the endpoint that its namespace has.
fn enter(store: &Store, lock: &LedgerLock, join: Join) -> Result<()> {
    let found = store.view().find(join.cookie)?;
    let Some(mut record) = found else {
        let text = format!("the endpoint of network namespace {} is gone", join.cookie);
        return Err(Error::new(Kind::Conflict, text).with_hint("start the container again"));
    };
    record
        .members
        .retain(|m| m.container_id != join.member.container_id);
    record.members.push(join.member);
    store.update(lock, &record)
}

fn warn(warnings: &[String]) {
    for warning in warnings {
        log::warn!("{warning}");
    }
}

fn poststop(container: &ContainerId, environment: &Environment, deadline: &Deadline) -> Result<()> {
    if !environment.paths.state_dir.exists() {
        return Ok(());
    }
    caps::drop_to_needed()?;
    let store = Store::open(&environment.paths)?;
    reap::after(container, environment, &store, &probe::boot_id()?, deadline).into_result(())
}
