//! `policy`: rules of running containers, changed at once. Reads what is asked; `plan/revise.rs`
//! decides what it leads to, `apply::revise` does it.

use std::time::Duration;

use serde::Serialize;

use super::args::{ModeArg, Output, PolicyCommand, PolicyRules};
use super::endpoint;
use crate::apply;
use crate::error::{Error, ErrorList, Kind, Result};
use crate::inspect::EndpointView;
use crate::kernel::probe;
use crate::plan::revise::{self, Change};
use crate::plan::rules::RuleSet;
use crate::roles::environment::Environment;
use crate::roles::io::Io;
use crate::roles::render;
use crate::state::lock::Deadline;
use crate::types::id::NetnsCookie;
use crate::types::mode::Mode;
use crate::types::record::{EndpointRecord, Phase};

/// A start of the same endpoint may take as long.
const TIME: Duration = Duration::from_secs(25);

/// What is in force afterwards.
#[derive(Serialize)]
struct Row {
    name: String,
    /// Something was changed.
    changed: bool,
    mode: &'static str,
    egress: Vec<String>,
    ingress: Vec<String>,
    epoch: u32,
}

impl Row {
    fn new(record: EndpointRecord, changed: bool) -> Self {
        Self {
            name: record.name,
            changed,
            mode: record.mode.word(),
            egress: record.egress,
            ingress: record.ingress,
            epoch: record.epoch,
        }
    }
}

/// Does it and says what is in force then; for several containers, what failed is the error.
pub(super) fn run(
    io: &mut Io<'_>,
    environment: &Environment,
    command: PolicyCommand,
) -> Result<()> {
    let (id, change, output) = read(command)?;
    let views = match id {
        Some(id) => vec![endpoint::find(environment, &id)?],
        None => endpoint::all(environment)?
            .into_iter()
            .filter(|v| v.record.phase == Phase::Active)
            .collect(),
    };
    let mut rows = Vec::new();
    let mut errors = ErrorList::new();
    for view in views {
        let name = view.record.name.clone();
        let done = one(environment, view, &change).map_err(|e| e.with_context(name));
        rows.extend(errors.keep(done));
    }
    if output.json {
        io.print(&render::json(&rows)?)?;
    } else {
        for row in &rows {
            io.print(&text(row))?;
        }
    }
    errors.into_result(())
}

fn one(environment: &Environment, view: EndpointView, change: &Change) -> Result<Row> {
    let deadline = Deadline::after(TIME);
    Ok(
        match revise(environment, view.record.cookie, change, &deadline)? {
            Some(record) => Row::new(record, true),
            None => Row::new(view.record, false),
        },
    )
}

/// Changes the rules of one endpoint; its record as it is then, `None` if nothing had to be done.
pub(super) fn revise(
    environment: &Environment,
    cookie: NetnsCookie,
    change: &Change,
    deadline: &Deadline,
) -> Result<Option<EndpointRecord>> {
    let config = environment.load_config()?;
    let host = probe::host_facts(&environment.paths)?;
    environment.check_same_host(&host.boot_id)?;
    let decide = |record: &EndpointRecord, now| {
        let revision = revise::revise(record, change, &config, &host, now)?;
        for warning in revision.iter().flat_map(|r| &r.warnings) {
            log::warn!("{warning}");
        }
        Ok(revision)
    };
    apply::revise(&environment.paths, cookie, &decide, deadline)
}

/// Whose rules, what about them, and how to tell.
fn read(command: PolicyCommand) -> Result<(Option<String>, Change, Output)> {
    Ok(match command {
        PolicyCommand::Set {
            id,
            egress,
            ingress,
            mode,
            output,
        } => {
            let rules = |text: Option<String>| text.map(|t| RuleSet::parse(&t)).transpose();
            let (egress, ingress) = (rules(egress)?, rules(ingress)?);
            if egress.is_none() && ingress.is_none() && mode.is_none() {
                return Err(Error::new(Kind::Usage, "nothing is given to be set")
                    .with_hint("give --egress, --ingress or --mode"));
            }
            let mode = mode.map(|mode| match mode {
                ModeArg::Enforce => Mode::Enforce,
                ModeArg::Audit => Mode::Audit,
            });
            let change = Change::Set {
                egress,
                ingress,
                mode,
            };
            (Some(id), change, output)
        }
        PolicyCommand::Allow(given) => {
            let rules = rules(&given)?;
            let change = Change::Allow(given.direction.into(), rules);
            (Some(given.id), change, given.output)
        }
        PolicyCommand::Revoke(given) => {
            let rules = rules(&given)?;
            let change = Change::Revoke(given.direction.into(), rules);
            (Some(given.id), change, given.output)
        }
        PolicyCommand::Reload { id, output } => (id, Change::Reload, output),
    })
}

fn rules(given: &PolicyRules) -> Result<RuleSet> {
    let rules = RuleSet::from_texts(&given.rules)?;
    if rules.rules().is_empty() {
        return Err(Error::new(Kind::BadInput, "no rule is given"));
    }
    Ok(rules)
}

fn text(row: &Row) -> String {
    let count = |rules: &[String]| match rules.len() {
        1 => "1 rule".to_owned(),
        n => format!("{n} rules"),
    };
    let state = if row.changed {
        "changed"
    } else {
        "nothing to change"
    };
    format!(
        "{}: {state}; {} of egress and {} of ingress are in force (mode {}, epoch {})\n",
        row.name,
        count(&row.egress),
        count(&row.ingress),
        row.mode,
        row.epoch
    )
}
