//! Text of rules into values; every message about a misspelt rule is here. Pure.
//!
//! Each message names the rule, the column where it goes wrong and a form that is accepted. Well
//! known mistakes get their own words before the grammar is tried.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{FORM, Ports, Protocol, Rule, RuleSet, Target, number};
use crate::error::{Error, ErrorList, Kind, Result};
use crate::types::domain::{Depth, Domain, Pattern};
use crate::types::name::{nearest, shown};

/// Faults shown of one list; a wrong file must not fill the journal.
const MAX_FAULTS: usize = 20;

/// Longest rule that is read, bytes: a name has 253, the rest is room for all around it.
const MAX_TEXT: usize = 320;

/// Behind a rule with a name: its private addresses count too.
const PRIVATE_OK: &str = "+private-ok";

const KEYWORDS: [(&str, Target); 7] = [
    ("any", Target::Any),
    ("host", Target::Host),
    ("containers", Target::Containers),
    ("resolver", Target::Resolver),
    ("metadata", Target::Metadata),
    ("link-local", Target::LinkLocal),
    ("multicast", Target::Multicast),
];

const PROTOCOLS: [(&str, Protocol); 5] = [
    ("tcp", Protocol::One(number::TCP)),
    ("udp", Protocol::One(number::UDP)),
    ("icmp", Protocol::Icmp),
    ("sctp", Protocol::One(number::SCTP)),
    ("any", Protocol::Any),
];

/// Splits at white space and `;`. Annotations refuse tabs and newlines before; the config may
/// spread a list over lines.
pub(super) fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c.is_ascii_whitespace() || c == ';')
        .filter(|t| !t.is_empty())
}

/// All rules, without duplicates, or all faults.
pub(super) fn set<'a>(
    items: impl Iterator<Item = &'a str>,
) -> std::result::Result<RuleSet, ErrorList> {
    let mut set = RuleSet::default();
    let mut seen = HashMap::new();
    let (mut faults, mut more) = (ErrorList::new(), 0usize);
    for item in items {
        let rule = match rule(item) {
            Ok(rule) => rule,
            Err(fault) => {
                if faults.iter().len() < MAX_FAULTS {
                    faults.push(fault);
                } else {
                    more += 1;
                }
                continue;
            }
        };
        let says = (
            rule.deny,
            rule.proto,
            rule.target.clone(),
            rule.ports,
            rule.private_ok,
        );
        if let Some(first) = seen.get(&says) {
            let first: &String = first;
            set.warnings.push(format!(
                "rule {item:?} says the same as {first:?} before it"
            ));
            continue;
        }
        if rule.target == Target::Multicast && rule.proto == Protocol::One(number::TCP) {
            set.warnings.push(format!(
                "rule {item:?} is about tcp, which has no multicast"
            ));
        }
        if matches!(rule.target, Target::Name(_)) && rule.ports.is_none() {
            set.warnings.push(format!(
                "rule {item:?} is about all ports; others may share the addresses of a name"
            ));
        }
        seen.insert(says, rule.text.clone());
        set.rules.push(rule);
    }
    if more > 0 {
        faults.push(Error::new(
            Kind::BadInput,
            format!("and {more} more rules are wrong"),
        ));
    }
    if faults.is_empty() {
        Ok(set)
    } else {
        Err(faults)
    }
}

/// One rule.
pub(super) fn rule(text: &str) -> Result<Rule> {
    let line = Line { text };
    line.refuse_foreign()?;
    let deny = text.starts_with('!');
    let rest = text.strip_prefix('!').unwrap_or(text);
    let (rest, private_ok) = match rest.strip_suffix(PRIVATE_OK) {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    line.refuse_bare_ipv6(rest)?;
    let (proto, rest) = line.protocol(rest)?;
    line.refuse_bare_ipv6(rest)?;
    let (target, ports) = line.target(rest)?;
    line.check_name(&target, deny, private_ok)?;
    let ports = ports.map(|p| line.ports(p, proto)).transpose()?;
    let (proto, ports) = match (proto, ports) {
        (Some(proto), ports) => (proto, ports),
        (None, Some(ports)) if deny => (Protocol::Ported, Some(ports)),
        (None, None) if deny => (Protocol::Any, None),
        (None, None) if target == Target::Resolver => (
            Protocol::TcpUdp,
            Some(Ports {
                first: 53,
                last: 53,
            }),
        ),
        (None, ports) => (Protocol::One(number::TCP), ports),
    };
    Ok(Rule {
        text: text.to_owned(),
        deny,
        proto,
        target,
        ports,
        private_ok,
    })
}

/// The text of one rule; parts of it are slices, so that a message can tell their column.
#[derive(Clone, Copy)]
struct Line<'a> {
    text: &'a str,
}

impl<'a> Line<'a> {
    /// A fault at `part`, which is a slice of the text.
    fn fault(self, part: &str, message: impl AsRef<str>) -> Error {
        let offset = (part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        let column = self
            .text
            .get(..offset)
            .map_or(offset, |t| t.chars().count())
            + 1;
        let message = format!(
            "rule {:?}, column {column}: {}",
            self.text,
            message.as_ref()
        );
        Error::new(Kind::BadInput, message).with_hint(format!("the form is {FORM}"))
    }

    /// Mistakes that people bring along from other tools.
    fn refuse_foreign(self) -> Result<()> {
        let text = self.text;
        if text.len() > MAX_TEXT {
            let message = format!("rule {} is longer than {MAX_TEXT} bytes", shown(text));
            return Err(
                Error::new(Kind::BadInput, message).with_hint(format!("the form is {FORM}"))
            );
        }
        if let Some((at, c)) = text.char_indices().find(|(_, c)| !c.is_ascii_graphic()) {
            let message = format!("{c:?} is no part of a rule");
            return Err(self.fault(&text[at..], message).with_hint(
                "a name with letters outside ASCII is written in its xn-- form (A-label)",
            ));
        }
        if let Some(at) = text.find("://") {
            let after = text[at + 3..].split('/').next().unwrap_or_default();
            return Err(self
                .fault(text, "a rule has no scheme")
                .with_hint(format!("write TARGET:PORT, such as tcp:{after}:443")));
        }
        if let Some(at) = text.find(',') {
            return Err(self
                .fault(&text[at..], "a comma separates nothing here")
                .with_hint("separate rules by spaces or `;`, and give each port a rule"));
        }
        Ok(())
    }

    /// IPv6 without brackets, with or without a port behind it.
    fn refuse_bare_ipv6(self, rest: &str) -> Result<()> {
        let is_ipv6 = |t: &str| {
            t.contains(':') && (t.parse::<Ipv6Addr>().is_ok() || t.parse::<Ipv6Net>().is_ok())
        };
        let with_port = match rest.rsplit_once(':') {
            Some((addr, ports)) if is_ipv6(addr) && is_ports(ports) => {
                Some(format!("[{addr}]:{ports}"))
            }
            _ => None,
        };
        let shown = match (is_ipv6(rest).then(|| format!("[{rest}]")), with_port) {
            (Some(whole), Some(split)) => format!("{whole} (all ports) or {split}"),
            (Some(shown), None) | (None, Some(shown)) => shown,
            (None, None) => return Ok(()),
        };
        let before = &self.text[..self.text.len() - rest.len()];
        Err(self
            .fault(rest, "an IPv6 address must stand in brackets")
            .with_hint(format!("write {before}{shown}")))
    }

    /// Takes the protocol off, if there is one.
    fn protocol(self, rest: &'a str) -> Result<(Option<Protocol>, &'a str)> {
        let Some((word, after)) = rest.split_once(':') else {
            return match PROTOCOLS
                .iter()
                .find(|(name, _)| *name == rest && *name != "any")
            {
                Some(_) => Err(self
                    .fault(
                        rest,
                        format!("{rest} is a protocol, and its target is missing"),
                    )
                    .with_hint(format!("write {rest}:any for all of the outside world"))),
                None => Ok((None, rest)),
            };
        };
        // any:443 is the target any at a port; any:host is the protocol any.
        if word == "any" && is_ports(after) {
            return Ok((None, rest));
        }
        if let Some((_, proto)) = PROTOCOLS.iter().find(|(name, _)| *name == word) {
            return Ok((Some(*proto), after));
        }
        if !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit()) {
            let number = word.parse::<u8>().map_err(|_| {
                self.fault(rest, format!("{word} is no protocol number (0 to 255)"))
            })?;
            return Ok((Some(Protocol::One(number)), after));
        }
        if after.contains(':') && !word.starts_with('[') {
            let names = PROTOCOLS.map(|(name, _)| name);
            let fault = self.fault(
                rest,
                format!("{word:?} is no protocol (tcp, udp, icmp, sctp, any or 0 to 255)"),
            );
            return Err(match nearest(word, names.iter().copied()) {
                Some(name) => fault.with_hint(format!("did you mean {name}?")),
                None => fault,
            });
        }
        Ok((None, rest))
    }

    /// The target, and the text of the ports behind it.
    fn target(self, rest: &'a str) -> Result<(Target, Option<&'a str>)> {
        if let Some(inner) = rest.strip_prefix('[') {
            let Some((addr, after)) = inner.split_once(']') else {
                return Err(self.fault(rest, "the closing bracket is missing"));
            };
            let ports = match (after, after.strip_prefix(':')) {
                ("", _) => None,
                (_, Some(ports)) => Some(ports),
                _ => {
                    return Err(self
                        .fault(after, format!("{after:?} behind the bracket is not :PORTS"))
                        .with_hint("a prefix length stands inside, such as [2001:db8::/32]:443"));
                }
            };
            return Ok((Target::Net(self.ipv6(addr)?), ports));
        }
        let (word, ports) = match rest.split_once(':') {
            Some((word, ports)) => (word, Some(ports)),
            None => (rest, None),
        };
        if let Some((_, target)) = KEYWORDS.iter().find(|(name, _)| *name == word) {
            return Ok((target.clone(), ports));
        }
        if word.is_empty() {
            return Err(self.fault(rest, "the target is missing"));
        }
        if is_ports(word) {
            return Err(self
                .fault(
                    rest,
                    format!("{word} is a port, and the target before it is missing"),
                )
                .with_hint(format!(
                    "write any:{word} for that port of the whole outside world"
                )));
        }
        if word
            .bytes()
            .all(|b| b.is_ascii_digit() || b == b'.' || b == b'/')
        {
            return Ok((Target::Net(self.ipv4(word)?), ports));
        }
        Ok((self.name(word)?, ports))
    }

    /// A name, or why a word is none.
    fn name(self, word: &str) -> Result<Target> {
        let (depth, name) = match (word.strip_prefix("**."), word.strip_prefix("*.")) {
            (Some(name), _) => (Depth::Deep, name),
            (_, Some(name)) => (Depth::One, name),
            _ => (Depth::Exact, word),
        };
        let domain = match Domain::new(name) {
            Ok(domain) => domain,
            Err(e) => return Err(self.no_target(word, depth, &e)),
        };
        if depth != Depth::Exact && is_public_suffix(&domain) {
            let message = format!("{domain} is a public suffix: anybody can have a name below it");
            return Err(self
                .fault(word, message)
                .with_hint("name the domains that are meant"));
        }
        Ok(Target::Name(Pattern { depth, domain }))
    }

    /// What only some rules may have to do with names.
    fn check_name(self, target: &Target, deny: bool, private_ok: bool) -> Result<()> {
        let is_name = matches!(target, Target::Name(_));
        if private_ok && !is_name {
            return Err(self
                .fault(self.text, format!("{PRIVATE_OK} is for names only"))
                .with_hint("leave it out: addresses count whatever they are"));
        }
        if is_name && deny {
            return Err(self
                .fault(
                    self.text,
                    "a name cannot be denied: its addresses are never all known",
                )
                .with_hint("deny the addresses, or allow fewer names"));
        }
        Ok(())
    }

    /// Why a word is no target; `e` says why it is no name.
    fn no_target(self, word: &str, depth: Depth, e: &Error) -> Error {
        if word == "*" {
            return self
                .fault(word, "* is no target")
                .with_hint("the whole outside world is `any`; a port is left out for all ports");
        }
        if let Some((name, path)) = word.split_once('/') {
            return self.fault(path, "a rule has no path").with_hint(format!(
                "write {name}:PORT; what is asked of a server is not seen"
            ));
        }
        if word.contains('!') {
            return self.fault(word, "! stands once, in front of the whole rule");
        }
        if word.contains(['[', ']']) {
            return self.fault(word, "a bracket stands at the start of an IPv6 target only");
        }
        if word.contains('%') {
            return self.fault(word, "an address of a rule has no zone");
        }
        if word.contains('+') {
            return self
                .fault(word, format!("behind a name only {PRIVATE_OK} can stand"))
                .with_hint(format!(
                    "it stands last, behind the port: NAME:443{PRIVATE_OK}"
                ));
        }
        if word.chars().any(|c| c.is_ascii_uppercase())
            && KEYWORDS
                .iter()
                .any(|(name, _)| *name == word.to_ascii_lowercase())
        {
            return self.fault(word, "keywords are lower case");
        }
        let near = nearest(word, KEYWORDS.iter().map(|(name, _)| *name));
        if let Some(name) = near.filter(|_| !word.contains('.')) {
            return self
                .fault(
                    word,
                    format!("{word:?} is no keyword, and a name has two labels or more"),
                )
                .with_hint(format!("did you mean the keyword {name}?"));
        }
        if depth != Depth::Exact && !word.trim_start_matches(['*', '.']).contains('.') {
            return self
                .fault(
                    word,
                    format!("{word} would be everything below a top-level domain"),
                )
                .with_hint("name the domains that are meant");
        }
        if word.contains('*') {
            return self
                .fault(word, "* stands for whole labels, and only in front")
                .with_hint("*.NAME is one label below NAME, **.NAME is one or more");
        }
        let fault = self.fault(word, e.to_string());
        match e.hint() {
            Some(hint) => fault.with_hint(hint),
            None => fault,
        }
    }

    fn ipv4(self, word: &str) -> Result<IpNet> {
        let (addr, len) = self.split_len(word, 32)?;
        let addr: Ipv4Addr = addr
            .parse()
            .map_err(|_| self.fault(word, format!("{addr:?} is no IPv4 address")))?;
        let net = Ipv4Net::new(addr, len).map_err(|_| self.bad_len(word, 32))?;
        self.masked(word, IpNet::V4(net))
    }

    fn ipv6(self, word: &str) -> Result<IpNet> {
        let (addr, len) = self.split_len(word, 128)?;
        if addr.parse::<Ipv4Addr>().is_ok() {
            return Err(self
                .fault(word, "brackets are for IPv6 only")
                .with_hint(format!("write {word} without brackets")));
        }
        let addr: Ipv6Addr = addr
            .parse()
            .map_err(|_| self.fault(word, format!("{addr:?} is no IPv6 address")))?;
        if let (Some(v4), true) = (addr.to_ipv4_mapped(), len >= 96) {
            let v4_len = len - 96;
            return Err(self
                .fault(word, "a v4-mapped address is IPv4")
                .with_hint(format!("write {v4}/{v4_len}")));
        }
        let net = Ipv6Net::new(addr, len).map_err(|_| self.bad_len(word, 128))?;
        self.masked(word, IpNet::V6(net))
    }

    fn split_len(self, word: &str, max: u8) -> Result<(&str, u8)> {
        let Some((addr, len)) = word.split_once('/') else {
            return Ok((word, max));
        };
        if len.contains('.') {
            return Err(self
                .fault(len, "a netmask stands where the prefix length should")
                .with_hint("write the number of leading ones, such as /24"));
        }
        match len.parse::<u8>() {
            Ok(n) if n <= max && !len.starts_with('+') => Ok((addr, n)),
            _ => Err(self.bad_len(len, max)),
        }
    }

    fn bad_len(self, part: &str, max: u8) -> Error {
        self.fault(part, format!("the prefix length is not 0 to {max}"))
    }

    /// Refuses host bits: 10.0.0.1/8 may mean the address or the network.
    fn masked(self, word: &str, net: IpNet) -> Result<IpNet> {
        if net.trunc() == net {
            return Ok(net);
        }
        Err(self
            .fault(word, format!("{net} has bits set behind its prefix"))
            .with_hint(format!(
                "the network is {}, the address is {}",
                net.trunc(),
                net.addr()
            )))
    }

    /// Ports, or types, of a rule for `proto`.
    fn ports(self, text: &str, proto: Option<Protocol>) -> Result<Ports> {
        let icmp = match proto {
            Some(Protocol::Icmp | Protocol::One(number::ICMP | number::ICMPV6)) => true,
            None | Some(Protocol::One(number::TCP | number::UDP | number::SCTP)) => false,
            Some(Protocol::Any) => {
                let target = self.text.trim_start_matches('!').trim_start_matches("any:");
                return Err(self
                    .fault(text, "any protocol has no ports")
                    .with_hint(format!("write tcp:{target} udp:{target}")));
            }
            Some(_) => {
                return Err(self.fault(text, "only tcp, udp, sctp and icmp have ports or types"));
            }
        };
        if text == "*" {
            return Err(self
                .fault(text, "* is no port")
                .with_hint("leave the port out, and all are meant"));
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (self.port(first, icmp)?, self.port(last, icmp)?);
        if first > last {
            return Err(self
                .fault(text, format!("the range {text} runs backwards"))
                .with_hint(format!("write {last}-{first}")));
        }
        Ok(Ports { first, last })
    }

    fn port(self, text: &str, icmp: bool) -> Result<u16> {
        let (what, least, most) = if icmp {
            ("ICMP type", 0, 255)
        } else {
            ("port", 1, u16::MAX)
        };
        if text.is_empty() {
            return Err(self.fault(text, format!("the {what} is missing")));
        }
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        match text.parse::<u16>() {
            Ok(n) if digits && (least..=most).contains(&n) => Ok(n),
            _ => Err(self.fault(text, format!("{text:?} is no {what} ({least} to {most})"))),
        }
    }
}

/// ICANN's part of the list alone: below a private one the owner may well be one's own.
fn is_public_suffix(domain: &Domain) -> bool {
    let name = domain.as_str().as_bytes();
    psl::suffix(name).is_some_and(|s| s.as_bytes() == name && s.typ() == Some(psl::Type::Icann))
}

/// Digits, or digits-digits: what can only be ports.
fn is_ports(text: &str) -> bool {
    !text.is_empty()
        && text.as_bytes()[0].is_ascii_digit()
        && text.bytes().all(|b| b.is_ascii_digit() || b == b'-')
}
