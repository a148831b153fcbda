//! The datapath's naive twin: what must become of a packet, from the text of the rules and plain
//! lists of addresses. Nothing of the compiler, the maps or the C code is used.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;
use oci_netkit::plan::policy::{Places, Policy};
use oci_netkit::plan::rules::{Protocol, Rule, RuleSet, Target};
use oci_netkit::types::mode::Mode;
use oci_netkit::types::scope::Scope;

use super::datapath::{ADDRESSES, Hook, Outcome};
use super::packet::{ACK, FIN, Packet, RST, SYN};

/// Rules as text, at the places of `datapath.rs`.
pub fn policy(egress: &str, ingress: &str) -> Policy {
    let net = |text: &str| text.parse().expect("a prefix");
    Policy {
        egress: RuleSet::parse(egress).expect("egress rules"),
        ingress: RuleSet::parse(ingress).expect("ingress rules"),
        places: Places {
            resolvers: vec!["192.0.2.7".parse().expect("an address")],
            pools: vec![net("10.87.0.0/17"), net("2001:db8:87::/64")],
            networks: vec![net("172.17.0.0/16"), net("2001:db8:17::/64")],
        },
        mode: Mode::Enforce,
        ceiling: None,
    }
}

/// A way a frame can lie, with a reason of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    Tagged,
    Arp,
    Ethertype,
    Options,
    Fragment,
    Extension,
    Length,
    DataOffset,
    Trailer,
    Segments,
}

/// One packet at one hook.
#[derive(Clone, Debug)]
pub struct Sample {
    pub hook: Hook,
    /// Whose primary or peer it is at; for the wire, who it is for, if anybody.
    pub endpoint: usize,
    pub uplink: usize,
    pub judged: bool,
    pub packet: Packet,
    /// What an ICMP error is about.
    pub quoted: Option<Packet>,
    pub defect: Option<Defect>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Uplink,
    Host,
    Endpoint,
}

enum Place {
    Martian,
    NoRoute,
    At(Scope, Way),
}

/// Endpoint, opener (0 the container), remote and local side.
type Key = (usize, usize, u8, (IpAddr, u16), (IpAddr, u16));

#[derive(Clone, Debug)]
struct Flow {
    epoch: u32,
    scope: Scope,
    way: Way,
    /// Longest packet of the container's it takes.
    most: usize,
    closing: bool,
    fins: [bool; 2],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Opens,
    Answers,
    Single,
    Error,
}

pub struct Oracle {
    policies: [Policy; 2],
    epoch: u32,
    flows: HashMap<Key, Flow>,
}

fn is_in(addr: IpAddr, nets: &[&str]) -> bool {
    nets.iter()
        .any(|n| n.parse::<IpNet>().expect("a prefix").contains(&addr))
}

fn is_one(addr: IpAddr, list: &[&str]) -> bool {
    list.iter()
        .any(|a| a.parse::<IpAddr>().expect("an address") == addr)
}

fn owner(addr: IpAddr) -> Option<usize> {
    ADDRESSES.iter().position(|list| is_one(addr, list))
}

/// Addresses that say where they are.
fn fixed(addr: IpAddr) -> Option<Result<Scope, ()>> {
    const MARTIANS: [&str; 5] = [
        "0.0.0.0/8",
        "127.0.0.0/8",
        "240.0.0.0/4",
        "::/96",
        "::ffff:0:0/96",
    ];
    const METADATA: [&str; 9] = [
        "169.254.169.254",
        "169.254.170.2",
        "169.254.170.23",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
    ];
    if is_in(addr, &MARTIANS) {
        Some(Err(()))
    } else if is_in(addr, &["224.0.0.0/4", "ff00::/8"]) {
        Some(Ok(Scope::Multicast))
    } else if is_one(addr, &METADATA) {
        Some(Ok(Scope::Metadata))
    } else if is_in(addr, &["169.254.0.0/16", "fe80::/10"]) {
        Some(Ok(Scope::LinkLocal))
    } else {
        None
    }
}

/// As the topology in `datapath.rs` routes what endpoint `from` sends.
fn place(from: usize, to: IpAddr) -> Place {
    const HOST: [&str; 7] = [
        "192.0.2.1",
        "198.51.100.1",
        "172.17.0.1",
        "2001:db8:1::1",
        "2001:db8:2::1",
        "2001:db8:17::1",
        "192.0.2.255",
    ];
    const NO_ROUTE: [&str; 5] = [
        "10.66.0.0/16",
        "10.67.0.0/16",
        "10.68.0.0/16",
        "2001:db8:66::/48",
        "2001:db8:67::/48",
    ];
    match fixed(to) {
        Some(Err(())) => return Place::Martian,
        Some(Ok(scope)) => return Place::At(scope, Way::Uplink),
        None => {}
    }
    match owner(to) {
        Some(id) if id == from => return Place::Martian,
        Some(_) => return Place::At(Scope::Containers, Way::Endpoint),
        None => {}
    }
    if is_one(to, &HOST) {
        Place::At(Scope::Host, Way::Host)
    } else if is_in(to, &NO_ROUTE) {
        Place::NoRoute
    } else if is_in(to, &["172.17.0.0/16", "2001:db8:17::/64"]) {
        Place::At(Scope::Network, Way::Host)
    } else {
        Place::At(Scope::Outside, Way::Uplink)
    }
}

fn mtu(to: IpAddr) -> usize {
    let behind_up1 = [
        "198.51.100.2/31",
        "198.51.100.4/30",
        "198.51.100.8/29",
        "203.0.113.0/24",
    ];
    if is_in(to, &behind_up1) || is_in(to, &["2001:db8:113::/48"]) {
        1400
    } else {
        1500
    }
}

fn default_reason(scope: Scope, proto: u8) -> &'static str {
    match scope {
        Scope::Outside if matches!(proto, 1 | 6 | 17 | 58 | 132) => "no-rule",
        Scope::Outside => "protocol",
        Scope::Host => "host",
        Scope::Containers => "containers",
        Scope::Network => "other-network",
        Scope::Metadata => "metadata",
        Scope::LinkLocal => "link-local",
        Scope::Multicast => "multicast",
    }
}

/// Deny wins; then any allow; then the default.
fn decide(
    policy: &Policy,
    opener: usize,
    scope: Scope,
    proto: u8,
    remote: IpAddr,
    port: u16,
) -> Result<(), &'static str> {
    let rules = [&policy.egress, &policy.ingress][opener].rules();
    let on_trial = [Scope::Outside, Scope::Containers, Scope::Network];
    let hits: Vec<&Rule> = rules
        .iter()
        .filter(|r| says_proto(r, proto, remote))
        .filter(|r| r.ports.is_none_or(|p| p.first <= port && port <= p.last))
        .filter(|r| says_target(r, &policy.places, scope, remote))
        .collect();
    if hits.iter().any(|r| r.deny) {
        Err("deny-rule")
    } else if hits.is_empty() && !(policy.mode == Mode::Audit && on_trial.contains(&scope)) {
        Err(default_reason(scope, proto))
    } else {
        Ok(())
    }
}

fn says_proto(rule: &Rule, proto: u8, remote: IpAddr) -> bool {
    match rule.proto {
        Protocol::Any => true,
        Protocol::One(n) => n == proto,
        Protocol::Icmp => proto == if remote.is_ipv4() { 1 } else { 58 },
        Protocol::TcpUdp => proto == 6 || proto == 17,
        Protocol::Ported => proto == 6 || proto == 17 || proto == 132,
    }
}

fn says_target(rule: &Rule, places: &Places, scope: Scope, remote: IpAddr) -> bool {
    let net = match &rule.target {
        Target::Any => return rule.deny || scope == Scope::Outside,
        Target::Host => return scope == Scope::Host,
        Target::Containers => return scope == Scope::Containers,
        Target::Metadata => return scope == Scope::Metadata,
        Target::LinkLocal => return scope == Scope::LinkLocal,
        Target::Multicast => return scope == Scope::Multicast,
        Target::Resolver => return places.resolvers.contains(&remote),
        Target::Net(net) => *net,
        Target::Name(_) => panic!("names are bpf_dns_*.rs's"),
    };
    let exact = net.prefix_len() == net.max_prefix_len();
    let within = |outer: &str| outer.parse::<IpNet>().expect("a prefix").contains(&net);
    let within_any = |list: &[IpNet]| list.iter().any(|n| n.contains(&net));
    net.contains(&remote)
        && (rule.deny
            || match scope {
                Scope::Outside => true,
                Scope::Host | Scope::Metadata => exact,
                Scope::Containers => exact || within_any(&places.pools),
                Scope::Network => exact || within_any(&places.networks),
                Scope::LinkLocal => within("169.254.0.0/16") || within("fe80::/10"),
                Scope::Multicast => within("224.0.0.0/4") || within("ff00::/8"),
            })
}

fn port(packet: &Packet, which: usize) -> u16 {
    u16::from_be_bytes([packet.transport[which], packet.transport[which + 1]])
}

fn is_icmp(packet: &Packet) -> bool {
    packet.proto == if packet.source.is_ipv4() { 1 } else { 58 }
}

/// Kind, source port and destination port; the never-allowed types are an error.
fn transport(packet: &Packet) -> Result<(Kind, u16, u16), &'static str> {
    if matches!(packet.proto, 6 | 17 | 132) {
        return Ok((Kind::Opens, port(packet, 0), port(packet, 2)));
    }
    if !is_icmp(packet) {
        return Ok((Kind::Opens, 0, 0));
    }
    let id = port(packet, 4);
    match (packet.source.is_ipv4(), packet.transport[0]) {
        (true, 8) | (false, 128) => Ok((Kind::Opens, id, id)),
        (true, 0) | (false, 129) => Ok((Kind::Answers, id, id)),
        (true, 3 | 11 | 12) | (false, 1..=4) => Ok((Kind::Error, 0, 0)),
        (true, 4 | 5 | 9 | 10) | (false, 130..=137 | 143) => Err("icmp-type"),
        _ => Ok((Kind::Single, 0, 0)),
    }
}

fn is_syn(packet: &Packet) -> bool {
    packet.proto == 6 && packet.transport[13] & (SYN | ACK | RST | FIN) == SYN
}

/// A packet as its endpoint sees it.
struct View {
    endpoint: usize,
    /// 0: the container sends.
    dir: usize,
    kind: Kind,
    proto: u8,
    remote: (IpAddr, u16),
    local: (IpAddr, u16),
    /// What a rule compares with its ports.
    rule_port: u16,
    syn: bool,
    flags: u8,
    bytes: usize,
    way: Way,
    /// By which it came, or would have.
    uplink: usize,
}

impl Oracle {
    pub fn new() -> Self {
        Self {
            policies: [policy("", ""), policy("", "")],
            epoch: 0,
            flows: HashMap::new(),
        }
    }

    pub fn set_policy(&mut self, id: usize, policy: Policy) {
        self.policies[id] = policy;
        // One epoch for both: judging an unchanged policy again says the same.
        self.epoch += 1;
    }

    pub fn forget_flows(&mut self) {
        self.flows.clear();
    }

    /// What must become of it.
    pub fn expect(&mut self, s: &Sample) -> Outcome {
        let fate = match s.hook {
            Hook::FromContainer => self.from_container(s),
            Hook::ToContainer => self.to_container(s),
            Hook::FromWire => self.from_wire(s),
            Hook::Guard => panic!("the guard has no rules"),
        };
        fate.unwrap_or_else(Outcome::Drop)
    }

    fn from_container(&mut self, s: &Sample) -> Result<Outcome, &'static str> {
        frame(s, true)?;
        let (kind, sport, dport) = transport(&s.packet)?;
        if owner(s.packet.source) != Some(s.endpoint) {
            return Err("spoofed-source");
        }
        if s.defect == Some(Defect::Segments) {
            return Err("segmentation");
        }
        let mut view = view(s, 0, kind, Way::Host);
        view.remote = (s.packet.destination, dport);
        view.local = (s.packet.source, sport);
        if kind == Kind::Error {
            quote(s, &mut view)?;
        }
        for opener in [0, 1] {
            if let Some(flow) = self.known(&view, opener)? {
                return self.along(&view, &flow);
            }
        }
        if kind == Kind::Error {
            return Err("icmp-unrelated");
        }
        if view.bytes > 1500 {
            return Err("oversize");
        }
        let (scope, way) = match place(s.endpoint, view.remote.0) {
            Place::Martian => return Err("martian"),
            Place::NoRoute => return Err("no-route"),
            Place::At(scope, way) => (scope, way),
        };
        view.way = way;
        self.by_rules(&view, scope)?;
        Ok(if way == Way::Host {
            Outcome::Pass
        } else {
            Outcome::Redirect
        })
    }

    /// Where a live flow takes what its container sends.
    fn along(&self, view: &View, flow: &Flow) -> Result<Outcome, &'static str> {
        if view.bytes > flow.most {
            return Err("oversize");
        }
        match flow.way {
            Way::Host => Ok(Outcome::Pass),
            Way::Endpoint if owner(view.remote.0).is_none() => Err("no-endpoint"),
            _ => Ok(Outcome::Redirect),
        }
    }

    fn to_container(&mut self, s: &Sample) -> Result<Outcome, &'static str> {
        frame(s, false)?;
        let (kind, sport, dport) = transport(&s.packet)?;
        if owner(s.packet.destination) != Some(s.endpoint) {
            return Err("no-endpoint");
        }
        if !s.judged && owner(s.packet.source).is_some() {
            return Err("unjudged");
        }
        // BPF_PROG_TEST_RUN gives every packet a socket, so none is forwarded.
        let mut scope = if s.judged {
            Scope::Containers
        } else {
            Scope::Host
        };
        match fixed(s.packet.source) {
            Some(Err(()) | Ok(Scope::Multicast)) => return Err("martian"),
            Some(Ok(fixed)) => scope = fixed,
            None => {}
        }
        let way = if s.judged { Way::Endpoint } else { Way::Host };
        let mut view = view(s, 1, kind, way);
        view.remote = (s.packet.source, sport);
        view.local = (s.packet.destination, dport);
        self.inbound(s, view, |_| Ok(scope))?;
        Ok(Outcome::Pass)
    }

    fn from_wire(&mut self, s: &Sample) -> Result<Outcome, &'static str> {
        let foreign = [Defect::Tagged, Defect::Arp, Defect::Ethertype];
        let Some(endpoint) = owner(s.packet.destination) else {
            return Ok(Outcome::Next);
        };
        if s.defect.is_some_and(|d| foreign.contains(&d)) {
            return Ok(Outcome::Next);
        }
        frame(s, false)?;
        let (kind, sport, dport) = transport(&s.packet)?;
        if owner(s.packet.source).is_some() {
            return Err("spoofed-source");
        }
        if matches!(fixed(s.packet.source), Some(Err(()) | Ok(Scope::Multicast))) {
            return Err("martian");
        }
        let mut view = view(s, 1, kind, Way::Uplink);
        view.endpoint = endpoint;
        view.remote = (s.packet.source, sport);
        view.local = (s.packet.destination, dport);
        self.inbound(s, view, |from| match place(endpoint, from) {
            Place::NoRoute => Err("no-route"),
            Place::At(Scope::Host | Scope::Network, _) => Err("spoofed-source"),
            Place::At(scope, _) => Ok(scope),
            Place::Martian => Err("martian"),
        })?;
        Ok(Outcome::Redirect)
    }

    fn inbound(
        &mut self,
        s: &Sample,
        mut view: View,
        scope: impl Fn(IpAddr) -> Result<Scope, &'static str>,
    ) -> Result<(), &'static str> {
        if view.kind == Kind::Error {
            quote(s, &mut view)?;
        }
        for opener in [0, 1] {
            if self.known(&view, opener)?.is_some() {
                return Ok(());
            }
        }
        if view.kind == Kind::Error {
            return Err("icmp-unrelated");
        }
        if view.proto == 6 && !view.syn {
            return Err("not-syn");
        }
        let scope = scope(view.remote.0)?;
        self.by_rules(&view, scope)
    }

    /// The live flow it belongs to; a revoked one is an error, and gone.
    fn known(&mut self, view: &View, opener: usize) -> Result<Option<Flow>, &'static str> {
        let is_reply = opener != view.dir;
        let is_echo = matches!(view.proto, 1 | 58);
        let may = match view.kind {
            Kind::Error => true,
            Kind::Single => false,
            Kind::Answers => is_reply,
            Kind::Opens => !is_reply || !(view.syn || is_echo),
        };
        let key = (view.endpoint, opener, view.proto, view.remote, view.local);
        let Some(flow) = self.flows.get_mut(&key).filter(|_| may) else {
            return Ok(None);
        };
        let reported = view.kind == Kind::Error && view.way == Way::Host && flow.way == Way::Uplink;
        if view.dir == 1 && flow.way != view.way && !reported {
            return Ok(None);
        }
        if flow.closing && view.syn {
            return Ok(None);
        }
        if flow.epoch != self.epoch {
            let policy = &self.policies[view.endpoint];
            let mut port = [view.remote.1, view.local.1][opener];
            if is_echo {
                port = if view.remote.0.is_ipv4() { 8 } else { 128 };
            }
            let said = decide(policy, opener, flow.scope, view.proto, view.remote.0, port);
            if let Err(reason) = said {
                self.flows.remove(&key);
                return Err(reason);
            }
            flow.epoch = self.epoch;
        }
        if view.kind != Kind::Error && view.proto == 6 {
            if view.flags & RST != 0 {
                flow.closing = true;
            } else {
                flow.fins[view.dir] |= view.flags & FIN != 0;
                if flow.fins == [true, true] {
                    flow.closing = true;
                } else if view.dir == 0 {
                    flow.closing = false;
                }
            }
        }
        Ok(Some(flow.clone()))
    }

    fn by_rules(&mut self, view: &View, scope: Scope) -> Result<(), &'static str> {
        let policy = &self.policies[view.endpoint];
        decide(
            policy,
            view.dir,
            scope,
            view.proto,
            view.remote.0,
            view.rule_port,
        )?;
        if view.dir == 0 && scope == Scope::Outside && view.bytes > mtu(view.remote.0) {
            return Err("oversize");
        }
        if view.kind == Kind::Opens {
            let key = (view.endpoint, view.dir, view.proto, view.remote, view.local);
            let flow = Flow {
                epoch: self.epoch,
                scope,
                way: view.way,
                most: match (view.way, view.dir) {
                    (Way::Uplink, 0) => mtu(view.remote.0),
                    // Answers leave by the uplink it came in by, whatever the routes say.
                    (Way::Uplink, _) => [1500, 1400][view.uplink],
                    _ => 1500,
                },
                closing: false,
                fins: [false, false],
            };
            self.flows.insert(key, flow);
        }
        Ok(())
    }
}

fn view(s: &Sample, dir: usize, kind: Kind, way: Way) -> View {
    let packet = &s.packet;
    let header = if packet.source.is_ipv4() { 20 } else { 40 };
    let ported = matches!(packet.proto, 6 | 17 | 132);
    // Both directions' rules are about the destination's port.
    let rule_port = match (is_icmp(packet), ported) {
        (true, _) => u16::from(packet.transport[0]),
        (_, true) => port(packet, 2),
        _ => 0,
    };
    View {
        endpoint: s.endpoint,
        dir,
        kind,
        proto: packet.proto,
        remote: (packet.destination, 0),
        local: (packet.source, 0),
        rule_port,
        syn: is_syn(packet),
        flags: if packet.proto == 6 {
            packet.transport[13]
        } else {
            0
        },
        bytes: header + packet.transport.len(),
        way,
        uplink: s.uplink,
    }
}

/// An error is about the flow its quoted packet belongs to.
fn quote(s: &Sample, view: &mut View) -> Result<(), &'static str> {
    let quoted = s.quoted.as_ref().expect("errors quote");
    let (kind, sport, dport) = transport(quoted).map_err(|_| "icmp-unrelated")?;
    if is_icmp(quoted) && !matches!(kind, Kind::Opens | Kind::Answers) {
        return Err("icmp-unrelated");
    }
    let sent = (quoted.source, sport);
    let wanted = (quoted.destination, dport);
    if view.dir == 0 {
        if sent.0 != view.remote.0 || wanted.0 != view.local.0 {
            return Err("icmp-unrelated");
        }
        (view.remote, view.local) = (sent, wanted);
    } else {
        if sent.0 != view.local.0 {
            return Err("icmp-unrelated");
        }
        (view.remote, view.local) = (wanted, sent);
    }
    view.proto = quoted.proto;
    view.syn = false;
    Ok(())
}

/// What the frame itself is dropped for.
fn frame(s: &Sample, from_container: bool) -> Result<(), &'static str> {
    match s.defect {
        Some(Defect::Tagged) => Err("vlan"),
        Some(Defect::Arp) => Err("arp"),
        Some(Defect::Ethertype) => Err("ethertype"),
        Some(Defect::Options) => Err("ip-options"),
        Some(Defect::Fragment) => Err("fragment"),
        Some(Defect::Extension) => Err("extension-header"),
        Some(Defect::Length | Defect::DataOffset) => Err("malformed"),
        Some(Defect::Trailer) if from_container => Err("malformed"),
        Some(Defect::Trailer | Defect::Segments) | None => Ok(()),
    }
}
