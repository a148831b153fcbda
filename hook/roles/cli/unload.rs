//! `unload`: remove everything from this host.

use std::time::Duration;

use serde::Serialize;

use super::args::Output;
use super::endpoint;
use crate::apply;
use crate::error::{Error, ErrorList, Kind, Result};
use crate::kernel::{probe, whole};
use crate::plan::teardown;
use crate::roles::environment::Environment;
use crate::roles::io::Io;
use crate::roles::reap;
use crate::roles::render;
use crate::state::lock::Deadline;
use crate::state::store::Store;
use crate::types::record::EndpointRecord;

const TIME: Duration = Duration::from_secs(60);

#[derive(Serialize)]
struct Answer {
    /// Names of running containers that have no network any more.
    cut_off: Vec<String>,
}

/// Removes endpoints, links, programs, maps and state; refuses while containers are attached.
pub(super) fn run(
    io: &mut Io<'_>,
    environment: &Environment,
    force: bool,
    output: Output,
) -> Result<()> {
    let deadline = Deadline::after(TIME);
    let mut cut_off = Vec::new();
    if environment.paths.state_dir.exists() {
        cut_off = take_down(environment, force, &deadline)?;
    }
    whole::unload(&environment.paths, &probe::boot_id()?).into_result(())?;
    if environment.paths.state_dir.exists() {
        let store = Store::open(&environment.paths)?;
        let lock = store.lock_ledger(&deadline)?;
        store.destroy(lock)?;
    }
    let answer = Answer { cut_off };
    if output.json {
        return io.print(&render::json(&answer)?);
    }
    io.print("nothing of oci-netkit is left in the kernel and in /run\n")?;
    for name in &answer.cut_off {
        io.print(&format!("{name} has no network any more\n"))?;
    }
    Ok(())
}

/// Takes down the dead, then, by force only, the living; gives their names.
fn take_down(environment: &Environment, force: bool, deadline: &Deadline) -> Result<Vec<String>> {
    let boot_id = probe::boot_id()?;
    environment.check_same_host(&boot_id)?;
    let store = Store::open(&environment.paths)?;
    reap::all(environment, &store, &boot_id, deadline)?
        .errors
        .into_result(())?;
    let records: Vec<EndpointRecord> = endpoint::all(environment)?
        .into_iter()
        .map(|v| v.record)
        .collect();
    let names: Vec<String> = records.iter().map(|r| r.name.clone()).collect();
    if !names.is_empty() && !force {
        return Err(Error::new(
            Kind::Conflict,
            format!(
                "{} containers are attached: {}",
                names.len(),
                names.join(", ")
            ),
        )
        .with_hint("stop them first, or cut them off with: oci-netkit unload --force"));
    }
    let mut errors = ErrorList::new();
    for record in records {
        let undos = teardown::undo_all(&record);
        let found = apply::destroy(&environment.paths, &record, &undos, deadline);
        found.iter().for_each(|e| errors.push(e.clone()));
    }
    errors.into_result(names)
}
