//! `config check`: every fault of the config at once.

use super::args::ConfigCommand;
use crate::error::Result;
use crate::roles::environment::Environment;
use crate::roles::io::Io;

/// Prints what is odd; a fault is the error.
pub(super) fn run(
    io: &mut Io<'_>,
    environment: &Environment,
    command: &ConfigCommand,
) -> Result<()> {
    match command {
        ConfigCommand::Check => {
            let config = environment.load_config()?;
            for warning in &config.warnings {
                io.print(&format!("warning: {warning}\n"))?;
            }
            let place = environment.config.display();
            if environment.config.exists() {
                io.print(&format!("{place}: no fault\n"))
            } else {
                io.print(&format!(
                    "{place} does not exist; the built-in defaults are in effect\n"
                ))
            }
        }
    }
}
