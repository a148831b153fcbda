//! A new endpoint: the wishes into a record and steps. Pure.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::compile::compile;
use super::ipam::Field;
use super::lan;
use super::link::{self, Uplinks};
use super::policy::Policy;
use super::step::{
    Ipv4Setting, LinkSizes, MapSpec, NatSpec, PairSpec, PortSpec, QueueSpec, RouteSpec, Side, Step,
};
use super::{Decision, Plan, admit, member, nat, pools, publish, rulebook, shape};
use crate::annotations::{RouteWish, Wishes};
use crate::config::Config;
use crate::error::{Error, ErrorList, Kind, Result};
use crate::facts::{HostFacts, Ledger, NamespaceFacts};
use crate::request::Request;
use crate::types::id::EndpointId;
use crate::types::mode::Mode;
use crate::types::name::IfName;
use crate::types::publish::Publication;
use crate::types::rate::Rates;
use crate::types::reach::{LanAddress, Reach};
use crate::types::record::{EndpointRecord, Phase};

/// Layout of the record.
const RECORD_VERSION: u32 = 1;

/// Refusals on record of each direction, at least, of an endpoint on trial.
const AUDIT_DENIED: u32 = 4096;

/// Everything that is decided about an endpoint before it is written as record and steps.
struct Design {
    id: EndpointId,
    primary: IfName,
    interface: IfName,
    addresses: Vec<(IpNet, Reach)>,
    policy: Policy,
    search: Vec<String>,
    maps: MapSpec,
    sizes: LinkSizes,
    routes: Vec<IpNet>,
    lan: Vec<LanAddress>,
    publish: Vec<Publication>,
    ports: Vec<PortSpec>,
    rates: Rates,
    queues: Vec<(Side, QueueSpec)>,
}

/// Plans an endpoint for a namespace that has none.
///
/// # Errors
/// All faults at once.
pub(super) fn create(
    request: &Request,
    config: &Config,
    host: &HostFacts,
    namespace: &NamespaceFacts,
    ledger: &Ledger,
) -> Result<Decision> {
    let mut faults = ErrorList::new();
    admit::check_namespace(namespace, &mut faults);
    admit::check_host(host, &mut faults);
    let guard = admit::check_capabilities(config, namespace, &mut faults);
    let uplinks = faults.keep(link::uplinks(config, host));
    let wishes = faults.keep(Wishes::parse(&request.keys));
    let name = wishes
        .as_ref()
        .and_then(|w| w.name.clone())
        .unwrap_or_else(|| request.container_id.as_str().to_owned());
    check_name(&name, ledger, &mut faults);
    check_unreadable(ledger, &mut faults);
    let known = uplinks.clone().unwrap_or_default();
    let pools_in_effect = pools::in_effect(config, host);
    if let Some(wishes) = &wishes {
        let engine = namespace.engine;
        faults.keep(admit::check_images(
            engine,
            config,
            &pools_in_effect,
            wishes,
        ));
    }
    let field = Field {
        config,
        host,
        ledger,
        uplinks: &known,
        pools: &pools_in_effect,
        name: &name,
    };
    let pools = pools::check(config, host);
    let of_lan = lan::check_pools(config, host, &known);
    pools
        .iter()
        .chain(of_lan.iter())
        .for_each(|e| faults.push(e.clone()));
    let design = wishes.and_then(|w| design(&w, field, guard, &mut faults));
    let design = faults.into_result(design)?;
    // Without a fault there are wishes, hence a design.
    let Some(design) = design else {
        return Err(Error::new(
            Kind::Internal,
            "a plan without a fault came to nothing",
        ));
    };
    let mut warnings = warnings(config, &known, &design.policy);
    warnings.extend(publish::warning(&design.publish, &design.policy));
    warnings.extend(field.taken_from_others(&design.addresses));
    let record = record(request, host, namespace, name, &design);
    let steps = steps(design, config, host, &known);
    Ok(Decision::Create(Box::new(Plan {
        record,
        steps,
        warnings,
    })))
}

/// The record as it is written before the first step.
fn record(
    request: &Request,
    host: &HostFacts,
    namespace: &NamespaceFacts,
    name: String,
    design: &Design,
) -> EndpointRecord {
    EndpointRecord {
        version: RECORD_VERSION,
        boot_id: host.boot_id.clone(),
        cookie: namespace.cookie,
        host: Some(host.netns),
        id: design.id,
        name,
        phase: Phase::Creating,
        members: vec![member(request, namespace)],
        keys: request.keys.clone(),
        interface: design.interface.clone(),
        primary: design.primary.clone(),
        primary_ifindex: 0,
        peer_ifindex: 0,
        addresses: design.addresses.iter().map(|(net, _)| *net).collect(),
        reach: design.addresses.iter().map(|(_, reach)| *reach).collect(),
        lan: design.lan.clone(),
        mode: design.policy.mode,
        egress: design.policy.egress.texts(),
        ingress: design.policy.ingress.texts(),
        revised: Vec::new(),
        ceiling: design.policy.ceiling.as_ref().map(super::texts),
        resolvers: design.policy.places.resolvers.clone(),
        search: design.search.clone(),
        nat: design.maps.nat.map(|nat| nat.share),
        publish: design.publish.clone(),
        rates: design.rates,
        mtu_bytes: design.sizes.mtu_bytes,
        guard: design.maps.guard,
        generation: String::new(),
        epoch: design.maps.epoch,
        created: host.now,
    }
}

fn warnings(config: &Config, uplinks: &Uplinks<'_>, policy: &Policy) -> Vec<String> {
    let mut warnings = config.warnings.clone();
    warnings.extend(uplinks.warnings.iter().cloned());
    for (direction, set) in [("egress", &policy.egress), ("ingress", &policy.ingress)] {
        warnings.extend(set.warnings().iter().map(|w| format!("{direction}: {w}")));
    }
    warnings
}

fn check_name(name: &str, ledger: &Ledger, faults: &mut ErrorList) {
    if let Some(holder) = ledger.records.iter().find(|r| r.name == name) {
        let message = format!("the name {name} belongs to {}", holder.in_words());
        faults.push(Error::new(Kind::Conflict, message).with_hint(
            "choose another io.oci-netkit.name, or `oci-netkit gc` if that container has ended",
        ));
    }
}

/// Who may have the same is not told from who has it.
fn check_unreadable(ledger: &Ledger, faults: &mut ErrorList) {
    for claim in &ledger.unreadable {
        let message = format!(
            "endpoint {} may have the name, an address or a port that is asked for, and its record \
             cannot be read",
            claim.id()
        );
        let hint = "`oci-netkit gc` names the file; ask for others meanwhile";
        faults.push(Error::new(Kind::Conflict, message).with_hint(hint));
    }
}

/// Decides everything; `None` after a fault.
fn design(
    wishes: &Wishes,
    field: Field<'_>,
    guard: bool,
    faults: &mut ErrorList,
) -> Option<Design> {
    let addresses = match field.assign(wishes) {
        Ok(addresses) => Some(addresses),
        Err(list) => {
            list.iter().for_each(|e| faults.push(e.clone()));
            None
        }
    };
    let mut places = rulebook::places(field.config, field.host, field.uplinks);
    if let Some(servers) = &wishes.dns {
        faults.keep(rulebook::check_servers(servers, &places, field.config));
        places.resolvers.clone_from(servers);
    }
    let policy = rulebook::in_effect(wishes, field.config, places, faults);
    let tables = policy.as_ref().and_then(|p| faults.keep(compile(p)));
    let primary = faults.keep(link::primary(field.host, field.ledger));
    let sizes = field.uplinks.sizes();
    // Without an uplink, which is a fault of its own, there is no MTU to compare with.
    let mtu_bytes = if field.uplinks.links.is_empty() {
        None
    } else {
        let has_ipv6 = addresses.iter().flatten().any(|(a, _)| a.addr().is_ipv6());
        faults.keep(link::mtu_bytes(wishes.mtu_bytes, sizes.mtu_bytes, has_ipv6))
    };
    let addresses = addresses?;
    let masqueraded = addresses.iter().any(|(_, r)| *r == Reach::Masquerade);
    let nat = if masqueraded {
        Some(faults.keep(nat_spec(field))?)
    } else {
        None
    };
    let routes = routes(wishes, &addresses, faults);
    let lan = lan::locate(field.host, field.uplinks, &addresses);
    let bare: Vec<IpAddr> = addresses.iter().map(|(net, _)| net.addr()).collect();
    let ports = publish::ports(
        &wishes.publish,
        &bare,
        field.config.ceiling.as_ref(),
        field.host,
        field.ledger,
    );
    let ports = ports.unwrap_or_else(|list| {
        list.iter().for_each(|e| faults.push(e.clone()));
        Vec::new()
    });
    let (id, primary) = primary?;
    let tables = tables?;
    let policy = policy?;
    let opens_inwards = policy.opens_inwards();
    let sizes = LinkSizes {
        mtu_bytes: mtu_bytes?,
        ..sizes
    };
    let queues = shape::queues(wishes.rates, sizes.mtu_bytes);
    let sent = queues.iter().find(|(side, _)| *side == Side::Peer);
    let budget = sent.map(|(_, queue)| shape::budget(queue));
    Some(Design {
        id,
        primary,
        interface: wishes.interface.clone()?,
        addresses,
        policy,
        search: [&wishes.dns_search, &field.config.search]
            .into_iter()
            .find_map(Clone::clone)
            .unwrap_or_else(|| field.host.search.clone()),
        maps: MapSpec {
            id,
            policy: tables.rules,
            names: tables.names,
            learned: field.config.limits.learned,
            nxdomain: field.config.nxdomain,
            epoch: 1,
            slot: 2 * id.0,
            flows_out: field.config.limits.flows_out,
            flows_in: opens_inwards.then_some(field.config.limits.flows_in),
            denied: denied(field.config, wishes.mode),
            guard,
            mtu_bytes: sizes.mtu_bytes,
            nat,
            budget,
            rate_ingress: wishes.rates.ingress.is_some(),
        },
        sizes,
        routes,
        lan,
        publish: wishes.publish.clone(),
        ports,
        rates: wishes.rates,
        queues,
    })
}

/// Refusals on record: a trial is about nothing else, so it has room for them.
fn denied(config: &Config, mode: Mode) -> u32 {
    match mode {
        Mode::Enforce => config.limits.denied,
        Mode::Audit => config.limits.denied.max(AUDIT_DENIED),
    }
}

/// What is needed where an address is masqueraded. The table that leads back is a little larger than
/// that of the flows, so that it forgets none that lives.
fn nat_spec(field: Field<'_>) -> Result<NatSpec> {
    let flows = field.config.limits.flows_out;
    Ok(NatSpec {
        share: nat::share(field.config, field.ledger)?,
        flows: flows + flows / 4,
    })
}

const DEFAULT: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(std::net::Ipv4Addr::UNSPECIFIED, 0)),
    IpNet::V6(Ipv6Net::new_assert(std::net::Ipv6Addr::UNSPECIFIED, 0)),
];

/// Routes inside. `routes` replaces the default routes, it does not add to them: who asks for
/// routes to two networks wants no third; the word `default` brings the default routes back.
fn routes(wishes: &Wishes, addresses: &[(IpNet, Reach)], faults: &mut ErrorList) -> Vec<IpNet> {
    let has = |net: &IpNet| {
        addresses
            .iter()
            .any(|(a, _)| a.addr().is_ipv4() == net.addr().is_ipv4())
    };
    let defaults = || DEFAULT.iter().copied().filter(|d| has(d));
    let Some(list) = &wishes.routes else {
        return defaults().collect();
    };
    let mut routes = Vec::new();
    for wish in list {
        match wish {
            RouteWish::Default => routes.extend(defaults()),
            RouteWish::Net(net) if has(net) => routes.push(*net),
            RouteWish::Net(net) => {
                let family = if net.addr().is_ipv4() { "IPv4" } else { "IPv6" };
                let message = format!(
                    "annotation io.oci-netkit.routes: {net} needs an {family} address, and the \
                     container has none"
                );
                faults.push(Error::new(Kind::BadInput, message));
            }
        }
    }
    routes.sort_unstable();
    routes.dedup();
    routes
}

/// The order is the safety: nothing is built for an address that somebody has, programs stand
/// before the devices come up, and packets are delivered last.
fn steps(design: Design, config: &Config, host: &HostFacts, uplinks: &Uplinks<'_>) -> Vec<Step> {
    let guard = design.maps.guard;
    let uplinks = uplinks.specs();
    let lan = lan::specs(&uplinks, &design.lan);
    let mut steps = Vec::new();
    if !lan.is_empty() {
        steps.push(Step::ProbeAddresses(lan.clone()));
    }
    steps.extend([Step::EnsureGeneration, Step::EnsureUplinks(uplinks.clone())]);
    if design.maps.nat.is_some() {
        steps.push(Step::ReservePorts(config.nat_ports));
    }
    steps.push(Step::CreatePair(PairSpec {
        primary: design.primary.clone(),
        peer: design.interface.clone(),
        sizes: design.sizes,
    }));
    for (side, queue) in &design.queues {
        steps.push(Step::Queue {
            side: *side,
            queue: *queue,
        });
    }
    steps.extend(settings(&design, host));
    steps.push(Step::FillMaps(design.maps));
    steps.push(Step::AttachPrograms { guard });
    steps.extend(design.addresses.iter().map(|(a, _)| Step::AddAddress(*a)));
    steps.extend([Step::LinkUp(Side::Primary), Step::LinkUp(Side::Peer)]);
    let route = |side, destination| Step::AddRoute {
        side,
        route: RouteSpec {
            destination,
            source: None,
        },
    };
    steps.extend(design.routes.iter().map(|r| route(Side::Peer, *r)));
    let addresses: Vec<(IpAddr, Reach)> = design
        .addresses
        .iter()
        .map(|(net, reach)| (net.addr(), *reach))
        .collect();
    steps.extend(
        addresses
            .iter()
            .map(|(a, _)| route(Side::Primary, IpNet::from(*a))),
    );
    let ipv6: Vec<LanAddress> = design
        .lan
        .iter()
        .copied()
        .filter(|l| l.address.is_ipv6())
        .collect();
    if !ipv6.is_empty() {
        steps.push(Step::AddProxies(lan::specs(&uplinks, &ipv6)));
    }
    if !design.ports.is_empty() {
        steps.push(Step::PublishPorts {
            id: design.id,
            ports: design.ports,
        });
    }
    steps.push(Step::PublishAddresses {
        id: design.id,
        addresses,
    });
    if !lan.is_empty() {
        steps.push(Step::ClaimAddresses(lan));
    }
    steps
}

/// Settings of our two devices, never rp_filter and never anybody else's.
///
/// fib lookups on the primary need forwarding there; nothing else does, and none needs it globally.
/// IPv6 without an address is off on both ends, so that nothing speaks it (CVE-2024-32473).
fn settings(design: &Design, host: &HostFacts) -> Vec<Step> {
    let has = |ipv4: bool| {
        let mut addresses = design.addresses.iter();
        addresses.any(|(a, _)| a.addr().is_ipv4() == ipv4)
    };
    let ends = [
        (Side::Primary, &design.primary),
        (Side::Peer, &design.interface),
    ];
    let mut list = Vec::new();
    for (side, device) in ends {
        let mut settings = Vec::new();
        if side == Side::Primary && has(true) {
            settings.push((Ipv4Setting::Forwarding, true));
        }
        settings.push((Ipv4Setting::AcceptRedirects, false));
        settings.push((Ipv4Setting::SendRedirects, false));
        list.push(Step::SetIpv4 {
            side,
            device: device.clone(),
            settings,
        });
    }
    if !host.ipv6 {
        return list;
    }
    for (side, device) in ends {
        let settings = if has(false) {
            vec![
                ("addr_gen_mode", "1"),
                ("accept_ra", "0"),
                ("accept_redirects", "0"),
                match side {
                    Side::Primary => ("forwarding", "1"),
                    Side::Peer => ("dad_transmits", "0"),
                },
            ]
        } else {
            vec![("disable_ipv6", "1")]
        };
        list.push(Step::SetIpv6 {
            side,
            device: device.clone(),
            settings,
        });
    }
    list
}
