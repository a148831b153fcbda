//! Rules of an endpoint that runs, changed: by an administrator's word, or since the config did.
//! Pure.

use super::compile::{Tables, compile};
use super::policy::Policy;
use super::rules::{Rule, RuleSet};
use super::{policy_of, rulebook};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::facts::HostFacts;
use crate::types::direction::Direction;
use crate::types::mode::Mode;
use crate::types::record::{EndpointRecord, Phase, RuleTexts};

#[cfg(test)]
mod tests;

/// What is to become of the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// These instead; what is `None` stays.
    Set {
        /// The container opens.
        egress: Option<RuleSet>,
        /// The remote side opens.
        ingress: Option<RuleSet>,
        /// Whether they decide.
        mode: Option<Mode>,
    },
    /// These as well.
    Allow(Direction, RuleSet),
    /// Not these any more; spelt in whatever way that says the same.
    Revoke(Direction, RuleSet),
    /// As the config has them now, where they come from it and were not changed since.
    Reload,
}

impl Change {
    /// What is on record, where the programs are behind it.
    pub const NONE: Self = Self::Set {
        egress: None,
        ingress: None,
        mode: None,
    };
}

/// Which policy of an endpoint the programs go by: `struct nk_policy_word`, bpf/abi.h.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyWord {
    /// 0 = none: everything is dropped.
    pub epoch: u32,
    /// Index into `nk_rules`.
    pub slot: u32,
}

/// A policy to put in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// Texts by rule index.
    pub egress: Vec<String>,
    /// As `egress`.
    pub ingress: Vec<String>,
    /// Whether they decide.
    pub mode: Mode,
    /// Directions whose rules are an administrator's word from now on.
    pub revised: Vec<Direction>,
    /// The ceiling that they are under.
    pub ceiling: Option<RuleTexts>,
    /// What the kernel gets.
    pub tables: Tables,
    /// Elements of the table of learned addresses, where it has none yet.
    pub learned: u32,
    /// Elements of the table of inbound flows, where it has none yet; `None` where none may be opened.
    pub flows_in: Option<u32>,
    /// Where, and which number it has.
    pub next: PolicyWord,
    /// What is odd, but not wrong.
    pub warnings: Vec<String>,
}

/// Decides what a change leads to; `None` if everything is in force already.
///
/// # Errors
/// [`Kind::BadInput`] for a rule that is to be revoked and is not there, and for rules that cannot
/// be in effect; [`Kind::NotPermitted`] for a trial that the config does not allow;
/// [`Kind::Conflict`] for an endpoint that does not stand.
pub fn revise(
    record: &EndpointRecord,
    change: &Change,
    config: &Config,
    host: &HostFacts,
    now: PolicyWord,
) -> Result<Option<Revision>> {
    if record.phase != Phase::Active || now.epoch == 0 {
        let message = format!("{} has no rules in force that could change", record.name);
        return Err(Error::new(Kind::Conflict, message)
            .with_hint("it is being started or taken down, or its maps are gone: restart it"));
    }
    let old = policy_of(record, config, host)?;
    let mut policy = Policy {
        ceiling: config.ceiling.as_ref().map(|c| c.rules.clone()),
        ..old.clone()
    };
    let mut revised = record.revised.clone();
    match change {
        Change::Set {
            egress,
            ingress,
            mode,
        } => {
            for (direction, rules) in [(Direction::Egress, egress), (Direction::Ingress, ingress)] {
                if let Some(rules) = rules {
                    rulebook::beyond(&policy, direction, rules.rules()).into_result(())?;
                    *side(&mut policy, direction) = rules.clone();
                    mark(&mut revised, direction);
                }
            }
            if let Some(mode) = mode {
                policy.mode = *mode;
            }
        }
        Change::Allow(direction, more) => {
            rulebook::beyond(&policy, *direction, more.rules()).into_result(())?;
            let set = side(&mut policy, *direction);
            *set = RuleSet::from_texts(&[set.texts(), more.texts()].concat())?;
            mark(&mut revised, *direction);
        }
        Change::Revoke(direction, less) => {
            revoke(side(&mut policy, *direction), *direction, less.rules())?;
            mark(&mut revised, *direction);
        }
        Change::Reload => reload(&mut policy, record, config)?,
    }
    let stands = policy.egress.texts() == old.egress.texts()
        && policy.ingress.texts() == old.ingress.texts()
        && policy.mode == old.mode
        && ceiling_of(&policy) == ceiling_of(&old);
    // A record that is ahead of the programs is of a change that was killed half-way.
    if stands && revised == record.revised && record.epoch == now.epoch {
        return Ok(None);
    }
    rulebook::check(&policy, config)?;
    let mut warnings = Vec::new();
    for direction in Direction::ALL {
        let set = side(&mut policy, direction).clone();
        warnings.extend(set.warnings().iter().map(|w| format!("{direction}: {w}")));
        // What was within an earlier ceiling stays, as far as this one leaves something of it.
        let beyond = rulebook::beyond(&policy, direction, set.rules());
        warnings.extend(beyond.iter().map(|e| format!("{direction}: {e}")));
    }
    Ok(Some(Revision {
        tables: compile(&policy)?,
        learned: config.limits.learned,
        flows_in: policy.opens_inwards().then_some(config.limits.flows_in),
        egress: policy.egress.texts(),
        ingress: policy.ingress.texts(),
        mode: policy.mode,
        revised,
        ceiling: ceiling_of(&policy),
        next: PolicyWord {
            // 0 would be no policy.
            epoch: now.epoch.checked_add(1).unwrap_or(1),
            slot: now.slot ^ 1,
        },
        warnings,
    }))
}

fn ceiling_of(policy: &Policy) -> Option<RuleTexts> {
    policy.ceiling.as_ref().map(super::texts)
}

fn side(policy: &mut Policy, direction: Direction) -> &mut RuleSet {
    match direction {
        Direction::Egress => &mut policy.egress,
        Direction::Ingress => &mut policy.ingress,
    }
}

fn mark(revised: &mut Vec<Direction>, direction: Direction) {
    if !revised.contains(&direction) {
        revised.push(direction);
        revised.sort_unstable();
    }
}

fn revoke(set: &mut RuleSet, direction: Direction, less: &[Rule]) -> Result<()> {
    let mut texts = Vec::new();
    for rule in less {
        if !set.rules().iter().any(|r| r.says_same(rule)) {
            let message = format!("no {direction} rule says {:?}", rule.text);
            let there = set.texts().join(" ");
            let hint = if there.is_empty() {
                format!("there are no {direction} rules")
            } else {
                format!("the {direction} rules are: {there}")
            };
            return Err(Error::new(Kind::BadInput, message).with_hint(hint));
        }
    }
    for rule in set.rules() {
        if !less.iter().any(|l| l.says_same(rule)) {
            texts.push(rule.text.clone());
        }
    }
    *set = RuleSet::from_texts(&texts)?;
    Ok(())
}

/// Takes from the config what came from it.
fn reload(policy: &mut Policy, record: &EndpointRecord, config: &Config) -> Result<()> {
    let name = record.keys.get("profile").map(String::as_str);
    let profile = rulebook::profile(name, config)?;
    for direction in Direction::ALL {
        let is_own = record.keys.contains_key(direction.word());
        if is_own || record.revised.contains(&direction) {
            continue;
        }
        let rules = profile.map(|p| p.rules(direction).clone());
        *side(policy, direction) = rules.unwrap_or_default();
    }
    Ok(())
}
