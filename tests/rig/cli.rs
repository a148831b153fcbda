//! The installed oci-netkit and what its commands say, as JSON.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

pub const BINARY: &str = "/usr/libexec/oci/hooks.d/oci-netkit";

/// Exit codes, after sysexits.
pub const USAGE: i32 = 64;
pub const BAD_INPUT: i32 = 65;
pub const UNSUPPORTED: i32 = 69;
pub const CONFLICT: i32 = 73;
pub const NOT_PERMITTED: i32 = 77;
pub const CONFIG: i32 = 78;

/// What one run of it did.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("no JSON ({e}): {self:?}"))
    }

    #[track_caller]
    pub fn success(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }
}

pub fn run(args: &[&str]) -> Ran {
    run_with(args, b"")
}

/// With something on standard input.
pub fn run_with(args: &[&str], stdin: &[u8]) -> Ran {
    let mut command = Command::new(BINARY);
    command.args(args);
    feed(&mut command, stdin)
}

/// Runs any command with this input.
pub fn feed(command: &mut Command, stdin: &[u8]) -> Ran {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start the program");
    let mut pipe = child.stdin.take().expect("a pipe");
    let bytes = stdin.to_vec();
    // A refused input is not read to its end.
    let writer = std::thread::spawn(move || drop(pipe.write_all(&bytes)));
    let output = child.wait_with_output().expect("the program ends");
    writer.join().expect("the writer ends");
    Ran::from(output)
}

/// Its JSON, of a command that must succeed.
#[track_caller]
pub fn json(args: &[&str]) -> Value {
    let mut with: Vec<&str> = args.to_vec();
    with.push("--json");
    run(&with).success().json()
}

pub fn list() -> Vec<Value> {
    json(&["list"]).as_array().expect("a list").clone()
}

#[track_caller]
pub fn show(id: &str) -> Value {
    json(&["show", id])
}

/// Counted drops by reason; only those that are not zero.
pub type Drops = BTreeMap<String, u64>;

fn drops_of(value: &Value) -> Drops {
    value
        .as_object()
        .expect("drops by reason")
        .iter()
        .map(|(k, v)| (k.clone(), v.as_u64().expect("a count")))
        .collect()
}

/// Drops of one container in one direction.
#[track_caller]
pub fn drops(id: &str, direction: &str) -> Drops {
    drops_of(&show(id)["drops"][direction])
}

/// Drops of packets that belong to no container.
#[track_caller]
pub fn unattributed(direction: &str) -> Drops {
    drops_of(&json(&["stats"])["unattributed"][direction])
}

/// What came on top, reason by reason.
pub fn added(before: &Drops, after: &Drops) -> Drops {
    after
        .iter()
        .map(|(k, v)| (k.clone(), v - before.get(k).copied().unwrap_or(0)))
        .filter(|(_, v)| *v > 0)
        .collect()
}

/// `only("vlan", 2)` is what [`added`] gives after two VLAN frames and nothing else.
pub fn only(reason: &str, count: u64) -> Drops {
    Drops::from([(reason.to_owned(), count)])
}

/// The newest entry of `errors`.
#[track_caller]
pub fn last_error() -> Value {
    json(&["errors"])
        .as_array()
        .expect("a list")
        .last()
        .expect("an error was recorded")
        .clone()
}

pub fn error_count() -> usize {
    json(&["errors"]).as_array().expect("a list").len()
}
