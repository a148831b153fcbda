//! From what was refused to the rules that would have allowed it: `denied --as-rules`. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::rules::number;
use crate::types::denied::Denied;
use crate::types::direction::Direction;
use crate::types::drop::reason;

#[cfg(test)]
mod tests;

/// From how many addresses on a port that others connect to is taken to be for everybody.
const CROWD: usize = 8;

/// Rules of both directions, as they are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suggestion {
    /// What there was, and what would have allowed the rest.
    pub egress: Vec<String>,
    /// As `egress`.
    pub ingress: Vec<String>,
    /// Direction and rule of what was refused even on trial: the host, metadata services, what is no
    /// unicast. Only people can say whether a workload should have that.
    pub left: Vec<(Direction, String)>,
}

/// The rules that there are and, for each refusal for want of a rule, one that allows no more than
/// that: this address, or the name that it was asked for by, this protocol, this port. Where more than eight addresses of the outside
/// world asked for one port, `any` of them. What a rule cannot mend is passed over.
#[must_use]
pub fn suggest(egress: &[String], ingress: &[String], denied: &[Denied]) -> Suggestion {
    let mut suggestion = Suggestion {
        egress: egress.to_vec(),
        ingress: ingress.to_vec(),
        left: Vec::new(),
    };
    let crowded = crowded(denied);
    for one in denied {
        let Some(remote) = one.remote else {
            // Asked for in vain; for which port, nobody has said yet.
            if let (Some(name), false) = (&one.name, one.passed) {
                suggestion
                    .left
                    .push((one.direction, format!("tcp:{name}:443")));
            }
            continue;
        };
        let (target, is_left) = match reason(one.reason).map(|r| r.name) {
            Some("no-rule") if crowded.contains(&door(one)) => ("any".to_owned(), false),
            Some("no-rule" | "protocol") if one.name.is_some() => {
                (one.name.clone().unwrap_or_default(), false)
            }
            Some("no-rule" | "protocol" | "containers" | "other-network") => (exact(remote), false),
            Some(keyword @ ("host" | "metadata" | "link-local" | "multicast")) => {
                (keyword.to_owned(), true)
            }
            _ => continue,
        };
        let rule = rule(one, &target);
        if is_left {
            let left = (one.direction, rule);
            if !suggestion.left.contains(&left) {
                suggestion.left.push(left);
            }
            continue;
        }
        let list = match one.direction {
            Direction::Egress => &mut suggestion.egress,
            Direction::Ingress => &mut suggestion.ingress,
        };
        if !list.contains(&rule) {
            list.push(rule);
        }
    }
    suggestion
}

type Door = (Direction, u8, u16);

fn door(denied: &Denied) -> Door {
    (denied.direction, denied.protocol, denied.port)
}

/// What the outside world asked for from many addresses.
fn crowded(denied: &[Denied]) -> BTreeSet<Door> {
    let mut remotes: BTreeMap<Door, BTreeSet<IpAddr>> = BTreeMap::new();
    for one in denied.iter().filter(|d| d.direction == Direction::Ingress) {
        let is_outside = reason(one.reason).is_some_and(|r| r.name == "no-rule");
        if let (Some(remote), true) = (one.remote, is_outside) {
            remotes.entry(door(one)).or_default().insert(remote);
        }
    }
    let crowds = remotes.into_iter().filter(|(_, r)| r.len() > CROWD);
    crowds.map(|(door, _)| door).collect()
}

fn exact(remote: IpAddr) -> String {
    match remote {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

fn rule(denied: &Denied, target: &str) -> String {
    let protocol = number::word(denied.protocol);
    if number::has_ports(denied.protocol) {
        format!("{protocol}:{target}:{}", denied.port)
    } else {
        format!("{protocol}:{target}")
    }
}
