//! What an allowlist says: the grammar of `egress` and `ingress`, and rules as values. Pure.
//!
//! `parse.rs` reads the text; what a rule reaches on this host is `policy.rs`; the kernel's tables
//! are `compile.rs`.

use std::fmt;

use ipnet::IpNet;

use crate::error::{ErrorList, Result};
use crate::types::domain::Pattern;

mod parse;
#[cfg(test)]
mod tests;

/// The grammar, as errors show it.
pub const FORM: &str = "[!][PROTOCOL:]TARGET[:PORTS], such as tcp:192.0.2.0/24:443";

/// IP protocol numbers that have ports, or types in their place.
pub mod number {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// SCTP.
    pub const SCTP: u8 = 132;

    /// As rules write it: a word, else the number.
    #[must_use]
    pub fn word(protocol: u8) -> String {
        match protocol {
            ICMP | ICMPV6 => "icmp".into(),
            TCP => "tcp".into(),
            UDP => "udp".into(),
            SCTP => "sctp".into(),
            other => other.to_string(),
        }
    }

    /// True if its packets have ports, or a type in their place.
    #[must_use]
    pub fn has_ports(protocol: u8) -> bool {
        matches!(protocol, ICMP | ICMPV6 | TCP | UDP | SCTP)
    }
}

/// The protocols a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// All there are.
    Any,
    /// This IP protocol number; `tcp` is 6.
    One(u8),
    /// ICMP on IPv4, ICMPv6 on IPv6.
    Icmp,
    /// TCP and UDP: a bare `resolver`.
    TcpUdp,
    /// All that have ports (TCP, UDP, SCTP): a deny rule with ports and without a protocol, which
    /// must not be narrower than it reads.
    Ported,
}

/// What a rule is about on the remote side.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// These addresses; a single one has the full prefix length.
    Net(IpNet),
    /// The addresses of these names, as the endpoint's resolvers say them.
    Name(Pattern),
    /// The outside world.
    Any,
    /// This host's own addresses.
    Host,
    /// Other endpoints.
    Containers,
    /// The name servers of the endpoint.
    Resolver,
    /// Cloud metadata services.
    Metadata,
    /// 169.254.0.0/16 and fe80::/10.
    LinkLocal,
    /// 224.0.0.0/4 and ff00::/8.
    Multicast,
}

/// An inclusive range of ports, or of ICMP types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ports {
    /// Lowest.
    pub first: u16,
    /// Highest; never below `first`.
    pub last: u16,
}

impl Ports {
    /// True if `port` is in the range.
    #[must_use]
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

/// One entry of an allowlist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// As written.
    pub text: String,
    /// `!`: forbids what it matches, whatever other rules say.
    pub deny: bool,
    /// Protocols.
    pub proto: Protocol,
    /// Remote side.
    pub target: Target,
    /// Of the remote side in egress, of the container in ingress; types for ICMP; `None` = all.
    pub ports: Option<Ports>,
    /// `+private-ok`: private addresses of the name count too.
    pub private_ok: bool,
}

impl Rule {
    /// Reads one rule.
    ///
    /// # Errors
    /// [`crate::error::Kind::BadInput`]: shows the text, where it goes wrong, and the accepted form.
    pub fn parse(text: &str) -> Result<Self> {
        parse::rule(text)
    }

    /// All of it but the spelling.
    fn says(&self) -> (bool, Protocol, &Target, Option<Ports>, bool) {
        let Self { deny, proto, .. } = *self;
        (deny, proto, &self.target, self.ports, self.private_ok)
    }

    /// True if both say the same, however they are spelt.
    #[must_use]
    pub fn says_same(&self, other: &Self) -> bool {
        self.says() == other.says()
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The rules of one direction, without duplicates, in the order written: the position is the
/// rule's index in the maps and in the record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleSet {
    rules: Vec<Rule>,
    warnings: Vec<String>,
}

impl RuleSet {
    /// Reads rules separated by spaces or `;`. Empty text is the empty set: nothing is allowed.
    ///
    /// # Errors
    /// [`crate::error::Kind::BadInput`] with all faults, see [`Rule::parse`].
    pub fn parse(text: &str) -> Result<Self> {
        Self::from_texts(&[text])
    }

    /// Reads rules one by one, such as those of an endpoint's record or of a list in the config.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn from_texts<T: AsRef<str>>(texts: &[T]) -> Result<Self> {
        Self::read(texts).or_else(|faults| faults.into_result(Self::default()))
    }

    /// As [`Self::from_texts`], for callers that have faults of their own to add.
    ///
    /// # Errors
    /// The faults one by one.
    pub fn read<T: AsRef<str>>(texts: &[T]) -> std::result::Result<Self, ErrorList> {
        parse::set(texts.iter().flat_map(|t| parse::items(t.as_ref())))
    }

    /// The rules, by index.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// As written, by index.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        self.rules.iter().map(|r| r.text.clone()).collect()
    }

    /// The first rule with a name.
    #[must_use]
    pub fn named(&self) -> Option<&Rule> {
        let mut rules = self.rules.iter();
        rules.find(|r| matches!(r.target, Target::Name(_)))
    }

    /// What is odd, but not wrong: duplicates.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}
