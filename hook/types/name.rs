//! Names of network devices and endpoints. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};

/// A network device name: 1 to 15 bytes, as `dev_valid_name()`, net/core/dev.c, wants it,
/// and narrowed to `[A-Za-z0-9_.-]` so that it is safe in sysctl paths.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IfName(String);

impl IfName {
    /// Checks the text.
    ///
    /// # Errors
    /// [`Kind::BadInput`] when it is no device name.
    pub fn new(text: &str) -> Result<Self> {
        let ok = (1..=15).contains(&text.len())
            && !matches!(text, "." | ".." | "all" | "default" | "lo")
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
        if ok {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::new(
                Kind::BadInput,
                format!("{text:?} is not a device name (1 to 15 of A-Z a-z 0-9 _ . -, not lo)"),
            ))
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for IfName {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::new(&text)
    }
}

impl From<IfName> for String {
    fn from(name: IfName) -> Self {
        name.0
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
