//! Transport ports, in host order: runs and sets of them. Pure.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};

/// Shares begin and end at multiples of this; mirrors `NK_NAT_CHUNK` in bpf/abi.h.
pub const CHUNK: u16 = 32;

/// A run of ports that belong to one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortShare {
    /// The lowest.
    pub first: u16,
    /// How many.
    pub count: u16,
}

impl PortShare {
    /// The highest; `first` of an empty share.
    #[must_use]
    pub fn last(self) -> u16 {
        self.first.saturating_add(self.count.saturating_sub(1))
    }
}

impl fmt::Display for PortShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last())
    }
}

/// From the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// Ports of the host that containers are masqueraded with, unless the config says otherwise: below
    /// the kernel's own (`ip_local_port_range`, 32768) and Kubernetes' node ports (30000). One that a
    /// socket of the host has, or that is published, is passed over, so services may be among them.
    pub const MASQUERADE: Self = Self {
        first: 4096,
        last: 29999,
    };

    /// `None` if the first is above the last.
    #[must_use]
    pub const fn new(first: u16, last: u16) -> Option<Self> {
        if first <= last {
            Some(Self { first, last })
        } else {
            None
        }
    }

    /// The lowest.
    #[must_use]
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The highest.
    #[must_use]
    pub const fn last(self) -> u16 {
        self.last
    }

    /// The whole chunks in it, by number; empty if it is too narrow for one.
    #[must_use]
    pub fn chunks(self) -> std::ops::Range<u16> {
        let first = self.first.div_ceil(CHUNK);
        let end = (u32::from(self.last) + 1) / u32::from(CHUNK);
        first..u16::try_from(end).unwrap_or(u16::MAX).max(first)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl FromStr for PortRange {
    type Err = Error;

    /// "N" or "N-M".
    fn from_str(text: &str) -> Result<Self> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let number = |t: &str| {
            t.bytes()
                .all(|b| b.is_ascii_digit())
                .then(|| t.parse().ok())
        };
        let range = match (number(first).flatten(), number(last).flatten()) {
            (Some(first), Some(last)) => Self::new(first, last),
            _ => None,
        };
        range.ok_or_else(|| {
            let message = format!("{text:?} is no range of ports");
            Error::new(Kind::BadInput, message).with_hint("such as 4096-29999")
        })
    }
}

/// Ports in the kernel's notation, `ip_local_reserved_ports` in ip-sysctl.rst: ranges with commas
/// between, ordered and apart from each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSet(Vec<PortRange>);

impl PortSet {
    fn of(ports: impl Iterator<Item = u16>) -> Self {
        let mut ranges: Vec<PortRange> = Vec::new();
        for port in ports {
            match ranges.last_mut() {
                Some(range) if range.last.checked_add(1) == Some(port) => range.last = port,
                _ => ranges.push(PortRange {
                    first: port,
                    last: port,
                }),
            }
        }
        Self(ranges)
    }

    fn has(&self, port: u16) -> bool {
        self.0.iter().any(|r| (r.first..=r.last).contains(&port))
    }

    /// True without any port.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is in either.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        Self::of((0..=u16::MAX).filter(|p| self.has(*p) || other.has(*p)))
    }

    /// What is not in the other.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        Self::of((0..=u16::MAX).filter(|p| self.has(*p) && !other.has(*p)))
    }
}

impl From<PortRange> for PortSet {
    fn from(range: PortRange) -> Self {
        Self(vec![range])
    }
}

impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join(","))
    }
}

impl FromStr for PortSet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let items = text.trim().split(',').filter(|t| !t.is_empty());
        let ranges = items.map(|t| t.trim().parse::<PortRange>());
        let list = Self(ranges.collect::<Result<_>>()?);
        Ok(list.with(&Self::default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> PortSet {
        text.parse().unwrap()
    }

    #[test]
    fn sets_read_and_write_the_kernels_notation() {
        for (text, canonical) in [
            ("", ""),
            ("\n", ""),
            ("80", "80"),
            ("16384-29999\n", "16384-29999"),
            ("5-7,1,2,3-4", "1-7"),
            ("0,65535", "0,65535"),
            ("0-65535", "0-65535"),
        ] {
            assert_eq!(set(text).to_string(), canonical);
        }
        for text in ["x", "1-", "-1", "2-1", "70000", "+1", "1--2", "1 2"] {
            assert!(text.parse::<PortSet>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_was_added_can_be_taken_away_again() {
        for before in ["", "80", "20000-20010", "10000-40000", "29999-30001,65535"] {
            let (before, ours) = (set(before), set("16384-29999"));
            let added = ours.without(&before);
            let during = before.with(&added);
            assert_eq!(during, before.with(&ours));
            assert_eq!(during.without(&added), before);
        }
        assert!(set("5").without(&set("1-9")).is_empty());
    }

    #[test]
    fn a_range_has_the_chunks_that_fit_whole() {
        for (text, chunks) in [
            ("16384-16415", 512..513),
            ("16384-16414", 512..512),
            ("16385-16446", 513..513),
            ("65504-65535", 2047..2048),
            ("0-65535", 0..2048),
        ] {
            assert_eq!(
                text.parse::<PortRange>().unwrap().chunks(),
                chunks,
                "{text}"
            );
        }
    }

    #[test]
    fn a_share_says_its_first_and_last_port() {
        let share = PortShare {
            first: 16384,
            count: 512,
        };
        assert_eq!(share.to_string(), "16384-16895");
    }
}
