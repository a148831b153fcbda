//! `denied`: what an endpoint's programs refused, and the rules that would have allowed it.

use serde::Serialize;

use super::args::Output;
use super::endpoint;
use crate::error::{Error, Kind, Result};
use crate::inspect;
use crate::plan::rules::number;
use crate::plan::suggest::{Suggestion, suggest};
use crate::request::PREFIX;
use crate::roles::environment::Environment;
use crate::roles::io::Io;
use crate::roles::render;
use crate::state::ended::Ended;
use crate::state::store::View;
use crate::types::denied::Denied;
use crate::types::drop::reason;

#[derive(Serialize)]
struct Answer {
    name: String,
    /// It has ended; this is what was on record then.
    ended: bool,
    mode: &'static str,
    denied: Vec<Row>,
}

/// One refusal as it is printed, here and by `monitor`.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) direction: String,
    pub(super) remote: Option<String>,
    /// A name that led to the remote side, or that was asked for.
    pub(super) name: Option<String>,
    pub(super) protocol: String,
    /// `None` where the protocol has none.
    pub(super) port: Option<u16>,
    pub(super) reason: &'static str,
    /// It passed, since the endpoint is on trial.
    pub(super) passed: bool,
    pub(super) count: u64,
    pub(super) first: String,
    pub(super) last: String,
}

impl From<&Denied> for Row {
    fn from(d: &Denied) -> Self {
        Self {
            direction: d.direction.to_string(),
            remote: d.remote.map(|r| r.to_string()),
            name: d.name.clone(),
            protocol: d
                .remote
                .map_or_else(String::new, |_| number::word(d.protocol)),
            port: number::has_ports(d.protocol).then_some(d.port),
            reason: reason(d.reason).map_or("?", |r| r.name),
            passed: d.passed,
            count: d.count,
            first: render::time(d.first_ms / 1000),
            last: render::time(d.last_ms / 1000),
        }
    }
}

impl Row {
    /// The remote side with its name, as far as they are known.
    pub(super) fn place(&self) -> String {
        match (&self.remote, &self.name) {
            (Some(remote), Some(name)) => format!("{remote} ({name})"),
            (Some(remote), None) => remote.clone(),
            (None, name) => name.clone().unwrap_or_default(),
        }
    }

    /// "refused", or "passed".
    pub(super) fn fate(&self) -> &'static str {
        if self.passed { "passed" } else { "refused" }
    }
}

/// Prints the record of an endpoint that stands, or of one that has ended.
pub(super) fn run(
    io: &mut Io<'_>,
    environment: &Environment,
    id: &str,
    as_rules: bool,
    output: Output,
) -> Result<()> {
    let (found, ended) = find(environment, id)?;
    if as_rules {
        let suggestion = suggest(&found.egress, &found.ingress, &found.denied);
        return io.print(&rules(&suggestion, output)?);
    }
    let answer = Answer {
        name: found.name,
        ended,
        mode: found.mode.word(),
        denied: found.denied.iter().map(Row::from).collect(),
    };
    if output.json {
        return io.print(&render::json(&answer)?);
    }
    if answer.denied.is_empty() {
        return io.print("nothing was refused\n");
    }
    let header = [
        "DIRECTION",
        "PROTOCOL",
        "REMOTE",
        "PORT",
        "REASON",
        "FATE",
        "COUNT",
        "FIRST",
        "LAST",
    ];
    io.print(&render::table(&header, answer.denied.iter().map(line)))
}

fn line(row: &Row) -> Vec<String> {
    let known = |text: String| {
        if text.is_empty() {
            "-".to_owned()
        } else {
            text
        }
    };
    vec![
        row.direction.clone(),
        known(row.protocol.clone()),
        known(row.place()),
        known(row.port.map_or_else(String::new, |p| p.to_string())),
        row.reason.to_owned(),
        row.fate().to_owned(),
        row.count.to_string(),
        row.first.clone(),
        row.last.clone(),
    ]
}

/// The endpoint that stands, else the newest that ended under that name or id.
fn find(environment: &Environment, wanted: &str) -> Result<(Ended, bool)> {
    let not_there = match endpoint::find(environment, wanted) {
        Ok(view) => {
            let denied = inspect::denied(&environment.paths, view.record.id)?;
            return Ok((Ended::new(&view.record, denied), false));
        }
        Err(e) if e.kind() == Kind::BadInput => e,
        Err(e) => return Err(e),
    };
    let ended = View::new(&environment.paths).ended()?;
    let is = |e: &Ended| e.name == wanted || e.containers.iter().any(|c| c == wanted);
    let begins = |e: &Ended| {
        !wanted.is_empty()
            && (e.name.starts_with(wanted) || e.containers.iter().any(|c| c.starts_with(wanted)))
    };
    let found = ended.iter().find(|e| is(e));
    match found.or_else(|| ended.iter().find(|e| begins(e))) {
        Some(ended) => Ok((ended.clone(), true)),
        None => Err(Error::new(
            Kind::BadInput,
            format!("{not_there}, and of none that has ended anything is on record"),
        )
        .with_hint("oci-netkit list shows those that are attached")),
    }
}

#[derive(Serialize)]
struct Rules<'s> {
    egress: &'s [String],
    ingress: &'s [String],
    /// Refused even on trial, with its direction.
    left: Vec<(String, &'s str)>,
}

/// Two annotations to paste back, and as comments what only people can decide.
fn rules(suggestion: &Suggestion, output: Output) -> Result<String> {
    let left: Vec<(String, &str)> = suggestion
        .left
        .iter()
        .map(|(direction, rule)| (direction.to_string(), rule.as_str()))
        .collect();
    if output.json {
        return render::json(&Rules {
            egress: &suggestion.egress,
            ingress: &suggestion.ingress,
            left,
        });
    }
    let mut out = format!(
        "{PREFIX}egress={}\n{PREFIX}ingress={}\n",
        suggestion.egress.join(" "),
        suggestion.ingress.join(" ")
    );
    if !left.is_empty() {
        out += "# refused all the same, and not among these:\n";
        for (direction, rule) in left {
            out += &format!("# {direction} {rule}\n");
        }
    }
    Ok(out)
}
