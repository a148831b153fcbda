//! What the rules say about one packet: the naive walk over the list that the compiled tables must
//! agree with, used by `check` and by property tests. Pure.
//!
//! Which scopes a rule matches is decided here, once, for this walk and for `compile.rs`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::rules::{Ports, Protocol, Rule, RuleSet, Target, number};
use crate::config::Profile;
use crate::types::direction::Direction;
use crate::types::domain::Domain;
use crate::types::mode::Mode;
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
    /// What becomes of what no rule decides.
    pub mode: Mode,
    /// What the rules can reach at most.
    pub ceiling: Option<Profile>,
}

/// Whether a rule asks for no more than the ceiling allows.
#[must_use]
pub fn is_within(ceiling: &RuleSet, rule: &Rule, places: &Places) -> bool {
    if let Target::Name(pattern) = &rule.target {
        let mut bounds = ceiling.rules().iter().filter(|r| !r.deny);
        return bounds.any(|bound| {
            let has_names = match &bound.target {
                Target::Any => !rule.private_ok,
                Target::Name(outer) => {
                    outer.covers(pattern) && (bound.private_ok || !rule.private_ok)
                }
                _ => false,
            };
            has_names
                && covers_proto(bound.proto, rule.proto)
                && covers_ports(bound.ports, rule.ports)
        });
    }
    let bounds = ceiling.rules().iter().filter(|r| !r.deny);
    let bounds: Vec<Term> = bounds.map(|r| Term::of(r, 0, places)).collect();
    let whole = Term::of(rule, 0, places);
    let mut lowered = whole.clone();
    lowered.lower(&bounds);
    lowered.nets.len() == whole.nets.len()
}

/// What is made of packets that a term matches. The least of those that match decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// Never passes.
    Deny,
    /// Passes.
    Allow,
    /// Passes, and is recorded.
    Audit,
}

/// In place of the index of a rule, where nobody wrote one.
const NO_RULE: u32 = u32::MAX;

/// A rule with all it refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// What it does.
    pub effect: Effect,
    /// Index of the rule in its direction's list; 0 for [`Effect::Audit`], which no rule says.
    pub rule: u32,
    /// Where, and in which scopes.
    pub nets: Vec<(IpNet, Scopes)>,
    /// Protocols.
    pub proto: Protocol,
    /// Ports, or types; `None` = all.
    pub ports: Option<Ports>,
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
    /// No rule matches, and it passes all the same, since the endpoint is on trial.
    Audit,
    /// Allowed; index of the first rule that does.
    Allow(usize),
    /// Denied; index of the first rule that does.
    Deny(usize),
}

impl Verdict {
    /// True if the packet may open a flow.
    #[must_use]
    pub fn is_allow(self) -> bool {
        matches!(self, Self::Allow(_) | Self::Audit)
    }

    /// The deciding rule.
    #[must_use]
    pub fn rule(self) -> Option<usize> {
        match self {
            Self::Default | Self::Audit => None,
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

    /// Whether the remote side may open flows: some rule allows one, or none decides.
    #[must_use]
    pub fn opens_inwards(&self) -> bool {
        self.mode == Mode::Audit || self.ingress.rules().iter().any(|r| !r.deny)
    }

    /// Whether queries to the resolvers are filtered, and answers learned: where rules have names, and
    /// on trial, which would not know what a workload means else.
    #[must_use]
    pub fn filters_names(&self) -> bool {
        self.mode == Mode::Audit || self.named_rules().next().is_some()
    }

    /// Rules of egress with names, as far as the ceiling allows them, with their indexes.
    pub fn named_rules(&self) -> impl Iterator<Item = (u32, &Rule)> {
        let ceiling = self.ceiling.as_ref().map(|c| c.rules(Direction::Egress));
        let rules = (0..).zip(self.egress.rules());
        rules.filter(move |(_, rule)| {
            matches!(rule.target, Target::Name(_))
                && ceiling.is_none_or(|c| is_within(c, rule, &self.places))
        })
    }

    /// Names have to be asked for: who filters queries allows that much of the resolvers, wherever
    /// these are. The first rule with a name says so; on trial, none may ([`NO_RULE`]).
    fn lookups(&self) -> Option<Term> {
        let named = self.named_rules().next();
        let resolvers = self.places.resolvers.iter();
        self.filters_names().then(|| Term {
            effect: Effect::Allow,
            rule: named.map_or(NO_RULE, |(index, _)| index),
            nets: resolvers.map(|a| (IpNet::from(*a), Scopes::ALL)).collect(),
            proto: Protocol::TcpUdp,
            ports: Some(Ports {
                first: 53,
                last: 53,
            }),
        })
    }

    /// The rule that a verdict names, as written.
    #[must_use]
    pub fn text(&self, direction: Direction, rule: usize) -> Option<&str> {
        let own = self.rules(direction);
        let ceiling = self.ceiling.as_ref().map(|c| c.rules(direction).rules());
        let rules = own.iter().chain(ceiling.unwrap_or_default());
        rules.map(|r| r.text.as_str()).nth(rule)
    }

    /// All that decides in one direction, in the order of the rules; behind them, numbered on, the
    /// ceiling's, whose deny rules decide as any.
    ///
    /// On trial, all of the outside world passes, other containers (whose own rules judge too) and
    /// networks behind the host. Never the host itself, metadata services and what is no unicast:
    /// nobody wants to find out about those by letting them happen.
    #[must_use]
    pub fn terms(&self, direction: Direction) -> Vec<Term> {
        let of = |rules: &[Rule], first: u32| -> Vec<Term> {
            let numbered = rules.iter().zip(first..);
            numbered
                .map(|(rule, index)| Term::of(rule, index, &self.places))
                .collect()
        };
        let own = self.rules(direction);
        let mut terms = of(own, 0);
        let mut trial = vec![Term::everywhere()];
        if let Some(ceiling) = &self.ceiling {
            let first = u32::try_from(own.len()).unwrap_or(u32::MAX);
            let bounds = of(ceiling.rules(direction).rules(), first);
            let (denies, allows): (Vec<Term>, Vec<Term>) =
                bounds.into_iter().partition(|t| t.effect == Effect::Deny);
            terms.iter_mut().for_each(|t| t.lower(&allows));
            terms.extend(denies);
            trial = allows;
        }
        if self.mode == Mode::Audit {
            terms.extend(trial.into_iter().map(Term::on_trial));
        }
        if direction == Direction::Egress {
            terms.extend(self.lookups());
        }
        terms.retain(|t| !t.nets.is_empty());
        terms
    }
}

/// Whether `outer` has all ports that `inner` has.
fn covers_ports(outer: Option<Ports>, inner: Option<Ports>) -> bool {
    match (outer, inner) {
        (None, _) => true,
        (Some(outer), Some(inner)) => outer.first <= inner.first && inner.last <= outer.last,
        (Some(_), None) => false,
    }
}

/// Whether `outer` has all protocols that `inner` has.
fn covers_proto(outer: Protocol, inner: Protocol) -> bool {
    let of = |n: u8| match outer {
        Protocol::TcpUdp => matches!(n, number::TCP | number::UDP),
        Protocol::Ported => matches!(n, number::TCP | number::UDP | number::SCTP),
        _ => false,
    };
    outer == Protocol::Any
        || outer == inner
        || match inner {
            Protocol::One(n) => of(n),
            Protocol::TcpUdp => of(number::TCP) && of(number::UDP),
            _ => false,
        }
}

impl Term {
    fn of(rule: &Rule, index: u32, places: &Places) -> Self {
        Self {
            effect: if rule.deny {
                Effect::Deny
            } else {
                Effect::Allow
            },
            rule: index,
            nets: reaches(rule, places),
            proto: rule.proto,
            ports: rule.ports,
        }
    }

    /// All of both families, in all scopes.
    fn everywhere() -> Self {
        Self {
            effect: Effect::Allow,
            rule: 0,
            nets: every(Scopes::ALL),
            proto: Protocol::Any,
            ports: None,
        }
    }

    /// The same for what no rule decides, as far as a trial goes.
    fn on_trial(self) -> Self {
        let scopes = [Scope::Outside, Scope::Containers, Scope::Network];
        let scopes = scopes.map(Scopes::only).into_iter();
        let scopes = scopes.fold(Scopes::default(), Scopes::or);
        let nets = self.nets.into_iter();
        Self {
            effect: Effect::Audit,
            rule: 0,
            nets: nets
                .map(|(net, s)| (net, s.both(scopes)))
                .filter(|(_, s)| !s.is_empty())
                .collect(),
            ..self
        }
    }

    /// Leaves of an allow rule what the ceiling allows: of each prefix the scopes in which one rule of
    /// the ceiling holds it, for all of its protocols and ports.
    fn lower(&mut self, ceiling: &[Self]) {
        if self.effect != Effect::Allow {
            return;
        }
        let (proto, ports) = (self.proto, self.ports);
        let holds =
            |bound: &&Self| covers_proto(bound.proto, proto) && covers_ports(bound.ports, ports);
        let bounds: Vec<&Self> = ceiling.iter().filter(holds).collect();
        for (net, scopes) in &mut self.nets {
            let nets = bounds.iter().flat_map(|b| &b.nets);
            let outer = nets.filter(|(outer, _)| outer.contains(&*net));
            *scopes = scopes.both(outer.fold(Scopes::default(), |all, (_, s)| all.or(*s)));
        }
        self.nets.retain(|(_, scopes)| !scopes.is_empty());
    }

    fn matches(&self, packet: &Packet) -> bool {
        let icmp = if packet.remote.is_ipv4() {
            number::ICMP
        } else {
            number::ICMPV6
        };
        let is_other_icmp = self.proto == Protocol::Icmp && packet.proto != icmp;
        let mut nets = self.nets.iter();
        has_proto(self.proto, packet.proto)
            && !is_other_icmp
            && self.ports.is_none_or(|p| p.contains(packet.port))
            && nets.any(|(net, scopes)| net.contains(&packet.remote) && scopes.has(packet.scope))
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

    /// The scopes that are in both.
    #[must_use]
    pub fn both(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The scopes that are in either.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// True if no scope is in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
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
fn reaches(rule: &Rule, places: &Places) -> Vec<(IpNet, Scopes)> {
    match &rule.target {
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
        Target::Net(net) if rule.deny => vec![(*net, Scopes::ALL)],
        Target::Net(net) => vec![(*net, allowed_scopes(net, places))],
        // What they are, the endpoint learns.
        Target::Name(_) => Vec::new(),
    }
}

fn every(scopes: Scopes) -> Vec<(IpNet, Scopes)> {
    EVERY.iter().map(|net| (*net, scopes)).collect()
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

/// Which rule lets a container connect to a name, wherever its addresses are; for who knows the name
/// of an address.
#[must_use]
pub fn evaluate_name(policy: &Policy, name: &Domain, proto: u8, port: u16) -> Option<usize> {
    let is_about = |rule: &Rule| match &rule.target {
        Target::Name(pattern) => {
            pattern.matches(name)
                && has_proto(rule.proto, proto)
                && rule.ports.is_none_or(|p| p.contains(port))
        }
        _ => false,
    };
    let found = policy.named_rules().find(|(_, rule)| is_about(rule));
    found.and_then(|(index, _)| usize::try_from(index).ok())
}

/// Whether a rule is about a protocol; `icmp` is about either family's.
fn has_proto(rule: Protocol, proto: u8) -> bool {
    match rule {
        Protocol::Any => true,
        Protocol::One(n) => n == proto,
        Protocol::Icmp => matches!(proto, number::ICMP | number::ICMPV6),
        Protocol::TcpUdp => matches!(proto, number::TCP | number::UDP),
        Protocol::Ported => matches!(proto, number::TCP | number::UDP | number::SCTP),
    }
}

/// Walks all rules of a direction: a deny wins over every allow, order does not matter otherwise.
#[must_use]
pub fn evaluate(policy: &Policy, direction: Direction, packet: &Packet) -> Verdict {
    let terms = policy.terms(direction);
    let matching = terms.iter().filter(|t| t.matches(packet));
    let Some(decisive) = matching.min_by_key(|t| (t.effect, t.rule)) else {
        return Verdict::Default;
    };
    let rule = usize::try_from(decisive.rule).unwrap_or(usize::MAX);
    match decisive.effect {
        Effect::Deny => Verdict::Deny(rule),
        Effect::Allow => Verdict::Allow(rule),
        Effect::Audit => Verdict::Audit,
    }
}
