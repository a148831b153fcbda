//! Whether rules decide or only tell: a word of the annotations and the records. Pure.

use serde::{Deserialize, Serialize};

/// What happens to what no rule decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It is refused.
    #[default]
    Enforce,
    /// It passes, as far as a trial may go, and is recorded.
    Audit,
}

impl Mode {
    /// As it is written.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Audit => "audit",
        }
    }
}
