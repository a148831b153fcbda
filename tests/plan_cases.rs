//! Behaviour by example: each folder of tests/data/plan/ is one request.
//!
//! config.toml (optional), annotations.json (keys without the prefix; optional), facts.json (what
//! differs from the host in `host()` below; optional) and expect.txt: the decision as text. With
//! `BLESS=1` in the environment expect.txt is written instead of compared: read the diff.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use oci_netkit::config::Config;
use oci_netkit::error::Result;
use oci_netkit::facts::{
    Ability, HostAddress, HostFacts, HostRoute, HostSocket, Ledger, Link, NamespaceFacts,
};
use oci_netkit::plan::step::Step;
use oci_netkit::plan::teardown::undo_all;
use oci_netkit::plan::{Decision, plan};
use oci_netkit::request::Request;
use oci_netkit::types::engine::{Engine, PodmanVersion};
use oci_netkit::types::id::{ContainerId, NetnsCookie};
use oci_netkit::types::lease::{Event, Lease, Leases};
use oci_netkit::types::publish::Transport;
use oci_netkit::types::record::EndpointRecord;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Delta {
    host: HostDelta,
    namespace: NamespaceDelta,
    request: RequestDelta,
    /// Each over the record in `record()`.
    endpoints: Vec<Value>,
    /// Names that had addresses, oldest first.
    leases: Vec<Lease>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct HostDelta {
    /// Why not, by the name of the ability.
    cannot: BTreeMap<String, String>,
    ipv6: Option<bool>,
    kernel_release: Option<String>,
    resolvers: Option<Vec<IpAddr>>,
    search: Vec<String>,
    add_links: Vec<LinkDelta>,
    drop_links: Vec<String>,
    add_addresses: Vec<(String, IpNet)>,
    /// Destination, link, gateway.
    add_routes: Vec<(IpNet, String, Option<IpAddr>)>,
    drop_routes: Vec<IpNet>,
    /// "tcp" or "udp", address and port, owner.
    sockets: Vec<(Transport, SocketAddr, String)>,
    neighbours: Vec<IpAddr>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LinkDelta {
    name: String,
    kind: Option<String>,
    mtu_bytes: Option<u32>,
    physical: bool,
    down: bool,
    no_mac: bool,
    headroom_bytes: u16,
    gso_max_bytes: Option<u32>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct NamespaceDelta {
    is_host: bool,
    links: Vec<LinkDelta>,
    has_user_namespace: bool,
    bypass_capabilities: Vec<String>,
    network_comes_later: bool,
    /// What podman says to `--version`.
    podman: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RequestDelta {
    container_id: Option<String>,
    pid: Option<i32>,
}

fn link(ifindex: u32, delta: LinkDelta) -> Link {
    let gso = delta.gso_max_bytes.unwrap_or(65536);
    Link {
        ifindex,
        name: delta.name,
        kind: delta.kind,
        mtu_bytes: delta.mtu_bytes.unwrap_or(1500),
        up: !delta.down,
        loopback: false,
        mac: (!delta.no_mac).then_some([2, 0, 0, 0, 0, 1]),
        physical: delta.physical,
        gso_max_bytes: gso,
        gso_ipv4_max_bytes: gso,
        gro_max_bytes: gso,
        gro_ipv4_max_bytes: gso,
        headroom_bytes: delta.headroom_bytes,
    }
}

/// lo, eth0 with both families and default routes, docker0.
fn host() -> HostFacts {
    let named = |name: &str| LinkDelta {
        name: name.into(),
        ..LinkDelta::default()
    };
    let lo = Link {
        loopback: true,
        mac: None,
        ..link(1, named("lo"))
    };
    let eth0 = link(
        2,
        LinkDelta {
            physical: true,
            ..named("eth0")
        },
    );
    let docker0 = link(
        3,
        LinkDelta {
            kind: Some("bridge".into()),
            ..named("docker0")
        },
    );
    let mut host = HostFacts {
        boot_id: "boot".into(),
        netns: NetnsCookie(1),
        kernel_release: "6.12.0".into(),
        netkit: Ability::Yes,
        btf: Ability::Yes,
        bpffs: Ability::Yes,
        privileges: Ability::Yes,
        ipv6: true,
        ula: Some("fd12:3456:789a::/64".parse().unwrap()),
        links: vec![lo, eth0, docker0],
        addresses: Vec::new(),
        routes: Vec::new(),
        resolvers: vec![
            "127.0.0.53".parse().unwrap(),
            "198.51.100.53".parse().unwrap(),
        ],
        search: Vec::new(),
        sockets: Vec::new(),
        neighbours: Vec::new(),
        now: 1_700_000_000,
    };
    let addresses = [
        ("lo", "127.0.0.1/8"),
        ("lo", "::1/128"),
        ("eth0", "198.51.100.10/24"),
        ("eth0", "2001:db8:100::10/64"),
        ("docker0", "172.17.0.1/16"),
    ];
    let routes = [
        ("0.0.0.0/0", "eth0", Some("198.51.100.1")),
        ("198.51.100.0/24", "eth0", None),
        ("172.17.0.0/16", "docker0", None),
        ("::/0", "eth0", Some("2001:db8:100::1")),
        ("2001:db8:100::/64", "eth0", None),
    ];
    for (link, net) in addresses {
        add_address(&mut host, link, net.parse().unwrap());
    }
    for (net, link, gateway) in routes {
        add_route(
            &mut host,
            net.parse().unwrap(),
            link,
            gateway.map(|g| g.parse().unwrap()),
        );
    }
    host
}

fn ifindex(host: &HostFacts, link: &str) -> u32 {
    let link = host.links.iter().find(|l| l.name == link);
    link.expect("the case names a link of the host").ifindex
}

fn add_address(host: &mut HostFacts, link: &str, net: IpNet) {
    host.addresses.push(HostAddress {
        ifindex: ifindex(host, link),
        net,
    });
}

fn add_route(host: &mut HostFacts, destination: IpNet, link: &str, gateway: Option<IpAddr>) {
    let ifindex = Some(ifindex(host, link));
    host.routes.push(HostRoute {
        destination,
        ifindex,
        gateway,
    });
}

impl HostDelta {
    fn apply(self, host: &mut HostFacts) {
        for (name, why) in self.cannot {
            let ability = match name.as_str() {
                "netkit" => &mut host.netkit,
                "btf" => &mut host.btf,
                "bpffs" => &mut host.bpffs,
                "privileges" => &mut host.privileges,
                _ => panic!("no ability {name}"),
            };
            *ability = Ability::No(why);
        }
        host.ipv6 = self.ipv6.unwrap_or(host.ipv6);
        host.neighbours = self.neighbours;
        if let Some(release) = self.kernel_release {
            host.kernel_release = release;
        }
        host.search = self.search;
        host.resolvers = self.resolvers.unwrap_or_else(|| host.resolvers.clone());
        for delta in self.add_links {
            let next = u32::try_from(host.links.len()).unwrap() + 1;
            host.links.push(link(next, delta));
        }
        for (link, net) in self.add_addresses {
            add_address(host, &link, net);
        }
        for (net, link, gateway) in self.add_routes {
            add_route(host, net, &link, gateway);
        }
        for name in self.drop_links {
            let gone = ifindex(host, &name);
            host.links.retain(|l| l.ifindex != gone);
            host.addresses.retain(|a| a.ifindex != gone);
            host.routes.retain(|r| r.ifindex != Some(gone));
        }
        let sockets = self.sockets.into_iter();
        host.sockets
            .extend(sockets.map(|(protocol, addr, owner)| HostSocket {
                addr: addr.ip(),
                port: addr.port(),
                protocol,
                owner,
            }));
        host.routes
            .retain(|r| !self.drop_routes.contains(&r.destination));
    }
}

/// An endpoint of another namespace, cookie 100; the request's is 1.
fn record(delta: &Value) -> EndpointRecord {
    let mut record = json!({
        "version": 1, "boot_id": "boot", "cookie": 100, "id": 0, "name": "other",
        "phase": "active",
        "members": [{"container_id": "other", "pid": 4, "start_time": 5}],
        "keys": {"address": "auto"},
        "interface": "eth0", "primary": "onk0", "primary_ifindex": 50, "peer_ifindex": 2,
        "addresses": ["192.0.2.2/32"], "egress": [], "ingress": [], "resolvers": [], "publish": [],
        "mtu_bytes": 1500, "guard": false, "generation": "", "epoch": 1, "created": 0,
    });
    for (key, value) in delta.as_object().expect("a record is an object") {
        assert!(record.get(key).is_some(), "no field {key}");
        record[key] = value.clone();
    }
    serde_json::from_value(record).unwrap()
}

fn read<T: for<'a> Deserialize<'a> + Default>(path: &Path) -> T {
    match fs::read_to_string(path) {
        Ok(text) => {
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        }
        Err(_) => T::default(),
    }
}

fn decide(case: &Path) -> Result<Decision> {
    let config = match fs::read_to_string(case.join("config.toml")) {
        Ok(text) => Config::parse(&text)?,
        Err(_) => Config::default(),
    };
    let delta: Delta = read(&case.join("facts.json"));
    let id = delta
        .request
        .container_id
        .as_deref()
        .unwrap_or("0123456789abcdef");
    let request = Request {
        container_id: ContainerId::new(id)?,
        pid: delta.request.pid.unwrap_or(7),
        bundle: PathBuf::from("/bundle"),
        keys: read(&case.join("annotations.json")),
    };
    let mut host = host();
    delta.host.apply(&mut host);
    let records: Vec<EndpointRecord> = delta.endpoints.iter().map(record).collect();
    let namespace = NamespaceFacts {
        root: "/rootfs".into(),
        cookie: NetnsCookie(1),
        is_host: delta.namespace.is_host,
        links: delta
            .namespace
            .links
            .into_iter()
            .map(|l| link(2, l))
            .collect(),
        has_user_namespace: delta.namespace.has_user_namespace,
        bypass_capabilities: delta.namespace.bypass_capabilities,
        network_comes_later: delta.namespace.network_comes_later,
        engine: delta.namespace.podman.map_or(Engine::Other, |text| {
            Engine::Podman(PodmanVersion::parse(&text))
        }),
        start_time: 5,
        endpoint: records.iter().find(|r| r.cookie == NetnsCookie(1)).cloned(),
    };
    let ledger = Ledger::whole(records, leases(&delta.leases));
    plan(&request, &config, &host, &namespace, &ledger)
}

fn leases(all: &[Lease]) -> Leases {
    Leases::new(all.iter().flat_map(Event::all).collect())
}

fn list<T: ToString>(items: &[T]) -> String {
    items
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" ")
}

/// What the descriptions of the steps leave out.
fn sizes(steps: &[Step]) -> String {
    let of = |step: &Step| match step {
        Step::CreatePair(pair) => Some(pair.sizes),
        _ => None,
    };
    let s = steps.iter().find_map(of).expect("a plan creates a pair");
    format!(
        "gso {} ({}) gro {} ({}) headroom {}",
        s.gso_max_bytes,
        s.gso_ipv4_max_bytes,
        s.gro_max_bytes,
        s.gro_ipv4_max_bytes,
        s.headroom_bytes
    )
}

/// The decision as text, complete enough that no change goes unseen.
fn show(decision: &Result<Decision>) -> String {
    let mut out = String::new();
    match decision {
        Err(e) => writeln!(
            out,
            "{:?}, exit {}\n{}",
            e.kind(),
            e.kind().exit_code(),
            e.report()
        ),
        Ok(Decision::Present) => writeln!(out, "present"),
        Ok(Decision::Join(j)) => writeln!(
            out,
            "join {} as {} (pid {}, start time {})",
            j.cookie, j.member.container_id, j.member.pid, j.member.start_time
        ),
        Ok(Decision::Create(p)) => {
            let r = &p.record;
            writeln!(
                out,
                "create endpoint {} \"{}\" ({:?})",
                r.id, r.name, r.phase
            )
            .and_then(|()| writeln!(out, "{} mtu {}", list(&r.addresses), r.mtu_bytes))
            .and_then(|()| writeln!(out, "{}", sizes(&p.steps)))
            .and_then(|()| writeln!(out, "egress: {}", list(&r.egress)))
            .and_then(|()| writeln!(out, "ingress: {}", list(&r.ingress)))
            .and_then(|()| writeln!(out, "resolvers: {}", list(&r.resolvers)))
            .and_then(|()| match r.search.as_slice() {
                [] => Ok(()),
                search => writeln!(out, "search: {}", search.join(" ")),
            })
            .and_then(|()| {
                p.warnings
                    .iter()
                    .try_for_each(|w| writeln!(out, "warning: {w}"))
            })
            .and_then(|()| p.steps.iter().try_for_each(|s| writeln!(out, "- {}", s)))
        }
    }
    .expect("a string takes everything");
    out
}

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/plan");
    let mut cases: Vec<PathBuf> = fs::read_dir(root)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    cases.sort();
    cases
}

#[test]
fn every_case_comes_out_as_expected() {
    let bless = std::env::var_os("BLESS").is_some();
    let mut wrong = Vec::new();
    for case in cases() {
        for entry in fs::read_dir(&case).unwrap() {
            let name = entry.unwrap().file_name();
            let known = [
                "config.toml",
                "annotations.json",
                "facts.json",
                "expect.txt",
            ];
            assert!(
                known.iter().any(|k| name == *k),
                "{}: what is {name:?}?",
                case.display()
            );
        }
        let got = show(&decide(&case));
        let path = case.join("expect.txt");
        if bless {
            fs::write(&path, &got).unwrap();
        } else if fs::read_to_string(&path).unwrap_or_default() != got {
            wrong.push(format!("{}:\n{got}", case.display()));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} cases differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// What the journal takes back step by step and what is taken down as a whole must be the same.
#[test]
fn undoing_an_endpoint_is_its_steps_backwards() {
    for case in cases() {
        if let Ok(Decision::Create(plan)) = decide(&case) {
            let undo = |s: &Step| s.undo(&plan.record);
            let steps: Vec<_> = plan.steps.iter().rev().filter_map(undo).collect();
            assert_eq!(undo_all(&plan.record), steps, "{}", case.display());
        }
    }
}

/// Programs stand before a device comes up, and packets are delivered last.
#[test]
fn nothing_comes_up_unguarded() {
    for case in cases() {
        let Ok(Decision::Create(plan)) = decide(&case) else {
            continue;
        };
        let at = |f: fn(&Step) -> bool| plan.steps.iter().position(f).unwrap();
        let attached = at(|s| matches!(s, Step::AttachPrograms { .. }));
        assert!(at(|s| matches!(s, Step::FillMaps(_))) < attached);
        assert!(attached < at(|s| matches!(s, Step::LinkUp(_))));
        let last_setting = plan
            .steps
            .iter()
            .rposition(|s| matches!(s, Step::SetIpv4 { .. } | Step::SetIpv6 { .. }))
            .unwrap();
        assert!(last_setting < attached);
        let published = at(|s| matches!(s, Step::PublishAddresses { .. }));
        for step in &plan.steps[published + 1..] {
            assert!(matches!(step, Step::ClaimAddresses(_)), "{step:?}");
        }
    }
}

/// 4096 endpoints are the most, with devices, routes and remembered leases of as many others.
#[test]
fn the_last_endpoint_of_a_full_host_is_planned_and_no_more() {
    let mut host = host();
    let mut records = Vec::new();
    let mut events = Vec::new();
    for id in 0..4096u32 {
        let v4 = |n: u32| IpAddr::from(std::net::Ipv4Addr::from_bits(0x0a57_8002 + n));
        records.push(record(&json!({
            "cookie": 100 + id, "id": id, "name": format!("e{id}"), "primary": format!("onk{id}"),
            "addresses": [format!("{}/32", v4(id))],
        })));
        events.push(Lease {
            name: format!("gone{id}"),
            addresses: vec![v4(4096 + id)],
        });
        let name = format!("onk{id}");
        host.links.push(link(
            100 + id,
            LinkDelta {
                name: name.clone(),
                kind: Some("netkit".into()),
                ..LinkDelta::default()
            },
        ));
        add_route(&mut host, v4(id).into(), &name, None);
    }
    let mut ledger = Ledger::whole(records, leases(&events));
    let request = Request {
        container_id: ContainerId::new("late").unwrap(),
        pid: 7,
        bundle: PathBuf::from("/bundle"),
        keys: BTreeMap::from([("address".to_owned(), "auto4".to_owned())]),
    };
    let namespace = NamespaceFacts {
        root: "/rootfs".into(),
        cookie: NetnsCookie(1),
        is_host: false,
        links: Vec::new(),
        has_user_namespace: false,
        bypass_capabilities: Vec::new(),
        network_comes_later: false,
        engine: Engine::Other,
        start_time: 5,
        endpoint: None,
    };
    let decide = |ledger: &Ledger, host: &HostFacts| {
        plan(&request, &Config::default(), host, &namespace, ledger)
    };
    let full = show(&decide(&ledger, &host));
    assert!(
        full.contains("all 4096 endpoints of this host are in use"),
        "{full}"
    );
    ledger.forget(|cookie| cookie == NetnsCookie(100 + 4095));
    host.links.pop();
    host.routes.pop();
    let start = std::time::Instant::now();
    let last = show(&decide(&ledger, &host));
    println!("planned beside 4095 in {:?}", start.elapsed());
    // The one that is free was somebody's in no event.
    assert!(last.starts_with("create endpoint 4095 \"late\""), "{last}");
    assert!(
        last.contains("- deliver to 10.87.144.1 (masquerade)"),
        "{last}"
    );
    // Who may have what is asked for is not told from who has it.
    ledger.unreadable = ledger.claims[..1].to_vec();
    let refused = show(&decide(&ledger, &host));
    assert!(
        refused.contains("endpoint 0 may have the name, an address or a port")
            && refused.contains("gc"),
        "{refused}"
    );
}

#[test]
fn there_are_enough_cases() {
    assert!(cases().len() >= 40, "{}", cases().len());
}
