//! `list`: the managed containers.

use super::args::Output;
use super::endpoint::{self, Summary};
use crate::error::Result;
use crate::roles::environment::Environment;
use crate::roles::io::Io;
use crate::roles::render;

/// Prints a line per endpoint.
pub(super) fn run(io: &mut Io<'_>, environment: &Environment, output: Output) -> Result<()> {
    let rows: Vec<Summary> = endpoint::all(environment)?
        .iter()
        .map(Summary::from)
        .collect();
    if output.json {
        return io.print(&render::json(&rows)?);
    }
    let header = ["ID", "NAME", "CONTAINERS", "ADDRESSES", "PRIMARY", "STATE"];
    io.print(&render::table(&header, rows.iter().map(row)))
}

fn row(summary: &Summary) -> Vec<String> {
    let short = |id: &str| id.get(..12).unwrap_or(id).to_owned();
    let containers: Vec<String> = summary.containers.iter().map(|c| short(&c.id)).collect();
    let state = match (summary.phase, summary.alive) {
        _ if summary.broken => "broken",
        ("active", true) => "up",
        ("active", false) => "dead",
        (phase, _) => phase,
    };
    vec![
        summary.id.to_string(),
        short(&summary.name),
        containers.join(" "),
        summary.addresses.join(" "),
        summary.primary.clone(),
        state.to_owned(),
    ]
}
