//! `reconcile`: running containers get this build's programs and the uplinks the host has now.
//!
//! Packages run it after an upgrade, a udev rule when devices come and go.

use std::thread;
use std::time::Duration;

use serde::Serialize;

use super::args::Output;
use super::{endpoint, policy};
use crate::apply;
use crate::error::{ErrorList, Result};
use crate::inspect;
use crate::kernel::whole::{self, Changes};
use crate::kernel::{probe, process};
use crate::plan::reconcile::{LanEndpoint, Uplinks};
use crate::plan::revise::Change;
use crate::roles::environment::Environment;
use crate::roles::io::Io;
use crate::roles::render;
use crate::state::lock::Deadline;
use crate::state::store::{Store, View};
use crate::types::record::{Member, Phase};

/// As long as a hook of another build may take that is at work just now.
const TIME: Duration = Duration::from_secs(25);
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Default, Serialize)]
struct Answer {
    /// Links that run another program now.
    replaced: usize,
    /// Pins without a device, removed.
    unpinned: usize,
    /// Uplinks that were added, by name.
    attached: Vec<String>,
    /// Uplinks that were given up, by index.
    detached: Vec<u32>,
    /// Generations of programs that were unloaded.
    unloaded: Vec<String>,
    /// Endpoints whose addresses another uplink answers for now, by name.
    moved: Vec<String>,
    /// Endpoints whose change of rules was killed half-way, and is in force now, by name.
    revised: Vec<String>,
}

impl Answer {
    fn add(&mut self, changes: Changes) {
        self.replaced += changes.replaced;
        self.unpinned += changes.unpinned;
        self.attached.extend(changes.attached);
        self.detached.extend(changes.detached);
        self.unloaded.extend(changes.unloaded);
    }
}

/// Does it and says what was changed; what could not be done is the error.
pub(super) fn run(io: &mut Io<'_>, environment: &Environment, output: Output) -> Result<()> {
    let mut answer = Answer::default();
    let mut errors = ErrorList::new();
    if environment.paths.bpffs_dir.exists() {
        let deadline = Deadline::after(TIME);
        // A hook that began before us may attach the programs of its own build after us.
        while pass(environment, &deadline, &mut answer, &mut errors)?
            && !deadline.remaining().is_zero()
        {
            thread::sleep(PAUSE);
        }
        answer.revised = revise(environment, &deadline, &mut errors)?;
        if errors.is_empty() {
            errors.keep(note_generation(environment, &deadline));
        }
    }
    if output.json {
        io.print(&render::json(&answer)?)?;
    } else {
        io.print(&text(&answer))?;
    }
    errors.into_result(())
}

/// One pass; true if a hook was at work meanwhile, so that another is needed.
fn pass(
    environment: &Environment,
    deadline: &Deadline,
    answer: &mut Answer,
    errors: &mut ErrorList,
) -> Result<bool> {
    let paths = &environment.paths;
    let host = probe::host_facts(paths)?;
    let attached: Vec<u32> = inspect::datapath(paths)?
        .uplinks
        .iter()
        .map(|u| u.ifindex)
        .collect();
    environment.check_same_host(&host.boot_id)?;
    let records = View::new(paths).records(&host.boot_id)?;
    let busy = records
        .iter()
        .any(|r| r.phase == Phase::Creating && r.members.iter().any(is_alive));
    *errors = ErrorList::new();
    let config = environment.load_config();
    let lan = config.as_ref().map_or_else(
        |_| Vec::new(),
        |config| LanEndpoint::all(config, &host, &records),
    );
    let uplinks = config.and_then(|config| Uplinks::now(&config, &host, &attached));
    // A faulty config must not keep a fix from the programs.
    let uplinks = errors
        .keep(uplinks)
        .unwrap_or_else(|| Uplinks::gone(&host, &attached));
    for warning in &uplinks.warnings {
        log::warn!("{warning}");
    }
    let (changes, failed) = whole::reconcile(paths, &uplinks, busy);
    answer.add(changes);
    failed.iter().for_each(|e| errors.push(e.clone()));
    for endpoint in lan {
        if errors.keep(apply::serve(paths, &endpoint, deadline)) == Some(true) {
            answer.moved.push(endpoint.record.name);
        }
    }
    Ok(busy)
}

/// Puts in force what is on record, where the programs are behind it.
fn revise(
    environment: &Environment,
    deadline: &Deadline,
    errors: &mut ErrorList,
) -> Result<Vec<String>> {
    let mut revised = Vec::new();
    for view in endpoint::all(environment)? {
        let record = view.record;
        let is_behind = view.policy.epoch != 0 && view.policy.epoch != record.epoch;
        if record.phase != Phase::Active || !is_behind {
            continue;
        }
        let done = policy::revise(environment, record.cookie, &Change::NONE, deadline);
        if errors.keep(done).flatten().is_some() {
            revised.push(record.name);
        }
    }
    Ok(revised)
}

fn is_alive(member: &Member) -> bool {
    !process::is_dead(member.pid, member.start_time)
}

/// The records name the programs that are attached.
fn note_generation(environment: &Environment, deadline: &Deadline) -> Result<()> {
    let current = inspect::datapath(&environment.paths)?.current;
    let boot_id = probe::boot_id()?;
    let store = Store::open(&environment.paths)?;
    let lock = store.lock_ledger(deadline)?;
    for mut record in store.view().records(&boot_id)? {
        if record.phase == Phase::Active && record.generation != current {
            record.generation.clone_from(&current);
            store.update(&lock, &record)?;
        }
    }
    Ok(())
}

fn text(answer: &Answer) -> String {
    let mut out = String::new();
    if answer.replaced > 0 {
        out += &format!(
            "{} links run this version's programs now\n",
            answer.replaced
        );
    }
    if answer.unpinned > 0 {
        out += &format!("removed {} pins without a device\n", answer.unpinned);
    }
    for name in &answer.attached {
        out += &format!("{name} is an uplink now\n");
    }
    for ifindex in &answer.detached {
        out += &format!("device {ifindex} is no uplink any more\n");
    }
    for generation in &answer.unloaded {
        out += &format!("unloaded {generation}\n");
    }
    for name in &answer.moved {
        out += &format!("another uplink answers for the addresses of {name} now\n");
    }
    for name in &answer.revised {
        out += &format!("the rules of {name} are in force as they are on record\n");
    }
    if out.is_empty() {
        "nothing to change\n".into()
    } else {
        out
    }
}
