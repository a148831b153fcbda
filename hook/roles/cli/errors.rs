//! `errors`: the last failures of the hook.

use serde::Serialize;

use super::args::Output;
use crate::error::Result;
use crate::roles::environment::Environment;
use crate::roles::io::Io;
use crate::roles::render;
use crate::state::store::{Failure, View};

#[derive(Serialize)]
struct Row<'a> {
    time: String,
    command: &'a str,
    container_id: Option<&'a str>,
    exit_code: u8,
    error: &'a str,
    hint: Option<&'a str>,
}

impl<'a> From<&'a Failure> for Row<'a> {
    fn from(f: &'a Failure) -> Self {
        let (error, hint) = match f.text.split_once("\nhint: ") {
            Some((error, hint)) => (error, Some(hint)),
            None => (f.text.as_str(), None),
        };
        Self {
            time: render::time(f.time),
            command: &f.command,
            container_id: f.container_id.as_deref(),
            exit_code: f.exit_code,
            error,
            hint,
        }
    }
}

/// Prints them, oldest first.
pub(super) fn run(io: &mut Io<'_>, environment: &Environment, output: Output) -> Result<()> {
    let failures = View::new(&environment.paths).failures()?;
    let rows: Vec<Row<'_>> = failures.iter().map(Row::from).collect();
    if output.json {
        return io.print(&render::json(&rows)?);
    }
    if rows.is_empty() {
        return io.print("no failure is on record\n");
    }
    // Not a table: the texts are sentences and may have several lines.
    let mut text = String::new();
    for row in &rows {
        let id = row
            .container_id
            .map_or("-", |id| id.get(..12).unwrap_or(id));
        text += &format!(
            "{}  {}  {id}  exit {}\n",
            row.time, row.command, row.exit_code
        );
        for line in row.error.lines() {
            text += &format!("    {line}\n");
        }
        if let Some(hint) = row.hint {
            text += &format!("    hint: {}\n", hint.replace('\n', "\n          "));
        }
    }
    io.print(&text)
}
