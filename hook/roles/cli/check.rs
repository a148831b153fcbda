//! `check`: is this allowed, and by which rule?
//!
//! Walks the rules that the endpoint's tables were compiled from (`plan/policy.rs`), with the remote
//! side where the host's routes put it (`plan/locate.rs`).

use serde::Serialize;

use super::args::{DirectionArg, Output};
use super::endpoint;
use crate::error::{Error, Kind, Result};
use crate::inspect;
use crate::kernel::probe;
use crate::plan::locate::{self, Place};
use crate::plan::policy::{Packet, Policy, Verdict, evaluate};
use crate::plan::policy_of;
use crate::plan::rules::{Protocol, Rule, Target, number};
use crate::roles::environment::Environment;
use crate::roles::io::Io;
use crate::roles::render;
use crate::state::store::View;
use crate::types::direction::Direction;
use crate::types::drop::reason;
use crate::types::scope::Scope;

#[derive(Debug, Serialize)]
struct Answer {
    allowed: bool,
    scope: Option<String>,
    rule: Option<String>,
    /// Name of the drop reason, if it is refused.
    reason: Option<&'static str>,
    /// In a sentence.
    explanation: String,
}

impl From<DirectionArg> for Direction {
    fn from(direction: DirectionArg) -> Self {
        match direction {
            DirectionArg::Egress => Self::Egress,
            DirectionArg::Ingress => Self::Ingress,
        }
    }
}

/// Prints the answer; true if it is allowed.
pub(super) fn run(
    io: &mut Io<'_>,
    environment: &Environment,
    id: &str,
    direction: Direction,
    target: &str,
    output: Output,
) -> Result<bool> {
    let view = endpoint::find(environment, id)?;
    let question = Question::parse(target)?;
    let host = probe::host_facts(&environment.paths)?;
    let ledger = View::new(&environment.paths).ledger(&host.boot_id)?;
    let uplinks: Vec<u32> = inspect::datapath(&environment.paths)?
        .uplinks
        .iter()
        .map(|u| u.ifindex)
        .collect();
    let answer = match locate::locate(question.remote, &host, &ledger, &uplinks) {
        Place::Martian => Answer::refused(None, 13),
        Place::Unroutable => Answer::refused(None, 26),
        Place::At(scope) => {
            let packet = question.packet(scope);
            let policy = policy_of(&view.record, &environment.load_config()?, &host)?;
            let verdict = evaluate(&policy, direction, &packet);
            Answer::of(verdict, &packet, &policy, direction)
        }
    };
    if output.json {
        io.print(&render::json(&answer)?)?;
    } else {
        let verdict = if answer.allowed { "allowed" } else { "refused" };
        io.print(&format!("{verdict}: {}\n", answer.explanation))?;
    }
    Ok(answer.allowed)
}

/// One remote side, spelt as a rule.
struct Question {
    remote: std::net::IpAddr,
    proto: u8,
    port: u16,
}

impl Question {
    fn parse(text: &str) -> Result<Self> {
        let rule = Rule::parse(text)?;
        let bad = |what: &str| {
            Error::new(Kind::BadInput, format!("{text:?}: {what}")).with_hint(
                "write one address and port, such as tcp:203.0.113.10:443 or icmp:[2001:db8::1]:128",
            )
        };
        let Target::Net(net) = rule.target else {
            return Err(bad("is not about one address"));
        };
        if net.prefix_len() != net.max_prefix_len() || rule.deny {
            return Err(bad("is not about one address"));
        }
        let proto = match rule.proto {
            Protocol::One(number) => number,
            Protocol::Icmp if net.addr().is_ipv4() => number::ICMP,
            Protocol::Icmp => number::ICMPV6,
            Protocol::Any | Protocol::TcpUdp | Protocol::Ported => {
                return Err(bad("is not about one protocol"));
            }
        };
        let port = match rule.ports {
            Some(ports) if ports.first == ports.last => ports.first,
            None if !number::has_ports(proto) => 0,
            _ => return Err(bad("is not about one port or type")),
        };
        Ok(Self {
            remote: net.addr(),
            proto,
            port,
        })
    }

    fn packet(&self, scope: Scope) -> Packet {
        Packet {
            remote: self.remote,
            proto: self.proto,
            port: self.port,
            scope,
        }
    }
}

impl Answer {
    fn of(verdict: Verdict, packet: &Packet, policy: &Policy, direction: Direction) -> Self {
        let rule = verdict.rule().and_then(|i| policy.text(direction, i));
        let rule = rule.map(str::to_owned);
        let named = rule.as_deref().unwrap_or("?").to_owned();
        let scope = packet.scope;
        match verdict {
            Verdict::Allow(_) => Self {
                allowed: true,
                scope: Some(scope.to_string()),
                explanation: format!("by the {direction} rule {named} ({scope})"),
                rule,
                reason: None,
            },
            Verdict::Deny(_) => Self {
                explanation: format!("by the {direction} rule {named} ({scope})"),
                rule,
                ..Self::refused(Some(scope), 16)
            },
            Verdict::Audit => Self {
                allowed: true,
                explanation: format!("by no {direction} rule, but the mode is audit ({scope})"),
                ..Self::refused(Some(scope), default_reason(packet))
            },
            Verdict::Default => Self::refused(Some(scope), default_reason(packet)),
        }
    }

    fn refused(scope: Option<Scope>, code: u32) -> Self {
        let reason = reason(code);
        Self {
            allowed: false,
            scope: scope.map(|s| s.to_string()),
            rule: None,
            reason: reason.map(|r| r.name),
            explanation: reason.map_or_else(String::new, |r| r.sentence.to_owned()),
        }
    }
}

/// Mirrors `nk_policy_default()`, bpf/policy.h.
fn default_reason(packet: &Packet) -> u32 {
    match packet.scope {
        Scope::Outside if number::has_ports(packet.proto) => 17,
        Scope::Outside => 24,
        Scope::Host => 18,
        Scope::Containers => 19,
        Scope::Network => 20,
        Scope::Metadata => 21,
        Scope::LinkLocal => 22,
        Scope::Multicast => 23,
    }
}

#[cfg(test)]
mod tests;
