//! Identities: containers, endpoints, namespaces. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};

/// A container id as runc and crun accept it: `[A-Za-z0-9][A-Za-z0-9_.+-]{0,127}`.
///
/// Paths are never built from it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

impl ContainerId {
    /// Checks the text.
    ///
    /// # Errors
    /// [`Kind::BadInput`] for an empty, over-long or oddly spelt id.
    pub fn new(text: &str) -> Result<Self> {
        Self::try_from(text.to_owned())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 characters, as podman shows it.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl TryFrom<String> for ContainerId {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        let tail = |b: u8| b.is_ascii_alphanumeric() || b"_.+-".contains(&b);
        let ok = text.len() <= 128
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.bytes().all(tail);
        if ok {
            Ok(Self(text))
        } else {
            Err(Error::new(
                Kind::BadInput,
                format!("container id {text:?} is not [A-Za-z0-9][A-Za-z0-9_.+-]{{0,127}}"),
            ))
        }
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> Self {
        id.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Index of an endpoint in the maps: 0 to [`EndpointId::COUNT`] - 1, reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EndpointId(pub u32);

impl EndpointId {
    /// Endpoints at a time; mirrors `NK_MAX_ENDPOINTS` in bpf/abi.h.
    pub const COUNT: u32 = 4096;
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// `SO_NETNS_COOKIE` (socket(7)): unique per boot, unlike inode numbers, which are reused at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NetnsCookie(pub u64);

impl NetnsCookie {
    /// Length of [`NetnsCookie::file_name`].
    pub const FILE_NAME_BYTES: usize = 16;

    /// Hexadecimal, 16 digits: a safe name for files and bpffs pins.
    #[must_use]
    pub fn file_name(self) -> String {
        format!("{:016x}", self.0)
    }

    /// Which one a file or pin is named after.
    #[must_use]
    pub fn from_file_name(name: &str) -> Option<Self> {
        let is_name = name.len() == Self::FILE_NAME_BYTES && !name.starts_with('+');
        let number = is_name.then(|| u64::from_str_radix(name, 16).ok())??;
        Some(Self(number))
    }
}

impl fmt::Display for NetnsCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_says_which_namespace() {
        for cookie in [0, 9, u64::MAX].map(NetnsCookie) {
            assert_eq!(
                NetnsCookie::from_file_name(&cookie.file_name()),
                Some(cookie)
            );
        }
        for name in [
            "",
            "9",
            "+00000000000000f",
            "00000000000000000",
            "000000000000000g",
        ] {
            assert_eq!(NetnsCookie::from_file_name(name), None, "{name}");
        }
    }
}
