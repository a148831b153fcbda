//! oci-netkit called as a runtime calls it, for a process that only waits in a namespace of its
//! own: what a test of many starts can afford.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::{OUTSIDE, cli, host};

/// What a container gets where a test needs only one.
pub const ADDRESS: &str = "198.51.100.81 2001:db8:2::81";

/// A command of oci-netkit with its input.
#[derive(Debug)]
pub struct Run {
    pub args: &'static [&'static str],
    pub input: String,
}

impl Run {
    /// Runs it to its end.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn whole(&self) {
        self.ran().success();
    }

    /// Runs it to its end, whatever that is.
    pub fn ran(&self) -> cli::Ran {
        cli::run_with(self.args, self.input.as_bytes())
    }

    /// Starts it.
    pub fn begin(&self) -> Child {
        let mut command = Command::new(cli::BINARY);
        command.args(self.args);
        begin(command, &self.input)
    }
}

/// Starts a command that gets this input; what it complains of is for the log.
pub fn begin(mut command: Command, input: &str) -> Child {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("start it");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin
        .write_all(input.as_bytes())
        .expect("give it its input");
    child
}

pub fn create(id: &str, address: &str, sleeper: &host::Sleeper) -> Run {
    create_with(id, &[("address", address)], sleeper)
}

/// With these annotations, keys without the prefix, beside rules.
pub fn create_with(id: &str, keys: &[(&str, &str)], sleeper: &host::Sleeper) -> Run {
    let rules = ("egress", "udp:any");
    let annotations: serde_json::Map<String, serde_json::Value> = keys
        .iter()
        .chain([&rules])
        .map(|(key, value)| (format!("io.oci-netkit.{key}"), json!(value)))
        .collect();
    let state = json!({
        "ociVersion": "1.0.2", "id": id, "status": "created", "bundle": host::bundle(),
        "pid": sleeper.pid(), "annotations": annotations,
    });
    Run {
        args: &["hook", "create"],
        input: state.to_string(),
    }
}

pub fn poststop(id: &str) -> Run {
    let state = json!({
        "ociVersion": "1.0.2", "id": id, "status": "stopped", "bundle": host::bundle(),
    });
    Run {
        args: &["hook", "poststop"],
        input: state.to_string(),
    }
}

pub fn gc() -> Run {
    Run {
        args: &["gc"],
        input: String::new(),
    }
}

/// A container that came and went.
pub fn come_and_go(id: &str, address: &str) {
    let sleeper = host::Sleeper::new();
    create(id, address, &sleeper).whole();
    drop(sleeper);
    poststop(id).whole();
}

/// Loads the programs, which then stay.
pub fn warm_up() {
    come_and_go("warm", ADDRESS);
}

/// Whether a datagram from there is answered.
pub fn has_network(sleeper: &host::Sleeper) -> bool {
    process_has_network(sleeper.pid())
}

/// The same of any process.
pub fn process_has_network(pid: u32) -> bool {
    let netns = File::open(format!("/proc/{pid}/ns/net")).expect("open it");
    let asked = thread::spawn(move || {
        nix::sched::setns(netns, nix::sched::CloneFlags::CLONE_NEWNET).expect("enter it");
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        let patience = Some(Duration::from_millis(300));
        socket.set_read_timeout(patience).expect("set a timeout");
        socket.send_to(b"anyone", (OUTSIDE, 7777)).is_ok() && socket.recv(&mut [0; 16]).is_ok()
    });
    asked.join().expect("ask")
}

/// How many devices there are in it beside `lo`.
pub fn devices(sleeper: &host::Sleeper) -> usize {
    let text = fs::read_to_string(format!("/proc/{}/net/dev", sleeper.pid()));
    // Two lines of heading, and `lo`.
    text.expect("its devices").lines().count() - 3
}

/// What is left in the state directory, locks included: of ended endpoints nothing may be.
pub fn leftovers() -> Vec<String> {
    let mut found = Vec::new();
    for dir in ["endpoints", "journal"] {
        let entries = fs::read_dir(format!("{}/{dir}", host::STATE));
        found.extend(entries.into_iter().flatten().flatten().map(|e| e.path()));
    }
    let names = found.iter().map(|p| p.display().to_string());
    names.collect()
}

/// The host is as it was, and no file speaks of an endpoint.
#[track_caller]
pub fn assert_as_before(before: &host::Snapshot, what: &str) {
    println!("{what}");
    before.assert_same();
    assert_eq!(leftovers(), Vec::<String>::new(), "{what}");
}
