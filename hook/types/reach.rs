//! How an address is reached from outside: a word of the config, the annotations and the records.
//! What each means for packets is the datapath's business. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How an address is reached from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// Its prefix is routed to this host.
    Routed,
    /// Not at all: what the container sends leaves under an address of this host.
    Masquerade,
}

impl Reach {
    /// All of them, in the order that texts name them.
    pub const ALL: [Self; 2] = [Self::Routed, Self::Masquerade];

    /// As it is written.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Routed => "routed",
            Self::Masquerade => "masquerade",
        }
    }

    /// Whether an address that is reached like this can be treated as `wish` says: less of the
    /// outside may reach it, never more.
    #[must_use]
    pub fn permits(self, wish: Self) -> bool {
        match self {
            Self::Routed => true,
            Self::Masquerade => wish == Self::Masquerade,
        }
    }

    /// What a word means; `None` if it is none of them.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.word() == word)
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
