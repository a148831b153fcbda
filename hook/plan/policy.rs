//! What the rules say about one packet: the naive walk over the list that the compiled tables must
//! agree with, used by `check` and by property tests. Pure.
//!
//! Which scopes a rule matches is decided here, once, for this walk and for `compile.rs`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::rules::{Protocol, Rule, RuleSet, Target, number};
use crate::types::direction::Direction;
use crate::types::scope::Scope;

#[cfg(test)]
mod tests;

/// What rules refer to and only the host and the config know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// What `resolver` means.
    pub resolvers: Vec<IpAddr>,
    /// Pools that endpoints' addresses come from.
    pub pools: Vec<IpNet>,
    /// Networks behind interfaces of the host that are no uplinks.
    pub networks: Vec<IpNet>,
}

/// The rules of an endpoint with all they refer to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The container opens.
    pub egress: RuleSet,
    /// The remote side opens.
    pub ingress: RuleSet,
    /// What they refer to.
    pub places: Places,
}

/// What the rules see of a packet that opens a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Remote side; never v4-mapped.
    pub remote: IpAddr,
    /// IP protocol number.
    pub proto: u8,
    /// The remote port in egress, the container's in ingress, the type for ICMP, else 0.
    pub port: u16,
    /// Where the remote side lives.
    pub scope: Scope,
}

/// What a list of rules says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No rule matches: denied by default.
    Default,
    /// Allowed; index of the first rule that does.
    Allow(usize),
    /// Denied; index of the first rule that does.
    Deny(usize),
}

impl Verdict {
    /// True if the packet may open a flow.
    #[must_use]
    pub fn is_allow(self) -> bool {
        matches!(self, Self::Allow(_))
    }

    /// The deciding rule.
    #[must_use]
    pub fn rule(self) -> Option<usize> {
        match self {
            Self::Default => None,
            Self::Allow(i) | Self::Deny(i) => Some(i),
        }
    }
}

impl Policy {
    /// The rules of one direction.
    #[must_use]
    pub fn rules(&self, direction: Direction) -> &[Rule] {
        match direction {
            Direction::Egress => self.egress.rules(),
            Direction::Ingress => self.ingress.rules(),
        }
    }
}

/// A set of scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scopes(u8);

impl Scopes {
    /// Every scope there is.
    pub const ALL: Self = Self((1 << Scope::ALL.len()) - 1);

    /// Only this one.
    #[must_use]
    pub fn only(scope: Scope) -> Self {
        Self(1 << scope as u8)
    }

    /// This set and, if `more` holds, `scope`.
    #[must_use]
    pub fn and_if(self, more: bool, scope: Scope) -> Self {
        if more {
            Self(self.0 | 1 << scope as u8)
        } else {
            self
        }
    }

    /// True if the scope is in the set.
    #[must_use]
    pub fn has(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u8) != 0
    }
}

const EVERY: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
];
const LINK_LOCAL: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16)),
    IpNet::V6(Ipv6Net::new_assert(
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0),
        10,
    )),
];
const MULTICAST: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4)),
    IpNet::V6(Ipv6Net::new_assert(
        Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0),
        8,
    )),
];

/// The prefixes a rule matches, each with the scopes it matches them in.
///
/// Keywords match their scope. An address range means the outside world, and the special places
/// only as far as it names them exactly: it lies inside the special block, a pool or a network, or
/// is one address. A deny rule matches whatever its prefix covers, in every scope: it must not be
/// narrower than it reads.
#[must_use]
pub fn reaches(rule: &Rule, places: &Places) -> Vec<(IpNet, Scopes)> {
    let every = |scopes| EVERY.iter().map(|net| (*net, scopes)).collect();
    match rule.target {
        Target::Any if rule.deny => every(Scopes::ALL),
        Target::Any => every(Scopes::only(Scope::Outside)),
        Target::Host => every(Scopes::only(Scope::Host)),
        Target::Containers => every(Scopes::only(Scope::Containers)),
        Target::Metadata => every(Scopes::only(Scope::Metadata)),
        Target::LinkLocal => every(Scopes::only(Scope::LinkLocal)),
        Target::Multicast => every(Scopes::only(Scope::Multicast)),
        Target::Resolver => places
            .resolvers
            .iter()
            .map(|a| (IpNet::from(*a), Scopes::ALL))
            .collect(),
        Target::Net(net) if rule.deny => vec![(net, Scopes::ALL)],
        Target::Net(net) => vec![(net, allowed_scopes(&net, places))],
    }
}

/// Scopes that an allow rule for a prefix matches.
fn allowed_scopes(net: &IpNet, places: &Places) -> Scopes {
    let single = net.prefix_len() == net.max_prefix_len();
    let inside = |nets: &[IpNet]| nets.iter().any(|n| n.contains(net));
    Scopes::only(Scope::Outside)
        .and_if(inside(&LINK_LOCAL), Scope::LinkLocal)
        .and_if(inside(&MULTICAST), Scope::Multicast)
        .and_if(single, Scope::Metadata)
        .and_if(single, Scope::Host)
        .and_if(single || inside(&places.pools), Scope::Containers)
        .and_if(single || inside(&places.networks), Scope::Network)
}

/// Walks all rules of a direction: a deny wins over every allow, order does not matter otherwise.
#[must_use]
pub fn evaluate(policy: &Policy, direction: Direction, packet: &Packet) -> Verdict {
    let mut allowed = None;
    for (index, rule) in policy.rules(direction).iter().enumerate() {
        if !matches(rule, &policy.places, packet) {
            continue;
        }
        if rule.deny {
            return Verdict::Deny(index);
        }
        allowed = allowed.or(Some(index));
    }
    allowed.map_or(Verdict::Default, Verdict::Allow)
}

fn matches(rule: &Rule, places: &Places, packet: &Packet) -> bool {
    let proto = match rule.proto {
        Protocol::Any => true,
        Protocol::One(n) => packet.proto == n,
        Protocol::Icmp if packet.remote.is_ipv4() => packet.proto == number::ICMP,
        Protocol::Icmp => packet.proto == number::ICMPV6,
        Protocol::TcpUdp => matches!(packet.proto, number::TCP | number::UDP),
        Protocol::Ported => matches!(packet.proto, number::TCP | number::UDP | number::SCTP),
    };
    proto
        && rule.ports.is_none_or(|p| p.contains(packet.port))
        && reaches(rule, places)
            .iter()
            .any(|(net, scopes)| net.contains(&packet.remote) && scopes.has(packet.scope))
}
