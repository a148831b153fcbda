//! What TCP of the wire machine counted: where a request was lost on its way in, it is the client
//! whose timer ends.

use std::error::Error;
use std::fs;

use serde_json::{Value, json};

pub(crate) struct Tcp {
    timeouts: u64,
    retransmitted: u64,
}

impl Tcp {
    pub(crate) fn now() -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            timeouts: field("/proc/net/netstat", "TcpExt:", "TCPTimeouts")?,
            retransmitted: field("/proc/net/snmp", "Tcp:", "RetransSegs")?,
        })
    }

    /// By the names the kernel has for it.
    pub(crate) fn since(&self, start: &Self) -> Value {
        json!({
            "TCPTimeouts": self.timeouts - start.timeouts,
            "RetransSegs": self.retransmitted - start.retransmitted,
        })
    }
}

/// A line of names, and one of the same kind with their values.
fn field(file: &str, kind: &str, name: &str) -> Result<u64, Box<dyn Error>> {
    let text = fs::read_to_string(file)?;
    let mut lines = text.lines().filter_map(|l| l.strip_prefix(kind));
    let (names, values) = (lines.next(), lines.next());
    let mut pairs = names
        .into_iter()
        .flat_map(str::split_whitespace)
        .zip(values.into_iter().flat_map(str::split_whitespace));
    let (_, value) = pairs
        .find(|(n, _)| *n == name)
        .ok_or_else(|| format!("no {name} in {file}"))?;
    Ok(value.parse()?)
}
