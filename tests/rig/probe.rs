//! Many questions at once from one place, since each that is refused takes its time: which of them
//! were answered; and as whom a container is known where it asks.

use serde_json::{Value, json};

use super::container::{Container, INSIDE};
use super::{host, wire};

/// An exchange with an echo server.
#[derive(Clone, Debug)]
pub struct Probe {
    /// "tcp", "udp" or "icmp".
    pub protocol: &'static str,
    pub to: String,
    /// Of no meaning for ICMP.
    pub port: u16,
}

/// Where it is asked.
#[derive(Clone, Copy)]
pub enum Place<'c> {
    Container(&'c Container),
    Host,
    Wire,
}

impl Place<'_> {
    pub fn is(self, other: Self) -> bool {
        match (self, other) {
            (Self::Container(a), Self::Container(b)) => a.id == b.id,
            (Self::Host, Self::Host) | (Self::Wire, Self::Wire) => true,
            _ => false,
        }
    }
}

/// Where the wire machine has the guest's files.
const GUEST_ON_WIRE: &str = "/run/guest";
/// The program of a container anywhere: its last line is the answer.
const ASK: &str = "printf '%s\\n' \"$2\" | \"$1\"";

/// In the order of the probes.
#[track_caller]
pub fn reached(place: Place<'_>, probes: &[Probe]) -> Vec<bool> {
    let list: Vec<Value> = probes
        .iter()
        .map(|p| json!([p.protocol, p.to, p.port]))
        .collect();
    let request = json!({"op": "probes", "questions": list});
    let text = request.to_string();
    let on_wire = format!("{GUEST_ON_WIRE}{INSIDE}");
    let answer = match place {
        Place::Container(c) => c.ask(&request),
        Place::Host => last_line(&host::run(&["sh", "-c", ASK, "sh", INSIDE, &text])),
        Place::Wire => last_line(&wire::exec(&["sh", "-c", ASK, "sh", &on_wire, &text]).success()),
    };
    let all = answer["reached"].as_array();
    let all = all.unwrap_or_else(|| panic!("no answer: {answer}"));
    all.iter().map(|v| v == true).collect()
}

fn last_line(output: &str) -> Value {
    let line = output.lines().last().expect("an answer");
    serde_json::from_str(line).expect("JSON")
}

/// The address that a server on the wire sees of a container.
#[track_caller]
pub fn seen_as(c: &Container, to: &str) -> String {
    let answer = c.http(to, 80, "/").expect("an answer");
    let client = answer.split("client=").nth(1).expect("it says who asked");
    client.split(' ').next().expect("a word").to_owned()
}
