//! The command line: one file per command. `args.rs` parses, this file picks, `render.rs` prints.

pub mod args;
mod check;
mod completions;
mod config;
mod denied;
mod doctor;
mod endpoint;
mod errors;
mod gc;
mod list;
mod monitor;
mod plan;
mod policy;
mod reconcile;
mod show;
mod stats;
mod unload;

use std::process::ExitCode;

use args::{Cli, Command};

use super::environment::Environment;
use super::io::Io;
use crate::error::{Error, Kind, Result};

/// The places that the command line names.
#[must_use]
pub fn environment(cli: &Cli) -> Environment {
    let mut environment = Environment::default();
    if let Some(path) = &cli.config {
        environment.config.clone_from(path);
        environment.config_named = true;
    }
    if let Some(dir) = &cli.state_dir {
        environment.paths.state_dir.clone_from(dir);
    }
    if let Some(dir) = &cli.lasting_dir {
        environment.paths.lasting_dir.clone_from(dir);
    }
    if let Some(dir) = &cli.bpffs_dir {
        environment.paths.bpffs_dir.clone_from(dir);
    }
    environment
}

/// Runs one command, but `hook`, which is a role of its own.
///
/// # Errors
/// Whatever failed; the caller prints it and exits with its code.
pub fn run(io: &mut Io<'_>, environment: &Environment, command: Command) -> Result<ExitCode> {
    let answer = |yes: bool| {
        if yes {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    };
    match command {
        Command::Hook { .. } => {
            return Err(Error::new(Kind::Internal, "the hook is not a command"));
        }
        Command::Plan(output) => plan::run(io, environment, output)?,
        Command::List(output) => list::run(io, environment, output)?,
        Command::Show { id, output } => show::run(io, environment, &id, output)?,
        Command::Errors(output) => errors::run(io, environment, output)?,
        Command::Check {
            id,
            direction,
            target,
            output,
        } => {
            return check::run(io, environment, &id, direction.into(), &target, output).map(answer);
        }
        Command::Policy { command } => policy::run(io, environment, command)?,
        Command::Denied {
            id,
            as_rules,
            output,
        } => denied::run(io, environment, &id, as_rules, output)?,
        Command::Monitor { id, output } => monitor::run(io, environment, id.as_deref(), output)?,
        Command::Stats(output) => stats::run(io, environment, output)?,
        Command::Doctor(output) => return doctor::run(io, environment, output).map(answer),
        Command::Gc(output) => gc::run(io, environment, output)?,
        Command::Reconcile(output) => reconcile::run(io, environment, output)?,
        Command::Unload { force, output } => unload::run(io, environment, force, output)?,
        Command::Completions { shell } => completions::run(io, shell)?,
        Command::Config { command } => config::run(io, environment, &command)?,
    }
    Ok(ExitCode::SUCCESS)
}
