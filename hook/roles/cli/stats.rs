//! `stats`: packets, bytes, flows and drops of every endpoint.

use std::collections::BTreeMap;

use serde::Serialize;

use super::args::Output;
use super::endpoint::{self, Both, Drops, TrafficRow};
use crate::error::Result;
use crate::inspect;
use crate::roles::environment::Environment;
use crate::roles::io::Io;
use crate::roles::render;

#[derive(Serialize)]
struct Row {
    id: u32,
    name: String,
    traffic: Both<TrafficRow>,
    drops: Drops,
}

#[derive(Serialize)]
struct Answer {
    endpoints: Vec<Row>,
    /// Drops that belong to no endpoint.
    unattributed: Drops,
}

/// Prints two lines per endpoint, one for each direction.
pub(super) fn run(io: &mut Io<'_>, environment: &Environment, output: Output) -> Result<()> {
    let mut endpoints = Vec::new();
    for view in endpoint::all(environment)? {
        let counters =
            inspect::counters(&environment.paths, Some(view.record.id))?.unwrap_or_default();
        endpoints.push(Row {
            id: view.record.id.0,
            name: view.record.name,
            traffic: endpoint::traffic(&counters),
            drops: endpoint::drops(&counters),
        });
    }
    // While nothing is loaded, nothing is counted.
    let unattributed = inspect::counters(&environment.paths, None)?.unwrap_or_default();
    let answer = Answer {
        endpoints,
        unattributed: endpoint::drops(&unattributed),
    };
    if output.json {
        return io.print(&render::json(&answer)?);
    }
    let header = ["NAME", "DIRECTION", "PACKETS", "BYTES", "FLOWS", "DROPPED"];
    let rows = answer.endpoints.iter().flat_map(|row| {
        [
            line(&row.name, "egress", &row.traffic.egress, &row.drops.egress),
            line(
                &row.name,
                "ingress",
                &row.traffic.ingress,
                &row.drops.ingress,
            ),
        ]
    });
    io.print(&render::table(&header, rows))
}

fn line(
    name: &str,
    direction: &str,
    traffic: &TrafficRow,
    drops: &BTreeMap<&str, u64>,
) -> Vec<String> {
    vec![
        name.get(..12).unwrap_or(name).to_owned(),
        direction.to_owned(),
        traffic.packets.to_string(),
        render::bytes(traffic.bytes),
        traffic.flows.to_string(),
        drops.values().sum::<u64>().to_string(),
    ]
}
