//! Decides; touches nothing. Pure.
//!
//! [`plan`] turns a request, the config and what was found into a list of [`step::Step`], or into
//! *all* reasons why not. `apply/` runs the steps; `teardown.rs` decides what to take away.

mod admit;
pub mod compile;
mod create;
mod ipam;
mod join;
mod lan;
mod lease;
pub mod link;
pub mod locate;
mod nat;
pub mod policy;
mod pools;
pub mod publish;
pub mod reconcile;
pub mod resolv;
pub mod revise;
mod rulebook;
pub mod rules;
mod shape;
pub mod step;
pub mod suggest;
pub mod teardown;

use crate::config::{Config, Profile};
use crate::error::{Error, ErrorList, Kind, Result};
use crate::facts::{HostFacts, Ledger, NamespaceFacts};
use crate::request::Request;
use crate::types::id::NetnsCookie;
use crate::types::record::{EndpointRecord, Member, RuleTexts};
use policy::{Places, Policy};
use rules::RuleSet;
use step::Step;

/// What to do about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Build an endpoint.
    Create(Box<Plan>),
    /// The namespace has an endpoint: add the container to it.
    Join(Join),
    /// The container is a member already: nothing to do.
    Present,
}

/// An endpoint to build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// To be written first, phase creating; interface indexes and the generation are filled in by
    /// `apply/`.
    pub record: EndpointRecord,
    /// In this order.
    pub steps: Vec<Step>,
    /// What is odd, but not wrong.
    pub warnings: Vec<String>,
}

/// A container that joins an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// The endpoint.
    pub cookie: NetnsCookie,
    /// To be added to its record, in place of a member with the same container id.
    pub member: Member,
    /// What is odd, but not wrong.
    pub warnings: Vec<String>,
}

/// Whether this host can do it at all. Asked before the container is looked at, since without the
/// privileges that look fails with less helpful words.
///
/// # Errors
/// All that the host lacks.
pub fn check_host(host: &HostFacts) -> Result<()> {
    let mut faults = ErrorList::new();
    admit::check_host(host, &mut faults);
    faults.into_result(())
}

/// Whether the endpoints' host is the namespace that the caller is in. Package managers run
/// scripts in namespaces of their own, where every device of the host seems to be gone.
///
/// # Errors
/// [`Kind::Conflict`] if it is another one.
pub fn check_same_host(netns: NetnsCookie, ledger: &Ledger) -> Result<()> {
    let is_elsewhere = |r: &&EndpointRecord| r.host.is_some_and(|host| host != netns);
    match ledger.records.iter().find(is_elsewhere) {
        None => Ok(()),
        Some(record) => Err(Error::new(
            Kind::Conflict,
            format!(
                "the host of container {} is another network namespace than this one",
                record.name
            ),
        )
        .with_hint(
            "run it there; from a script of a package: nsenter --target 1 --net oci-netkit",
        )),
    }
}

/// Decides what a request leads to.
///
/// # Errors
/// All faults at once; the kind is the first one's.
pub fn plan(
    request: &Request,
    config: &Config,
    host: &HostFacts,
    namespace: &NamespaceFacts,
    ledger: &Ledger,
) -> Result<Decision> {
    check_same_host(host.netns, ledger)?;
    let found = namespace.endpoint.as_ref();
    match found.filter(|r| r.boot_id == host.boot_id) {
        Some(record) if !namespace.is_host => join::join(request, config, namespace, record),
        _ => create::create(request, config, host, namespace, ledger),
    }
}

/// The rules of an endpoint as its record has them, with what they refer to now: for `check`, and
/// to compile them anew.
///
/// # Errors
/// [`crate::error::Kind::BadInput`] for a record that this version does not understand, and what
/// is wrong with the uplinks.
pub fn policy_of(record: &EndpointRecord, config: &Config, host: &HostFacts) -> Result<Policy> {
    let uplinks = link::uplinks(config, host)?;
    let places = rulebook::places(config, host, &uplinks);
    Ok(Policy {
        egress: RuleSet::from_texts(&record.egress)?,
        ingress: RuleSet::from_texts(&record.ingress)?,
        places: Places {
            resolvers: record.resolvers.clone(),
            ..places
        },
        mode: record.mode,
        ceiling: record.ceiling.as_ref().map(read_profile).transpose()?,
    })
}

fn read_profile(texts: &RuleTexts) -> Result<Profile> {
    Ok(Profile {
        egress: RuleSet::from_texts(&texts.egress)?,
        ingress: RuleSet::from_texts(&texts.ingress)?,
    })
}

/// The texts of a ceiling, for the record.
fn texts(profile: &Profile) -> RuleTexts {
    RuleTexts {
        egress: profile.egress.texts(),
        ingress: profile.ingress.texts(),
    }
}

/// The container as a member of its namespace's endpoint.
fn member(request: &Request, namespace: &NamespaceFacts) -> Member {
    Member {
        container_id: request.container_id.clone(),
        pid: request.pid,
        start_time: namespace.start_time,
    }
}
