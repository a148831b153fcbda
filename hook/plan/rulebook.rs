//! Which rules are in effect for an endpoint: its annotations over a profile of the config. Pure.

use std::collections::HashSet;
use std::net::IpAddr;

use super::link::{Uplinks, is_ours};
use super::policy::{Places, Policy, is_within};
use super::pools;
use super::rules::{Rule, RuleSet, Target};
use crate::annotations::Wishes;
use crate::config::{Config, PATH, Profile};
use crate::error::{Error, ErrorList, Kind, Result};
use crate::facts::HostFacts;
use crate::request::PREFIX;
use crate::types::addr::not_unicast;
use crate::types::direction::Direction;
use crate::types::mode::Mode;
use crate::types::name::nearest;

/// Profile in effect where none is named.
const DEFAULT_PROFILE: &str = "default";

/// Rules of a ceiling that a hint shows.
const SHOWN: usize = 10;

/// The rules in effect and what they refer to; `None` after a fault.
pub(super) fn in_effect(
    wishes: &Wishes,
    config: &Config,
    places: Places,
    faults: &mut ErrorList,
) -> Option<Policy> {
    let profile = faults.keep(profile(wishes.profile.as_deref(), config))?;
    let pick = |own: &Option<RuleSet>, direction| {
        own.clone()
            .or_else(|| profile.map(|p| p.rules(direction).clone()))
            .unwrap_or_default()
    };
    let policy = Policy {
        egress: pick(&wishes.egress, Direction::Egress),
        ingress: pick(&wishes.ingress, Direction::Ingress),
        places,
        mode: wishes.mode,
        ceiling: config.ceiling.as_ref().map(|c| c.rules.clone()),
    };
    let checked = check(&policy, config);
    faults.keep(checked)?;
    for (direction, own) in [
        (Direction::Egress, &wishes.egress),
        (Direction::Ingress, &wishes.ingress),
    ] {
        let source = match own {
            Some(_) => format!("annotation {PREFIX}{direction}"),
            None => format!(
                "{direction} of the profile {}",
                wishes.profile.as_deref().unwrap_or(DEFAULT_PROFILE)
            ),
        };
        for fault in beyond(&policy, direction, policy.rules(direction)).iter() {
            faults.push(fault.clone().with_context(&source));
        }
    }
    Some(policy)
}

/// Rules that ask for more than the ceiling allows.
pub(super) fn beyond(policy: &Policy, direction: Direction, rules: &[Rule]) -> ErrorList {
    let mut faults = ErrorList::new();
    let Some(ceiling) = policy.ceiling.as_ref().map(|c| c.rules(direction)) else {
        return faults;
    };
    for rule in rules.iter().filter(|r| !r.deny) {
        if !is_within(ceiling, rule, &policy.places) {
            let message = format!(
                "rule {:?} is beyond the ceiling of the config: none of its rules allows all of it",
                rule.text
            );
            faults.push(
                Error::new(Kind::NotPermitted, message).with_hint(allows(ceiling, direction)),
            );
        }
    }
    faults
}

fn allows(ceiling: &RuleSet, direction: Direction) -> String {
    let mut texts = ceiling.texts();
    if texts.is_empty() {
        return format!("{PATH} has no {direction} under [ceiling], so it allows none");
    }
    let more = texts.len().saturating_sub(SHOWN);
    texts.truncate(SHOWN);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!("{direction} of the ceiling is: {}{more}", texts.join(" "))
}

/// Whether the config and the host permit these rules.
///
/// # Errors
/// [`Kind::BadInput`] for too many rules and for `resolver` on a host without one,
/// [`Kind::NotPermitted`] for a trial that the config does not allow.
pub(super) fn check(policy: &Policy, config: &Config) -> Result<()> {
    let mut faults = ErrorList::new();
    let all = || policy.egress.rules().iter().chain(policy.ingress.rules());
    let (count, most) = (all().count(), config.limits.rules);
    if usize::try_from(most).is_ok_and(|most| count > most) {
        let message = format!("{count} rules, and limits.rules of the config allows {most}");
        faults.push(Error::new(Kind::BadInput, message));
    }
    if let Some(rule) = policy.ingress.named() {
        let message = format!(
            "rule {:?}: ingress has no names, since nobody can ask who comes",
            rule.text
        );
        faults.push(Error::new(Kind::BadInput, message).with_hint("write the addresses"));
    }
    let needs = all().find(|r| matches!(r.target, Target::Name(_) | Target::Resolver));
    if let (Some(rule), true) = (needs, policy.places.resolvers.is_empty()) {
        let message = format!(
            "rule {:?}: this host has no name server that a container can reach",
            rule.text
        );
        let hint = format!("write to {PATH}, under [dns]: servers = [\"192.0.2.53\"]");
        faults.push(Error::new(Kind::BadInput, message).with_hint(hint));
    }
    if policy.mode == Mode::Audit && !config.audit_allowed {
        let message = "annotation io.oci-netkit.mode: audit, and the config does not allow it";
        let hint = format!("leave the key out, or write to {PATH}: audit_allowed = true");
        faults.push(Error::new(Kind::NotPermitted, message).with_hint(hint));
    }
    faults.into_result(())
}

/// Whether name servers of an annotation may be had: names are asked of whoever they are, so under a
/// ceiling they are the administrator's to choose.
///
/// # Errors
/// [`Kind::NotPermitted`] for one that neither the config nor the host has.
pub(super) fn check_servers(servers: &[IpAddr], places: &Places, config: &Config) -> Result<()> {
    let other = servers.iter().find(|s| !places.resolvers.contains(s));
    match (other, &config.ceiling) {
        (Some(server), Some(_)) => {
            let message = format!(
                "annotation {PREFIX}dns: {server} is no name server of the config or the host, and \
                 the config has a ceiling"
            );
            let hint = format!("write to {PATH}, under [dns]: servers = [\"{server}\"]");
            Err(Error::new(Kind::NotPermitted, message).with_hint(hint))
        }
        _ => Ok(()),
    }
}

/// The profile that is asked for, else the default one if there is one.
///
/// # Errors
/// [`Kind::BadInput`] if the config has none of that name.
pub(super) fn profile<'c>(name: Option<&str>, config: &'c Config) -> Result<Option<&'c Profile>> {
    let Some(name) = name else {
        return Ok(config.profiles.get(DEFAULT_PROFILE));
    };
    if let Some(profile) = config.profiles.get(name) {
        return Ok(Some(profile));
    }
    let message = format!("annotation io.oci-netkit.profile: the config has no profile {name:?}");
    let names = config.profiles.keys().map(String::as_str);
    let hint = match nearest(name, names) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("write it to {PATH}: [profile.{name}]"),
    };
    Err(Error::new(Kind::BadInput, message).with_hint(hint))
}

/// What rules refer to, as the host and the config are now.
pub(super) fn places(config: &Config, host: &HostFacts, uplinks: &Uplinks<'_>) -> Places {
    let resolvers = config.resolvers.as_ref().unwrap_or(&host.resolvers);
    // Networks behind interfaces of the host that are neither uplinks nor containers of ours.
    let links = host.links.iter();
    let ours: HashSet<u32> = links
        .filter(|l| is_ours(l) || l.loopback)
        .map(|l| l.ifindex)
        .collect();
    let behind = |ifindex: u32| !ours.contains(&ifindex) && !uplinks.has(ifindex);
    let networks = host
        .routes
        .iter()
        .filter(|r| r.destination.prefix_len() != 0 && r.ifindex.is_some_and(behind));
    Places {
        resolvers: resolvers
            .iter()
            .copied()
            .filter(|a| not_unicast(*a).is_none())
            .collect(),
        pools: pools::in_effect(config, host)
            .iter()
            .map(|p| p.prefix)
            .collect(),
        networks: networks.map(|r| r.destination).collect(),
    }
}
