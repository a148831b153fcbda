//! `gc`: remove what dead containers and killed hooks left behind.

use std::time::Duration;

use serde::Serialize;

use super::args::Output;
use crate::error::Result;
use crate::kernel::probe;
use crate::roles::environment::Environment;
use crate::roles::io::Io;
use crate::roles::{reap, render};
use crate::state::lock::Deadline;
use crate::state::store::Store;

const TIME: Duration = Duration::from_secs(60);

#[derive(Default, Serialize)]
struct Answer {
    endpoints: Vec<String>,
    containers: Vec<String>,
    half_built: Vec<String>,
    forgotten: usize,
    unpinned: usize,
}

/// Removes it and says what it was; what could not be removed is the error.
pub(super) fn run(io: &mut Io<'_>, environment: &Environment, output: Output) -> Result<()> {
    let mut answer = Answer::default();
    let mut errors = crate::error::ErrorList::new();
    if environment.paths.state_dir.exists() {
        let boot_id = probe::boot_id()?;
        environment.check_same_host(&boot_id)?;
        let store = Store::open(&environment.paths)?;
        let reaped = reap::all(environment, &store, &boot_id, &Deadline::after(TIME))?;
        answer = Answer {
            endpoints: reaped.endpoints,
            containers: reaped.members,
            half_built: reaped.half_built,
            forgotten: reaped.forgotten,
            unpinned: reaped.unpinned,
        };
        errors = reaped.errors;
    }
    if output.json {
        io.print(&render::json(&answer)?)?;
    } else {
        io.print(&text(&answer))?;
    }
    errors.into_result(())
}

fn text(answer: &Answer) -> String {
    let mut out = String::new();
    for (what, names) in [
        ("endpoint of ended containers", &answer.endpoints),
        ("ended container", &answer.containers),
        ("endpoint of a killed hook", &answer.half_built),
    ] {
        for name in names {
            out += &format!("removed {what}: {name}\n");
        }
    }
    if answer.forgotten > 0 {
        out += &format!("removed {} records of an earlier boot\n", answer.forgotten);
    }
    if answer.unpinned > 0 {
        out += &format!(
            "removed the pins of {} unknown namespaces\n",
            answer.unpinned
        );
    }
    if out.is_empty() {
        "nothing to remove\n".into()
    } else {
        out
    }
}
