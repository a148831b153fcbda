//! `plan`: what the hook would do for a container state on standard input; touches nothing.

use ipnet::{IpNet, Ipv6Net};
use serde::Serialize;

use super::args::Output;
use crate::annotations;
use crate::error::Result;
use crate::facts::Ledger;
use crate::kernel::process::Process;
use crate::kernel::{probe, sockets};
use crate::plan::{self, Decision};
use crate::roles::environment::Environment;
use crate::roles::io::Io;
use crate::roles::oci_state::{self, Stage};
use crate::roles::render;
use crate::state::lasting;
use crate::state::store::View;
use crate::types::record::EndpointRecord;

#[derive(Serialize)]
struct Answer {
    decision: &'static str,
    addresses: Vec<String>,
    steps: Vec<String>,
    warnings: Vec<String>,
}

/// Prints the decision and its steps.
pub(super) fn run(io: &mut Io<'_>, environment: &Environment, output: Output) -> Result<()> {
    let request = oci_state::parse(&io.read_input()?, Stage::Create)?;
    let config = environment.load_config()?;
    let mut host = probe::host_facts(&environment.paths)?;
    host.sockets = sockets::holding(&annotations::published_ports(&request.keys))?;
    let is_drawn = host.ula.is_none();
    if is_drawn {
        host.ula = Some(lasting::draw_ula()?);
    }
    let (_netns, mut namespace) =
        probe::namespace_facts(&Process::open(request.pid)?, &request.bundle)?;
    let view = View::new(&environment.paths);
    let ledger = Ledger {
        leases: view.leases(),
        ..view.ledger(&host.boot_id)?
    };
    namespace.endpoint = view.find(namespace.cookie)?;
    let answer = match plan::plan(&request, &config, &host, &namespace, &ledger)? {
        Decision::Create(plan) => Answer {
            decision: "create",
            addresses: plan
                .record
                .addresses
                .iter()
                .map(ToString::to_string)
                .collect(),
            steps: plan.steps.iter().map(ToString::to_string).collect(),
            warnings: plan
                .warnings
                .into_iter()
                .chain(is_drawn.then(|| example(&plan.record, host.ula)).flatten())
                .collect(),
        },
        Decision::Join(join) => Answer {
            decision: "join",
            addresses: Vec::new(),
            steps: vec![format!("add the container to namespace {}", join.cookie)],
            warnings: join.warnings,
        },
        Decision::Present => Answer {
            decision: "present",
            addresses: Vec::new(),
            steps: Vec::new(),
            warnings: Vec::new(),
        },
    };
    if output.json {
        return io.print(&render::json(&answer)?);
    }
    let mut text = format!("{} {}\n", answer.decision, answer.addresses.join(" "));
    for (number, step) in answer.steps.iter().enumerate() {
        text += &format!("{:3}. {step}\n", number + 1);
    }
    for warning in &answer.warnings {
        text += &format!("warning: {warning}\n");
    }
    io.print(&text)
}

/// Only a start keeps the prefix that it draws.
fn example(record: &EndpointRecord, ula: Option<Ipv6Net>) -> Option<String> {
    let ula = ula.map(IpNet::V6)?;
    let is_used = record.addresses.iter().any(|a| ula.contains(a));
    is_used.then(|| format!("{ula} is an example: the first start draws this host's prefix"))
}
