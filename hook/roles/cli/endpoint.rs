//! An endpoint as `list`, `show` and `stats` print it, and how one is found by what people type.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::error::{Error, Kind, Result};
use crate::inspect::{self, Counters, EndpointView, Traffic};
use crate::kernel::probe;
use crate::roles::environment::Environment;
use crate::types::direction::Direction;
use crate::types::record::Phase;

/// One container of an endpoint.
#[derive(Debug, Serialize)]
pub(super) struct Container {
    pub(super) id: String,
    pub(super) pid: i32,
    pub(super) alive: bool,
}

/// What `list` shows of an endpoint.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) id: u32,
    pub(super) name: String,
    pub(super) containers: Vec<Container>,
    pub(super) addresses: Vec<String>,
    /// How each of the addresses is reached.
    pub(super) reach: Vec<&'static str>,
    /// Ports of the host that masqueraded addresses leave by.
    pub(super) nat_ports: Option<String>,
    /// Ports of the host that lead to the container's.
    pub(super) publish: Vec<String>,
    pub(super) interface: String,
    pub(super) primary: String,
    pub(super) phase: &'static str,
    pub(super) created: String,
    /// Some member runs, the device is there, its programs are attached and its rules loaded.
    pub(super) alive: bool,
    /// Some member runs, but without one of the others: nothing passes.
    pub(super) broken: bool,
}

/// What `show` and `doctor` say of a broken one.
pub(super) const BROKEN: &str =
    "its device, programs or rules are gone, so nothing passes; restart the container";

impl From<&EndpointView> for Summary {
    fn from(view: &EndpointView) -> Self {
        let record = &view.record;
        let containers: Vec<Container> = record
            .members
            .iter()
            .zip(&view.alive)
            .map(|(member, alive)| Container {
                id: member.container_id.to_string(),
                pid: member.pid,
                alive: *alive,
            })
            .collect();
        Self {
            id: record.id.0,
            name: record.name.clone(),
            alive: view.is_whole() && containers.iter().any(|c| c.alive),
            broken: view.is_broken(),
            containers,
            addresses: record.addresses.iter().map(ToString::to_string).collect(),
            reach: record.reached().map(|(_, reach)| reach.word()).collect(),
            nat_ports: record.nat.map(|share| share.to_string()),
            publish: record.publish.iter().map(ToString::to_string).collect(),
            interface: record.interface.to_string(),
            primary: record.primary.to_string(),
            phase: match record.phase {
                Phase::Creating => "creating",
                Phase::Active => "active",
                Phase::Ending => "ending",
            },
            created: crate::roles::render::time(record.created),
        }
    }
}

/// Packets of one direction.
#[derive(Debug, Default, Serialize)]
pub(super) struct TrafficRow {
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) flows: u64,
}

impl From<Traffic> for TrafficRow {
    fn from(t: Traffic) -> Self {
        Self {
            packets: t.packets,
            bytes: t.bytes,
            flows: t.flows,
        }
    }
}

/// One value for each direction.
#[derive(Debug, Default, Serialize)]
pub(super) struct Both<T> {
    pub(super) egress: T,
    pub(super) ingress: T,
}

/// Counts by the stable name of the reason; only what is not zero.
pub(super) type Drops = Both<BTreeMap<&'static str, u64>>;

/// Traffic of both directions.
pub(super) fn traffic(counters: &Counters) -> Both<TrafficRow> {
    let [egress, ingress] = counters.traffic;
    Both {
        egress: egress.into(),
        ingress: ingress.into(),
    }
}

/// Drops of both directions.
pub(super) fn drops(counters: &Counters) -> Drops {
    let mut drops = Drops::default();
    for (direction, reason, count) in &counters.drops {
        let map = match direction {
            Direction::Egress => &mut drops.egress,
            Direction::Ingress => &mut drops.ingress,
        };
        map.insert(reason.name, *count);
    }
    drops
}

/// All endpoints, by number.
pub(super) fn all(environment: &Environment) -> Result<Vec<EndpointView>> {
    let mut views = inspect::endpoints(&environment.paths, &probe::boot_id()?)?;
    views.sort_by_key(|v| v.record.id);
    Ok(views)
}

/// The endpoint that `wanted` means: its name, a member's id, or a prefix that only one has.
pub(super) fn find(environment: &Environment, wanted: &str) -> Result<EndpointView> {
    let views = all(environment)?;
    choose(&views, wanted).cloned()
}

fn choose<'a>(views: &'a [EndpointView], wanted: &str) -> Result<&'a EndpointView> {
    let names = |view: &EndpointView| {
        let members = view
            .record
            .members
            .iter()
            .map(|m| m.container_id.to_string());
        members
            .chain([view.record.name.clone()])
            .collect::<Vec<_>>()
    };
    if let Some(exact) = views.iter().find(|v| names(v).iter().any(|n| n == wanted)) {
        return Ok(exact);
    }
    let mut close = views
        .iter()
        .filter(|v| !wanted.is_empty() && names(v).iter().any(|n| n.starts_with(wanted)));
    match (close.next(), close.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(Error::new(
            Kind::BadInput,
            format!("no container {wanted:?} is attached"),
        )
        .with_hint("oci-netkit list shows those that are; oci-netkit errors those that failed")),
        (Some(one), Some(other)) => Err(Error::new(
            Kind::BadInput,
            format!(
                "{wanted:?} is the beginning of several: {} and {}",
                one.record.name, other.record.name
            ),
        )
        .with_hint("write more of it")),
    }
}

#[cfg(test)]
mod tests;
