//! `config check`: every fault of the config at once.

use serde::Serialize;

use super::args::{ConfigCommand, Output};
use crate::error::Result;
use crate::roles::environment::Environment;
use crate::roles::io::Io;
use crate::roles::render;

#[derive(Serialize)]
struct Answer {
    path: String,
    /// Without the file the built-in defaults are in effect.
    exists: bool,
    /// All faults with their lines, in one text.
    fault: Option<String>,
    warnings: Vec<String>,
}

/// Prints what is odd; a fault is also the error.
pub(super) fn run(
    io: &mut Io<'_>,
    environment: &Environment,
    command: &ConfigCommand,
) -> Result<()> {
    let ConfigCommand::Check(output) = command;
    let config = environment.load_config();
    let answer = Answer {
        path: environment.config.display().to_string(),
        exists: environment.config.exists(),
        fault: config.as_ref().err().map(ToString::to_string),
        warnings: config
            .as_ref()
            .map(|c| c.warnings.clone())
            .unwrap_or_default(),
    };
    print(io, &answer, *output)?;
    config.map(|_| ())
}

fn print(io: &mut Io<'_>, answer: &Answer, output: Output) -> Result<()> {
    if output.json {
        return io.print(&render::json(answer)?);
    }
    for warning in &answer.warnings {
        io.print(&format!("warning: {warning}\n"))?;
    }
    match (&answer.fault, answer.exists) {
        (Some(_), _) => Ok(()), // the error says it
        (None, true) => io.print(&format!("{}: no fault\n", answer.path)),
        (None, false) => io.print(&format!(
            "{} does not exist; the built-in defaults are in effect\n",
            answer.path
        )),
    }
}
