//! `check`: is this allowed, and by which rule?
//!
//! Walks the rules that the endpoint's tables were compiled from (`plan/policy.rs`), with the remote
//! side where the host's routes put it (`plan/locate.rs`), and the names that the container learned.

use serde::Serialize;

use super::args::{DirectionArg, Output};
use super::endpoint;
use crate::error::{Error, Kind, Result};
use crate::inspect;
use crate::kernel::probe;
use crate::plan::locate::{self, Place};
use crate::plan::policy::{Packet, Policy, Verdict, evaluate, evaluate_name};
use crate::plan::policy_of;
use crate::plan::rules::{Protocol, Rule, Target, number};
use crate::roles::environment::Environment;
use crate::roles::io::Io;
use crate::roles::render;
use crate::state::store::View;
use crate::types::direction::Direction;
use crate::types::domain::{Depth, Domain};
use crate::types::drop::reason;
use crate::types::learned::Learned;
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
    let host = probe::host_facts(&environment.paths)?;
    let policy = policy_of(&view.record, &environment.load_config()?, &host)?;
    let question = match Question::parse(target, direction)? {
        Asked::Address(question) => question,
        Asked::Name(name, proto, port) => {
            let answer = Answer::of_name(&policy, &name, proto, port);
            return answer.print(io, output);
        }
    };
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
            let verdict = evaluate(&policy, direction, &packet);
            let named = match (direction, verdict) {
                (Direction::Egress, Verdict::Default | Verdict::Audit) => {
                    let learned = inspect::learned(&environment.paths, view.record.id)?;
                    Answer::of_learned(&policy, &packet, &learned)
                }
                _ => None,
            };
            named.unwrap_or_else(|| Answer::of(verdict, &packet, &policy, direction))
        }
    };
    answer.print(io, output)
}

/// What is asked about: one address, or one name.
enum Asked {
    Address(Question),
    Name(Domain, u8, u16),
}

/// One remote side, spelt as a rule.
struct Question {
    remote: std::net::IpAddr,
    proto: u8,
    port: u16,
}

impl Question {
    fn parse(text: &str, direction: Direction) -> Result<Asked> {
        let rule = Rule::parse(text)?;
        let bad = |what: &str| {
            Error::new(Kind::BadInput, format!("{text:?}: {what}")).with_hint(
                "write one address or name and port, such as tcp:203.0.113.10:443, \
                 tcp:github.com:443 or icmp:[2001:db8::1]:128",
            )
        };
        let (remote, name) = match rule.target {
            Target::Net(net) if net.prefix_len() == net.max_prefix_len() && !rule.deny => {
                (Some(net.addr()), None)
            }
            Target::Name(pattern)
                if pattern.depth == Depth::Exact && direction == Direction::Egress =>
            {
                (None, Some(pattern.domain))
            }
            Target::Name(_) if direction == Direction::Ingress => {
                return Err(bad("is a name, and ingress has none"));
            }
            _ => return Err(bad("is not about one address or name")),
        };
        let proto = match rule.proto {
            Protocol::One(number) => number,
            Protocol::Icmp if remote.is_none_or(|a| a.is_ipv4()) => number::ICMP,
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
        match (remote, name) {
            (Some(remote), _) => Ok(Asked::Address(Self {
                remote,
                proto,
                port,
            })),
            (None, Some(name)) => Ok(Asked::Name(name, proto, port)),
            (None, None) => Err(bad("is not about one address or name")),
        }
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
    fn print(&self, io: &mut Io<'_>, output: Output) -> Result<bool> {
        if output.json {
            io.print(&render::json(self)?)?;
        } else {
            let verdict = if self.allowed { "allowed" } else { "refused" };
            io.print(&format!("{verdict}: {}\n", self.explanation))?;
        }
        Ok(self.allowed)
    }

    /// Of a name, wherever its addresses are.
    fn of_name(policy: &Policy, name: &Domain, proto: u8, port: u16) -> Self {
        match evaluate_name(policy, name, proto, port) {
            Some(index) => Self::by_name(policy, index, ""),
            None => Self {
                explanation: format!("no rule names {name} for that protocol and port"),
                ..Self::refused(None, 39)
            },
        }
    }

    /// Of an address that the container learned, if a rule names one of its names.
    fn of_learned(policy: &Policy, packet: &Packet, learned: &[Learned]) -> Option<Self> {
        let known = learned.iter().find(|l| l.address == packet.remote)?;
        let is_far = packet.scope == Scope::Outside;
        let is_near = matches!(packet.scope, Scope::Containers | Scope::Network);
        for one in known.names.iter().filter(|n| n.seconds > 0) {
            let Some(index) = Domain::new(&one.name)
                .ok()
                .and_then(|name| evaluate_name(policy, &name, packet.proto, packet.port))
            else {
                continue;
            };
            let is_private_ok = policy
                .egress
                .rules()
                .get(index)
                .is_some_and(|r| r.private_ok);
            if (is_far && !one.private) || ((is_far || is_near) && is_private_ok) {
                let how = format!(", as {} for {} s yet", one.name, one.seconds);
                return Some(Self {
                    scope: Some(packet.scope.to_string()),
                    ..Self::by_name(policy, index, &how)
                });
            }
        }
        None
    }

    fn by_name(policy: &Policy, index: usize, how: &str) -> Self {
        let rule = policy
            .text(Direction::Egress, index)
            .unwrap_or("?")
            .to_owned();
        Self {
            allowed: true,
            scope: None,
            explanation: format!("by the egress rule {rule}{how}"),
            rule: Some(rule),
            reason: None,
        }
    }

    fn of(verdict: Verdict, packet: &Packet, policy: &Policy, direction: Direction) -> Self {
        let rule = verdict.rule().and_then(|i| policy.text(direction, i));
        let rule = rule.map(str::to_owned);
        let named = rule.as_deref().unwrap_or("?").to_owned();
        let scope = packet.scope;
        match verdict {
            Verdict::Allow(_) if rule.is_none() => Self {
                allowed: true,
                scope: Some(scope.to_string()),
                rule,
                reason: None,
                explanation: "to ask for names, while the mode is audit".into(),
            },
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
