//! How an address is reached from outside: a word of the config, the annotations and the records.
//! What each means for packets is the datapath's business. Pure.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// How an address is reached from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// Its prefix is routed to this host.
    Routed,
    /// It is of an uplink's own network, and its neighbours there ask for it.
    Lan,
    /// Not at all: what the container sends leaves under an address of this host.
    Masquerade,
}

impl Reach {
    /// All of them, in the order that texts name them.
    pub const ALL: [Self; 3] = [Self::Routed, Self::Lan, Self::Masquerade];

    /// As it is written.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Routed => "routed",
            Self::Lan => "lan",
            Self::Masquerade => "masquerade",
        }
    }

    /// Whether an address that is reached like this can be treated as `wish` says: less of the
    /// outside may reach it, never more. Not so where neighbours share the network: an address that
    /// nobody answers for may be one of theirs.
    #[must_use]
    pub fn permits(self, wish: Self) -> bool {
        self == wish || (self, wish) == (Self::Routed, Self::Masquerade)
    }

    /// What a word means; `None` if it is none of them.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.word() == word)
    }
}

/// An address that is reached as [`Reach::Lan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LanAddress {
    /// Single.
    pub address: IpAddr,
    /// Index of the uplink whose neighbours ask for it.
    pub ifindex: u32,
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
