//! The command line as a type. Parses, never acts; help works without root, config or kernel.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// netkit networking for OCI containers: host speed, closed by default.
#[derive(Debug, Parser)]
#[command(
    name = "oci-netkit",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
pub struct Cli {
    /// Config file instead of /etc/oci-netkit/config.toml.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// State directory instead of /run/oci-netkit.
    #[arg(long, global = true, value_name = "DIR", hide = true)]
    pub state_dir: Option<PathBuf>,
    /// Directory of what outlives the boot instead of /var/lib/oci-netkit.
    #[arg(long, global = true, value_name = "DIR", hide = true)]
    pub lasting_dir: Option<PathBuf>,
    /// Pin directory instead of /sys/fs/bpf/oci-netkit.
    #[arg(long, global = true, value_name = "DIR", hide = true)]
    pub bpffs_dir: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// The command lines of hooks.d, `hook create` and `hook poststop`, and those that tell how long
    /// these take, as clap reads them; `None` for any other. To build clap's tree of commands takes a millisecond of each start of a container.
    #[must_use]
    pub fn of_hook(args: &[OsString]) -> Option<Self> {
        let (hook, stage, times) = match args {
            [hook, stage] => (hook, stage, false),
            [hook, stage, times] if times == "--times" => (hook, stage, true),
            _ => return None,
        };
        let stage = HookStage::from_str(stage.to_str()?, false).ok()?;
        (hook == "hook").then_some(Self {
            config: None,
            state_dir: None,
            lasting_dir: None,
            bpffs_dir: None,
            command: Command::Hook { stage, times },
        })
    }
}

/// Noun commands never change the host; verb commands may.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// What hooks.d calls: container state on standard input.
    Hook {
        /// The hook's stage.
        #[arg(value_enum)]
        stage: HookStage,
        /// Say on standard error how long each part took, in microseconds.
        #[arg(long)]
        times: bool,
    },
    /// Show what `hook create` would do for a container state on standard input; touches nothing.
    Plan(Output),
    /// The managed containers.
    List(Output),
    /// One container: addresses, rules, counters, drops.
    Show {
        /// Container id, a unique prefix of it, or the name annotation.
        id: String,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// The last failures of the hook, newest last; needs no id.
    Errors(Output),
    /// Is this allowed, and by which rule? Exit status 0 if it is, 1 if not.
    Check {
        /// Container id, a unique prefix of it, or the name annotation.
        id: String,
        /// Who opens the connection: `egress` the container, `ingress` the other side.
        #[arg(value_enum)]
        direction: DirectionArg,
        /// One remote side as in a rule: `tcp:203.0.113.10:443`, `icmp:[2001:db8::1]:128`.
        target: String,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// Change the rules of a running container, at once and until it ends.
    Policy {
        /// How.
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// What was refused to a container, or let through by mode=audit; also of one that has ended.
    Denied {
        /// Container id, a unique prefix of it, or the name annotation.
        id: String,
        /// The rules there are and those that would have allowed it, to be pasted back.
        #[arg(long)]
        as_rules: bool,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// Print what is refused while it happens, of one container or of all.
    Monitor {
        /// Container id, a unique prefix of it, or the name annotation; absent: all containers.
        id: Option<String>,
        /// How to print: with `--json` an object per line.
        #[command(flatten)]
        output: Output,
    },
    /// Packets, bytes, flows and drops of every container.
    Stats(Output),
    /// Can this host do it? Each line says how to mend what fails; exit status 1 if anything does.
    Doctor(Output),
    /// Remove what dead containers and killed hooks left behind.
    Gc(Output),
    /// Fit running containers to this version of oci-netkit and to the uplinks the host has now;
    /// packages and a udev rule run it.
    Reconcile(Output),
    /// Remove everything from this host; refuses while containers are attached.
    Unload {
        /// Also cut off containers that still run.
        #[arg(long)]
        force: bool,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// Print completions for a shell; packages install them for bash, zsh and fish.
    Completions {
        /// Which shell.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// The config file.
    Config {
        /// What about it.
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

/// About the config file.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print every fault with its line; exit status 78 if there is one.
    Check(Output),
}

/// About the rules of running containers.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// These rules instead of those there are; a direction that is not given stays.
    Set {
        /// Container id, a unique prefix of it, or the name annotation.
        id: String,
        /// Rules for the connections it opens; an empty text allows nothing.
        #[arg(long, value_name = "RULES")]
        egress: Option<String>,
        /// Rules for the connections it accepts; an empty text allows nothing.
        #[arg(long, value_name = "RULES")]
        ingress: Option<String>,
        /// Whether the rules decide, or only tell.
        #[arg(long, value_enum)]
        mode: Option<ModeArg>,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// These rules as well; deny rules too.
    Allow(PolicyRules),
    /// Not these rules any more; what they allowed ends at once.
    Revoke(PolicyRules),
    /// The config's rules as they are now, for one container or all: where they come from a profile
    /// and were not changed since.
    Reload {
        /// Container id, a unique prefix of it, or the name annotation; absent: all containers.
        id: Option<String>,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
}

/// Rules of one direction of one container.
#[derive(Debug, Args)]
pub struct PolicyRules {
    /// Container id, a unique prefix of it, or the name annotation.
    pub id: String,
    /// Who opens the connection: `egress` the container, `ingress` the other side.
    #[arg(value_enum)]
    pub direction: DirectionArg,
    /// As in the annotations.
    #[arg(required = true)]
    pub rules: Vec<String>,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// Whether rules decide.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ModeArg {
    /// They do.
    Enforce,
    /// What none decides passes, and is recorded.
    Audit,
}

/// Stage of the hook.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum HookStage {
    /// createRuntime.
    Create,
    /// poststop.
    Poststop,
}

impl From<HookStage> for crate::roles::oci_state::Stage {
    fn from(stage: HookStage) -> Self {
        match stage {
            HookStage::Create => Self::Create,
            HookStage::Poststop => Self::Poststop,
        }
    }
}

/// Direction of a connection.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum DirectionArg {
    /// The container connects out.
    Egress,
    /// Somebody connects to the container.
    Ingress,
}

/// How to print.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Output {
    /// JSON with stable field names instead of a table.
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_hook(line: &str) -> Option<String> {
        let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        Cli::of_hook(&args).map(|cli| format!("{cli:?}"))
    }

    #[test]
    fn the_hooks_command_lines_are_read_as_clap_reads_them() {
        for line in ["hook create", "hook poststop", "hook create --times"] {
            let words = std::iter::once("oci-netkit").chain(line.split(' '));
            let clap = Cli::try_parse_from(words).unwrap();
            assert_eq!(of_hook(line).unwrap(), format!("{clap:?}"));
        }
        for line in ["hook", "hook Create", "hook create --time", "list create"] {
            assert_eq!(of_hook(line), None, "{line}");
        }
    }
}
