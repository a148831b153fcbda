//! `show`: one endpoint with its addresses, rules, counters, and why packets were dropped.

use serde::Serialize;

use super::args::Output;
use super::endpoint::{self, Both, Drops, Summary, TrafficRow};
use crate::error::Result;
use crate::inspect;
use crate::roles::environment::Environment;
use crate::roles::io::Io;
use crate::roles::render;
use crate::types::drop::DROP_REASONS;
use crate::types::rate::Rate;

#[derive(Serialize)]
struct Answer {
    #[serde(flatten)]
    summary: Summary,
    mtu_bytes: u32,
    rate_egress_bits_per_second: Option<Rate>,
    rate_ingress_bits_per_second: Option<Rate>,
    mode: &'static str,
    egress: Vec<String>,
    ingress: Vec<String>,
    resolvers: Vec<String>,
    netns_cookie: String,
    generation: String,
    epoch: u32,
    attached: Vec<String>,
    memory_bytes: u64,
    traffic: Both<TrafficRow>,
    drops: Drops,
}

/// Prints everything that is known of it.
pub(super) fn run(
    io: &mut Io<'_>,
    environment: &Environment,
    id: &str,
    output: Output,
) -> Result<()> {
    let view = endpoint::find(environment, id)?;
    let counters = inspect::counters(&environment.paths, Some(view.record.id))?.unwrap_or_default();
    let answer = Answer {
        summary: Summary::from(&view),
        mtu_bytes: view.record.mtu_bytes,
        rate_egress_bits_per_second: view.record.rates.egress,
        rate_ingress_bits_per_second: view.record.rates.ingress,
        mode: view.record.mode.word(),
        egress: view.record.egress.clone(),
        ingress: view.record.ingress.clone(),
        resolvers: view
            .record
            .resolvers
            .iter()
            .map(ToString::to_string)
            .collect(),
        netns_cookie: view.record.cookie.to_string(),
        generation: view.record.generation.clone(),
        epoch: view.policy.epoch,
        attached: view.attached.clone(),
        memory_bytes: inspect::memory_bytes(&environment.paths, view.record.id)?,
        traffic: endpoint::traffic(&counters),
        drops: endpoint::drops(&counters),
    };
    io.print(&if output.json {
        render::json(&answer)?
    } else {
        text(&answer)
    })
}

fn text(answer: &Answer) -> String {
    let summary = &answer.summary;
    let mut out = String::new();
    let mut line = |key: &str, value: String| {
        if !value.is_empty() {
            out += &format!("{key:<12} {value}\n");
        }
    };
    line("name", summary.name.clone());
    if summary.broken {
        line("state", format!("broken: {}", endpoint::BROKEN));
    }
    for container in &summary.containers {
        let state = if container.alive { "running" } else { "ended" };
        line(
            "container",
            format!("{} (pid {}, {state})", container.id, container.pid),
        );
    }
    let addresses = summary.addresses.iter().zip(&summary.reach);
    let addresses: Vec<String> = addresses
        .map(|(a, reach)| format!("{a} ({reach})"))
        .collect();
    line("addresses", addresses.join(" "));
    line("ports", summary.nat_ports.clone().unwrap_or_default());
    line("published", summary.publish.join(" "));
    line(
        "device",
        format!(
            "{} inside, {} on the host",
            summary.interface, summary.primary
        ),
    );
    line("mtu", format!("{} bytes", answer.mtu_bytes));
    for (key, rate) in [
        ("rate-egress", answer.rate_egress_bits_per_second),
        ("rate-ingress", answer.rate_ingress_bits_per_second),
    ] {
        line(key, rate.map_or_else(String::new, |r| format!("{r} bit/s")));
    }
    line("mode", answer.mode.to_owned());
    line("resolvers", answer.resolvers.join(" "));
    let attached = if answer.attached.is_empty() {
        "none".to_owned()
    } else {
        answer.attached.join(", ")
    };
    line("programs", format!("{attached} ({})", answer.generation));
    line("memory", render::bytes(answer.memory_bytes));
    line("since", summary.created.clone());
    for (direction, rules, traffic, drops) in [
        (
            "egress",
            &answer.egress,
            &answer.traffic.egress,
            &answer.drops.egress,
        ),
        (
            "ingress",
            &answer.ingress,
            &answer.traffic.ingress,
            &answer.drops.ingress,
        ),
    ] {
        out += &format!("\n{direction}\n");
        if rules.is_empty() {
            out += "  no rule allows anything\n";
        }
        for rule in rules {
            out += &format!("  {rule}\n");
        }
        out += &format!(
            "  {} packets, {}, {} flows opened\n",
            traffic.packets,
            render::bytes(traffic.bytes),
            traffic.flows
        );
        for reason in DROP_REASONS {
            if let Some(count) = drops.get(reason.name) {
                out += &format!(
                    "  {count} dropped as {}: {}\n",
                    reason.name, reason.sentence
                );
            }
        }
    }
    out
}
