//! The built binary as a runtime runs it: exit codes, streams, environment, signals, and where a
//! reason can be read afterwards. What needs a namespace and a kernel with netkit is in the guest
//! tests; the one test here that binds the journal's socket runs there too.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_oci-netkit");

/// A directory of one test, for state and pins that must not appear.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("nk-binary-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory for the test");
        Self(dir)
    }

    fn command(&self, binary: &str, args: &[&str]) -> Command {
        let mut command = Command::new(binary);
        command.arg("--state-dir").arg(self.0.join("state"));
        command.arg("--lasting-dir").arg(self.0.join("lasting"));
        command.arg("--bpffs-dir").arg(self.0.join("pins"));
        command.args(args).env_clear();
        command
    }

    fn run(&self, args: &[&str], stdin: &[u8]) -> Output {
        feed(self.command(BINARY, args), stdin)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn feed(mut command: Command, stdin: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    // The hook may end before it has read all; a runtime must not mind, nor do we.
    let _ = child.stdin.take().expect("a pipe").write_all(stdin);
    child.wait_with_output().expect("it ends")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn state(pid: &str) -> String {
    format!(
        r#"{{"ociVersion":"1.0","id":"c1","status":"created","pid":{pid},"bundle":"/nowhere",
            "annotations":{{"io.oci-netkit.address":"auto"}}}}"#
    )
}

#[test]
fn a_refusal_has_its_code_is_said_on_stderr_and_leaves_stdout_empty() {
    let place = Place::new("refusal");
    let output = place.run(&["hook", "create"], b"{}");
    assert_eq!(output.status.code(), Some(65));
    assert!(output.stdout.is_empty());
    assert!(stderr(&output).starts_with("oci-netkit: container state: missing field"));
}

#[test]
fn two_mebibytes_of_state_are_read_to_the_end_and_refused() {
    let place = Place::new("large");
    let mut text = state("1");
    text.push_str(&" ".repeat(2 << 20));
    let mut command = place.command(BINARY, &["hook", "create"]);
    command.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A runtime writes with no time limit: an error here would hang or kill it.
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(65));
    assert!(stderr(&output).contains("larger than 1 MiB"));
}

#[test]
fn a_failure_can_be_read_afterwards_without_knowing_an_id() {
    let place = Place::new("errors");
    // No process has this pid: kernel.pid_max is at most 2^22.
    let failed = place.run(&["hook", "create"], state("2147483647").as_bytes());
    assert_eq!(failed.status.code(), Some(65), "{}", stderr(&failed));
    let listed = place.run(&["errors", "--json"], b"");
    let list: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(list[0]["command"], "hook create");
    assert_eq!(list[0]["container_id"], "c1");
    assert_eq!(list[0]["exit_code"], 65);
    let error = list[0]["error"].as_str().unwrap();
    assert!(stderr(&failed).contains(error), "{error}");
    assert!(!place.0.join("pins").exists(), "a refusal makes no pins");
}

#[test]
fn a_wrong_command_line_is_a_usage_error_and_help_is_none() {
    let place = Place::new("usage");
    for args in [
        &["hook"][..],
        &["hook", "restart"],
        &["nonsense"],
        &["list", "--yaml"],
    ] {
        assert_eq!(place.run(args, b"").status.code(), Some(64), "{args:?}");
    }
    for args in [&["--help"][..], &["show", "--help"], &["--version"]] {
        let output = place.run(args, b"");
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(!output.stdout.is_empty());
    }
}

#[test]
fn blocked_signals_are_unblocked_as_crun_blocks_them_all() {
    let place = Place::new("signals");
    let mut command = place.command(BINARY, &["hook", "create"]);
    // SAFETY: between fork and exec only pthread_sigmask is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            nix::sys::signal::SigSet::all().thread_block()?;
            Ok(())
        });
    }
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    // It waits for its standard input now; give it the time to have started.
    std::thread::sleep(std::time::Duration::from_millis(300));
    let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(15)
    );
}

mod root {
    use super::{Place, feed};
    use std::os::unix::net::UnixDatagram;
    use std::time::Duration;

    /// Where systemd-journald listens (systemd's "Native Journal Protocol").
    const JOURNAL: &str = "/run/systemd/journal/socket";

    #[test]
    #[ignore = "binds the journal's socket: guest only"]
    fn guest_a_failure_is_in_the_journal_with_its_reason() {
        std::fs::create_dir_all("/run/systemd/journal").unwrap();
        let _ = std::fs::remove_file(JOURNAL);
        let journal = UnixDatagram::bind(JOURNAL).unwrap();
        journal
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let place = Place::new("journal");
        let binary = "/usr/libexec/oci/hooks.d/oci-netkit";
        let output = feed(place.command(binary, &["hook", "create"]), b"{}");
        let mut entry = [0; 4096];
        // The client first sends nothing, to see whether somebody listens.
        let mut length = 0;
        while length == 0 {
            length = journal.recv(&mut entry).unwrap();
        }
        std::fs::remove_file(JOURNAL).unwrap();
        let entry = String::from_utf8_lossy(&entry[..length]);
        assert!(entry.contains("SYSLOG_IDENTIFIER=oci-netkit"), "{entry}");
        assert!(entry.contains("missing field"), "{entry}");
        assert_eq!(output.status.code(), Some(65));
    }
}
