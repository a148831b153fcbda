//! Picks the role, prints the one error, sets the exit code.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use oci_netkit::apply::times;
use oci_netkit::error::Error;
use oci_netkit::kernel::process;
use oci_netkit::roles::cli::args::{Cli, Command};
use oci_netkit::roles::io::Io;
use oci_netkit::roles::{cli, logging, oci_hook};

fn main() -> ExitCode {
    process::share_heap();
    // crun starts hooks with every signal blocked; without this not even SIGTERM would end us.
    let unblocked = oci_hook::unblock_signals();
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let args = match Cli::of_hook(&words).map_or_else(Cli::try_parse, Ok) {
        Ok(args) => args,
        Err(e) => return usage(&e),
    };
    let mut stdin = std::io::stdin().lock();
    let mut stdout = std::io::stdout().lock();
    let mut io = Io {
        stdin: &mut stdin,
        stdout: &mut stdout,
    };
    let environment = cli::environment(&args);
    let result = if let Command::Hook {
        stage,
        times: wanted,
    } = args.command
    {
        // A hook inherits whatever environment the runtime has: it reads no variable.
        logging::start(wanted.then_some(times::FILTER));
        unblocked
            .and_then(|()| oci_hook::run(&mut io, &environment, stage.into()))
            .map(|()| ExitCode::SUCCESS)
    } else {
        logging::start(std::env::var("RUST_LOG").ok().as_deref());
        cli::run(&mut io, &environment, args.command)
    };
    match result {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

fn usage(error: &clap::Error) -> ExitCode {
    // Help and version are no errors and go to standard output. A closed pipe is nobody's loss.
    let _ = error.print();
    if error.use_stderr() {
        ExitCode::from(64)
    } else {
        ExitCode::SUCCESS
    }
}

fn fail(error: &Error) -> ExitCode {
    let text = error.report();
    log::logger().flush();
    let _ = writeln!(std::io::stderr(), "oci-netkit: {text}");
    ExitCode::from(error.kind().exit_code())
}
