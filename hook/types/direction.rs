//! Which way a flow was opened; mirrors `enum nk_dir` in bpf/abi.h. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Seen from the container. The numbers are the ABI's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Direction {
    /// The container opens it.
    Egress = 0,
    /// The remote side opens it.
    Ingress = 1,
}

impl Direction {
    /// Both, in ABI order.
    pub const ALL: [Self; 2] = [Self::Egress, Self::Ingress];

    /// As it is written.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Egress => "egress",
            Self::Ingress => "ingress",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
