//! TOML text into a [`Config`]. Walks the parsed document by hand instead of deriving serde, so
//! that every fault is found in one go and each has its line. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;
use std::str::FromStr;

use ipnet::IpNet;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Ceiling, Config, Limits, Pool, Profile};
use crate::error::{Error, ErrorList, Kind, Result};
use crate::plan::rules::RuleSet;
use crate::types::addr::{not_unicast, overlap};
use crate::types::domain::search_domain;
use crate::types::name::{IfName, check_label, nearest};
use crate::types::port::{CHUNK, PortRange};
use crate::types::reach::Reach;

/// Most tracked flows per endpoint and direction.
const MAX_FLOWS: u32 = 1 << 20;

/// Most rules per endpoint.
const MAX_RULES: u32 = 1_000_000;

/// Most refusals on record per endpoint and direction.
const MAX_DENIED: u32 = 1 << 16;

/// Most addresses learned by name per endpoint.
const MAX_LEARNED: u32 = 1 << 16;

/// Where podman takes the addresses of its own networks from: the default bridge and
/// `default_subnet_pools`, containers.conf(5). It fills them from the lowest, so the first two are
/// refused and the others only warned of.
const PODMAN: [&str; 2] = ["10.88.0.0/16", "10.89.0.0/16"];
const PODMAN_LATER: [&str; 4] = [
    "10.90.0.0/15",
    "10.92.0.0/14",
    "10.96.0.0/11",
    "10.128.0.0/9",
];

type Value<'t> = Spanned<DeValue<'t>>;

pub(super) fn config(text: &str) -> Result<Config> {
    let mut reader = Reader {
        text,
        faults: Vec::new(),
        warnings: Vec::new(),
    };
    let (document, broken) = DeTable::parse_recoverable(text);
    for e in broken {
        reader.fault(&e.span().unwrap_or_default(), e.message());
    }
    let config = reader.root(document.get_ref());
    reader.finish(config)
}

struct Reader<'t> {
    text: &'t str,
    /// With the byte they are at, to be told in the order of the file.
    faults: Vec<(usize, Error)>,
    warnings: Vec<String>,
}

impl<'t> Reader<'t> {
    fn line(&self, at: usize) -> usize {
        self.text
            .as_bytes()
            .iter()
            .take(at)
            .filter(|b| **b == b'\n')
            .count()
            + 1
    }

    fn fault(&mut self, span: &Range<usize>, message: impl AsRef<str>) {
        self.hinted(span, message, None);
    }

    fn hinted(&mut self, span: &Range<usize>, message: impl AsRef<str>, hint: Option<String>) {
        let line = self.line(span.start);
        let mut e = Error::new(Kind::Config, format!("line {line}: {}", message.as_ref()));
        if let Some(hint) = hint {
            e = e.with_hint(hint);
        }
        self.faults.push((span.start, e));
    }

    /// An error of another part, as one about a key here.
    fn about(&mut self, span: &Range<usize>, key: &str, e: &Error) {
        self.hinted(span, format!("{key}: {e}"), e.hint().map(str::to_owned));
    }

    fn finish(mut self, config: Config) -> Result<Config> {
        self.faults.sort_by_key(|(at, _)| *at);
        let mut list = ErrorList::new();
        self.faults.into_iter().for_each(|(_, e)| list.push(e));
        list.into_result(Config {
            warnings: self.warnings,
            ..config
        })
    }

    /// Refuses keys that are not known, or not yet.
    fn keys(&mut self, table: &DeTable<'t>, at: &str, known: &[&str], later: &[&str]) {
        for key in table.keys() {
            let (name, span) = (key.get_ref().as_ref(), key.span());
            if later.contains(&name) {
                let message = format!("{at}{name}: not yet supported");
                self.hinted(&span, message, Some("remove it".into()));
            } else if !known.contains(&name) {
                let hint = match nearest(name, known.iter().copied()) {
                    Some(near) => format!("did you mean {near}?"),
                    None => format!("the keys are {}", known.join(", ")),
                };
                self.hinted(&span, format!("{at}{name}: unknown key"), Some(hint));
            }
        }
    }

    fn root(&mut self, root: &DeTable<'t>) -> Config {
        let known = [
            "uplinks",
            "pool",
            "dns",
            "profile",
            "ceiling",
            "limits",
            "allow_net_admin",
            "audit_allowed",
            "nat_ports",
        ];
        self.keys(root, "", &known, &[]);
        Config {
            uplinks: root.get("uplinks").and_then(|v| self.uplinks(v)),
            pools: root.get("pool").map_or_else(Vec::new, |v| self.pools(v)),
            resolvers: root.get("dns").and_then(|v| self.dns(v)),
            search: root.get("dns").and_then(|v| self.search(v)),
            nxdomain: root.get("dns").is_none_or(|v| self.nxdomain(v)),
            profiles: root
                .get("profile")
                .map_or_else(BTreeMap::new, |v| self.profiles(v)),
            ceiling: root.get("ceiling").map(|v| self.ceiling(v)),
            limits: root
                .get("limits")
                .map_or_else(Limits::default, |v| self.limits(v)),
            nat_ports: root
                .get("nat_ports")
                .and_then(|v| self.nat_ports(v))
                .unwrap_or(PortRange::MASQUERADE),
            allow_net_admin: self.flag(root, "allow_net_admin"),
            audit_allowed: self.flag(root, "audit_allowed"),
            warnings: Vec::new(),
        }
    }

    /// Privileged ports stay the host's, whose services may start later.
    fn nat_ports(&mut self, value: &Value<'t>) -> Option<PortRange> {
        let span = value.span();
        let Some(text) = value.get_ref().as_str() else {
            self.wrong(value, "nat_ports", "a string such as \"4096-29999\"");
            return None;
        };
        match text.parse::<PortRange>() {
            Ok(range) if range.first() < 1024 => {
                self.fault(&span, format!("nat_ports: {range} has ports below 1024"));
            }
            Ok(range) if range.chunks().is_empty() => {
                let message = format!(
                    "nat_ports: {range} has no {CHUNK} ports from a multiple of {CHUNK} on"
                );
                self.fault(&span, message);
            }
            Ok(range) => return Some(range),
            Err(e) => self.about(&span, "nat_ports", &e),
        }
        None
    }

    fn flag(&mut self, table: &DeTable<'t>, key: &str) -> bool {
        let Some(value) = table.get(key) else {
            return false;
        };
        value.get_ref().as_bool().unwrap_or_else(|| {
            self.wrong(value, key, "true or false");
            false
        })
    }

    fn wrong(&mut self, value: &Value<'t>, key: &str, wanted: &str) {
        let found = value.get_ref().type_str();
        self.fault(
            &value.span(),
            format!("{key}: {wanted} is wanted, and this is a {found}"),
        );
    }

    /// The strings of a list, with the place of each.
    fn strings<'v>(&mut self, value: &'v Value<'t>, key: &str) -> Vec<(&'v str, Range<usize>)> {
        let Some(list) = value.get_ref().as_array() else {
            self.wrong(value, key, "a list of strings");
            return Vec::new();
        };
        let mut strings = Vec::new();
        for item in list.iter() {
            match item.get_ref().as_str() {
                Some(text) => strings.push((text, item.span())),
                None => self.wrong(item, key, "a string"),
            }
        }
        if list.is_empty() {
            let hint = "leave it out for the default".to_owned();
            self.hinted(
                &value.span(),
                format!("{key}: the list is empty"),
                Some(hint),
            );
        }
        strings
    }

    fn uplinks(&mut self, value: &Value<'t>) -> Option<Vec<IfName>> {
        let mut names = Vec::new();
        for (text, span) in self.strings(value, "uplinks") {
            match IfName::new(text) {
                Ok(name) if names.contains(&name) => {
                    self.fault(&span, format!("uplinks: {name} is there twice"));
                }
                Ok(name) => names.push(name),
                Err(e) => self.about(&span, "uplinks", &e),
            }
        }
        Some(names)
    }

    fn pools(&mut self, value: &Value<'t>) -> Vec<Pool> {
        let Some(list) = value.get_ref().as_array() else {
            self.wrong(value, "pool", "[[pool]] (two brackets)");
            return Vec::new();
        };
        let mut pools: Vec<Pool> = Vec::new();
        for item in list.iter() {
            let Some(table) = item.get_ref().as_table() else {
                self.wrong(item, "pool", "a table");
                continue;
            };
            self.keys(table, "pool.", &["prefix", "reach"], &[]);
            let prefix = self.prefix(item, table);
            let reach = self.reach(item, table);
            let Some((prefix, span)) = prefix else {
                continue;
            };
            if let Some(other) = pools.iter().find(|p| overlap(&p.prefix, &prefix)) {
                let other = other.prefix;
                self.fault(
                    &span,
                    format!("pool.prefix: {prefix} overlaps the pool {other}"),
                );
                continue;
            }
            if let Some(reach) = reach {
                pools.push(Pool { prefix, reach });
            }
        }
        pools
    }

    fn prefix(&mut self, pool: &Value<'t>, table: &DeTable<'t>) -> Option<(IpNet, Range<usize>)> {
        let Some(value) = table.get("prefix") else {
            let hint = "such as prefix = \"192.0.2.0/24\"".to_owned();
            self.hinted(&pool.span(), "pool.prefix: missing", Some(hint));
            return None;
        };
        let span = value.span();
        let Some(text) = value.get_ref().as_str() else {
            self.wrong(value, "pool.prefix", "a string");
            return None;
        };
        let Ok(prefix) = text.parse::<IpNet>() else {
            let hint = "such as \"192.0.2.0/24\" or \"2001:db8::/64\"".to_owned();
            self.hinted(
                &span,
                format!("pool.prefix: {text:?} is no prefix"),
                Some(hint),
            );
            return None;
        };
        if prefix != prefix.trunc() {
            let message = format!("pool.prefix: {prefix} has bits set behind its prefix");
            self.hinted(&span, message, Some(format!("write {}", prefix.trunc())));
            return None;
        }
        if let Some(why) = unfit(&prefix) {
            self.fault(&span, format!("pool.prefix: {prefix} {why}"));
            return None;
        }
        if let Some(theirs) = met(&prefix, &PODMAN_LATER) {
            self.warnings.push(format!(
                "pool {prefix} overlaps {theirs}, where podman takes addresses for further networks"
            ));
        }
        Some((prefix, span))
    }

    fn reach(&mut self, pool: &Value<'t>, table: &DeTable<'t>) -> Option<Reach> {
        let Some(value) = table.get("reach") else {
            let hint =
                "write reach = \"masquerade\", or \"routed\" if the prefix is routed to this host";
            self.hinted(&pool.span(), "pool.reach: missing", Some(hint.to_owned()));
            return None;
        };
        let text = value.get_ref().as_str();
        if let Some(reach) = text.and_then(Reach::from_word) {
            return Some(reach);
        }
        let words = Reach::ALL.map(Reach::word).join(", ");
        match text {
            Some(later @ "auto") => {
                let message = format!("pool.reach: {later} is not yet supported");
                self.hinted(
                    &value.span(),
                    message,
                    Some(format!("what is supported: {words}")),
                );
            }
            _ => self.fault(&value.span(), format!("pool.reach: not one of: {words}")),
        }
        None
    }

    fn table<'v>(&mut self, value: &'v Value<'t>, key: &str) -> Option<&'v DeTable<'t>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.wrong(value, key, "a table");
        }
        table
    }

    fn dns(&mut self, value: &Value<'t>) -> Option<Vec<IpAddr>> {
        let table = self.table(value, "dns")?;
        self.keys(table, "dns.", &["servers", "search", "refused"], &[]);
        let mut servers = Vec::new();
        for (text, span) in self.strings(table.get("servers")?, "dns.servers") {
            let message = match text.parse::<IpAddr>() {
                Ok(a) if servers.contains(&a) => format!("{text:?} is there twice"),
                Ok(a) => match not_unicast(a) {
                    Some(what) => format!("{text:?} is {what}, which no container can reach"),
                    None => {
                        servers.push(a);
                        continue;
                    }
                },
                Err(_) => format!("{text:?} is no address"),
            };
            self.fault(&span, format!("dns.servers: {message}"));
        }
        Some(servers)
    }

    fn search(&mut self, value: &Value<'t>) -> Option<Vec<String>> {
        let value = value.get_ref().as_table()?.get("search")?;
        let mut domains = Vec::new();
        for (text, span) in self.strings(value, "dns.search") {
            match search_domain(text) {
                Ok(domain) => domains.push(domain),
                Err(e) => self.about(&span, "dns.search", &e),
            }
        }
        Some(domains)
    }

    /// How queries for other names are answered: `dns.refused`.
    fn nxdomain(&mut self, value: &Value<'t>) -> bool {
        let table = value.get_ref().as_table();
        let Some(value) = table.and_then(|t| t.get("refused")) else {
            return true;
        };
        match value.get_ref().as_str() {
            Some("refused") => false,
            Some("nxdomain") => true,
            _ => {
                let wanted = "dns.refused: not one of: nxdomain, refused";
                self.fault(&value.span(), wanted);
                true
            }
        }
    }

    fn profiles(&mut self, value: &Value<'t>) -> BTreeMap<String, Profile> {
        let Some(table) = self.table(value, "profile") else {
            return BTreeMap::new();
        };
        let mut profiles = BTreeMap::new();
        for (key, value) in table.iter() {
            let name: &str = key.get_ref();
            if let Err(e) = check_label(name) {
                self.about(&key.span(), "profile", &e);
            }
            let at = format!("profile.{name}");
            let Some(table) = self.table(value, &at) else {
                continue;
            };
            self.keys(table, &format!("{at}."), &["egress", "ingress"], &["dns"]);
            let profile = Profile {
                egress: self.rules(table, &at, "egress"),
                ingress: self.rules(table, &at, "ingress"),
            };
            profiles.insert(name.to_owned(), profile);
        }
        profiles
    }

    /// What is left out is not granted; a ceiling that cannot be read grants nothing.
    fn ceiling(&mut self, value: &Value<'t>) -> Ceiling {
        let Some(table) = self.table(value, "ceiling") else {
            return Ceiling::default();
        };
        let known = ["egress", "ingress", "publish", "address"];
        self.keys(table, "ceiling.", &known, &[]);
        Ceiling {
            rules: Profile {
                egress: self.rules(table, "ceiling", "egress"),
                ingress: self.rules(table, "ceiling", "ingress"),
            },
            publish: self.each(table, "publish", "a range of ports, such as \"8000-8999\""),
            address: self
                .each::<IpNet>(table, "address", "a prefix, such as \"192.0.2.0/24\"")
                .iter()
                .map(IpNet::trunc)
                .collect(),
        }
    }

    /// A list of the ceiling, each text read by itself.
    fn each<T: FromStr>(&mut self, table: &DeTable<'t>, key: &str, wanted: &str) -> Vec<T> {
        let Some(value) = table.get(key) else {
            return Vec::new();
        };
        let key = format!("ceiling.{key}");
        let mut list = Vec::new();
        for (text, span) in self.strings(value, &key) {
            match text.parse() {
                Ok(item) => list.push(item),
                Err(_) => self.fault(&span, format!("{key}: {text:?} is not {wanted}")),
            }
        }
        list
    }

    /// Rules as one string, or as a list of strings with one or more rules each.
    fn rules(&mut self, table: &DeTable<'t>, profile: &str, direction: &str) -> RuleSet {
        let Some(value) = table.get(direction) else {
            return RuleSet::default();
        };
        let key = format!("{profile}.{direction}");
        let list: Vec<&Value<'t>> = match value.get_ref() {
            DeValue::String(_) => vec![value],
            DeValue::Array(list) => list.iter().collect(),
            _ => {
                self.wrong(value, &key, "a string or a list of strings");
                return RuleSet::default();
            }
        };
        let mut texts = Vec::new();
        for item in list {
            let Some(text) = item.get_ref().as_str() else {
                self.wrong(item, &key, "a string");
                continue;
            };
            match RuleSet::read(&[text]) {
                Ok(_) => texts.push(text),
                Err(faults) => faults
                    .iter()
                    .for_each(|e| self.about(&item.span(), &key, e)),
            }
        }
        // Each text was read before; together they have no new fault.
        let set = RuleSet::read(&texts).unwrap_or_default();
        self.warnings
            .extend(set.warnings().iter().map(|w| format!("{key}: {w}")));
        set
    }

    fn limits(&mut self, value: &Value<'t>) -> Limits {
        let mut limits = Limits::default();
        let Some(table) = self.table(value, "limits") else {
            return limits;
        };
        self.keys(
            table,
            "limits.",
            &["flows_out", "flows_in", "rules", "denied", "learned"],
            &[],
        );
        for (key, most, place) in [
            ("flows_out", MAX_FLOWS, &mut limits.flows_out),
            ("flows_in", MAX_FLOWS, &mut limits.flows_in),
            ("rules", MAX_RULES, &mut limits.rules),
            ("denied", MAX_DENIED, &mut limits.denied),
            ("learned", MAX_LEARNED, &mut limits.learned),
        ] {
            let Some(value) = table.get(key) else {
                continue;
            };
            let number = value
                .get_ref()
                .as_integer()
                .and_then(|i| u32::from_str_radix(i.as_str(), i.radix()).ok())
                .filter(|n| (1..=most).contains(n));
            match number {
                Some(n) => *place = n,
                None => {
                    self.fault(
                        &value.span(),
                        format!("limits.{key}: not a number of 1 to {most}"),
                    );
                }
            }
        }
        limits
    }
}

/// The one of `theirs` that a pool overlaps.
fn met<'n>(prefix: &IpNet, theirs: &[&'n str]) -> Option<&'n str> {
    theirs
        .iter()
        .find(|t| t.parse::<IpNet>().is_ok_and(|t| overlap(prefix, &t)))
        .copied()
}

/// Why no container can have addresses of this prefix.
fn unfit(prefix: &IpNet) -> Option<String> {
    if let Some(theirs) = met(prefix, &PODMAN) {
        return Some(format!(
            "overlaps {theirs}, which podman uses for its own networks"
        ));
    }
    const SPECIAL: [&str; 9] = [
        "0.0.0.0/8",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/96",
        "::ffff:0:0/96",
        "fe80::/10",
        "ff00::/8",
    ];
    met(prefix, &SPECIAL)
        .map(|s| format!("overlaps {s}, which has a meaning of its own on every host"))
}
