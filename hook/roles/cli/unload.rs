//! `unload`: remove everything from this host.

use std::time::Duration;

use super::endpoint;
use crate::apply;
use crate::error::{Error, ErrorList, Kind, Result};
use crate::kernel::{host, probe};
use crate::plan::teardown;
use crate::roles::environment::Environment;
use crate::roles::io::Io;
use crate::roles::reap;
use crate::state::lock::Deadline;
use crate::state::store::Store;

const TIME: Duration = Duration::from_secs(60);

/// Removes endpoints, links, programs, maps and state; refuses while containers are attached.
pub(super) fn run(io: &mut Io<'_>, environment: &Environment, force: bool) -> Result<()> {
    let deadline = Deadline::after(TIME);
    let mut cut_off = 0;
    if environment.paths.state_dir.exists() {
        let store = Store::open(&environment.paths)?;
        reap::all(environment, &store, &probe::boot_id()?, &deadline)?
            .errors
            .into_result(())?;
        let views = endpoint::all(environment)?;
        cut_off = views.len();
        if cut_off > 0 && !force {
            let names: Vec<&str> = views.iter().map(|v| v.record.name.as_str()).collect();
            return Err(Error::new(
                Kind::Conflict,
                format!("{cut_off} containers are attached: {}", names.join(", ")),
            )
            .with_hint("stop them first, or cut them off with: oci-netkit unload --force"));
        }
        let mut errors = ErrorList::new();
        for view in views {
            let undos = teardown::undo_all(&view.record);
            let found = apply::destroy(&environment.paths, &view.record, &undos);
            found.iter().for_each(|e| errors.push(e.clone()));
        }
        errors.into_result(())?;
    }
    host::unload(&environment.paths).into_result(())?;
    if environment.paths.state_dir.exists() {
        let store = Store::open(&environment.paths)?;
        let lock = store.lock_ledger(&deadline)?;
        store.destroy(lock)?;
    }
    match cut_off {
        0 => io.print("nothing of oci-netkit is left on this host\n"),
        n => io.print(&format!(
            "nothing of oci-netkit is left on this host; {n} containers have no network any more\n"
        )),
    }
}
