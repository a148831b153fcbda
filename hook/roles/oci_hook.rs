//! The OCI hook: container state on standard input becomes a request, the plan is applied, or the
//! container start fails with a reason. Standard output stays empty.
//!
//! Order is the point here: nothing is touched before the plan stands, the ledger lock covers
//! only reading the ledger and reserving in it, and capabilities shrink as the work does.

use std::time::{Duration, Instant};

use nix::sys::signal::SigSet;

use super::environment::Environment;
use super::failures;
use super::io::Io;
use super::oci_state::{self, Stage};
use crate::apply;
use crate::error::{Context, Error, ErrorList, Result};
use crate::kernel::host::RealHost;
use crate::kernel::{caps, probe};
use crate::plan::{self, Decision, Join, Plan};
use crate::request::Request;
use crate::state::store::Store;

/// hooks.d gives the hook 30 s; it takes itself back before the runtime kills it.
const DEADLINE: Duration = Duration::from_secs(25);

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
    let deadline = Instant::now() + DEADLINE;
    let mut id = None;
    let result = io.read_input().and_then(|bytes| {
        let request = oci_state::parse(&bytes, stage)?;
        id = Some(request.container_id.clone());
        match stage {
            Stage::Create => create(&request, environment, deadline),
            Stage::Poststop => poststop(environment, deadline),
        }
    });
    if let Err(error) = &result {
        let name = format!("hook {}", stage.name());
        let id = id.as_ref().map(crate::types::id::ContainerId::as_str);
        log::error!("{name} {}: {}", id.unwrap_or("?"), error.report());
        failures::remember(&Store::new(&environment.state_dir), &name, id, error);
    }
    result
}

fn create(request: &Request, environment: &Environment, deadline: Instant) -> Result<()> {
    let config = environment.load_config()?;
    let host = probe::host_facts()?;
    let (netns, namespace) = probe::namespace_facts(request.pid, &request.bundle)?;
    let store = Store::open(&environment.state_dir)?;
    super::reap::dead(&store, environment, &host.boot_id, deadline)
        .iter()
        .for_each(|e| log::warn!("reaping: {e}"));

    let decision = {
        let ledger = store.lock_ledger(deadline)?;
        let decision = plan::plan(request, &config, &host, &namespace, &ledger.read(&host.boot_id)?)?;
        match &decision {
            Decision::Create(plan) => ledger.reserve(&plan.record)?,
            Decision::Join(join) => ledger.join(join.cookie, &join.member)?,
            Decision::Present => {}
        }
        decision
    };
    match decision {
        Decision::Create(plan) => build(plan, netns, &store, environment, deadline),
        Decision::Join(Join { warnings, .. }) => {
            warn(&warnings);
            Ok(())
        }
        Decision::Present => Ok(()),
    }
}
