//! Many exchanges at once, since each that is refused takes its time. What an exchange is, tcp.rs and
//! udp.rs say.

use std::io;
use std::thread;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{tcp, udp};

/// All of them at once, each with some patience: which got an answer.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Probes {
    /// Protocol, address and port, which is of no meaning for ICMP.
    questions: Vec<(String, String, u16)>,
    tries: Option<usize>,
    timeout: Option<f64>,
}

impl Probes {
    pub(crate) fn answer(&self) -> Value {
        let reached: Vec<bool> = thread::scope(|scope| {
            let asked: Vec<_> = (0..self.questions.len())
                .map(|n| scope.spawn(move || self.reaches(n)))
                .collect();
            // None of them panics, and if one did, it got no answer.
            let reached = asked.into_iter().map(|a| a.join().unwrap_or(false));
            reached.collect()
        });
        json!({"ok": true, "reached": reached})
    }

    fn reaches(&self, n: usize) -> bool {
        (0..self.tries.unwrap_or(2)).any(|_| self.ask(n).is_ok())
    }

    fn ask(&self, n: usize) -> io::Result<Value> {
        let (protocol, to, port) = self.questions[n].clone();
        let (send, timeout) = (
            Some(format!("probe {n}")),
            Some(self.timeout.unwrap_or(1.5)),
        );
        match protocol.as_str() {
            "icmp" => udp::Ping {
                to,
                timeout,
                size: None,
            }
            .answer(),
            "tcp" => tcp::Exchange {
                to,
                port,
                send,
                timeout,
                ..Default::default()
            }
            .answer(),
            _ => udp::Exchange {
                to,
                port,
                send,
                timeout,
                ..Default::default()
            }
            .answer(),
        }
    }
}
