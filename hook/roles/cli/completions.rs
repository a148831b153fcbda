//! `completions`: for the shells, from the command line's type.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::args::Cli;
use crate::error::{Error, Kind, Result};
use crate::roles::io::Io;

pub(super) fn run(io: &mut Io<'_>, shell: Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "oci-netkit", &mut script);
    let script = String::from_utf8(script)
        .map_err(|e| Error::new(Kind::Internal, format!("completions: {e}")))?;
    io.print(&script)
}
