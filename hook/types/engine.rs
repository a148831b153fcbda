//! Who started the container, as far as it says whose its annotations are. Pure.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `podman --version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PodmanVersion {
    major: u32,
    minor: u32,
    patch: u32,
}

impl PodmanVersion {
    /// The first that leaves an image's annotations in the image (release notes of podman 4.5.1,
    /// containers/podman#18542).
    const SAFE: Self = Self {
        major: 4,
        minor: 5,
        patch: 1,
    };

    /// Of `podman version 4.9.4-rhel`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        if !(words.next() == Some("podman") && words.next() == Some("version")) {
            return None;
        }
        let (number, _) = words.next().map(|w| w.split_once('-').unwrap_or((w, "")))?;
        let mut parts = number.split('.').map(|p| p.parse().ok());
        let mut part = || parts.next().flatten();
        Some(Self {
            major: part()?,
            minor: part()?,
            patch: part()?,
        })
    }
}

impl fmt::Display for PodmanVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// A program's file as it is; another once it is updated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Absolute.
    pub path: PathBuf,
    /// Number of its file system.
    pub device: u64,
    /// On it.
    pub inode: u64,
    /// Its last change, in seconds since 1970 and nanoseconds.
    pub changed: (i64, i64),
}

/// What started the container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// Who writes the annotations answers for them.
    #[default]
    Other,
    /// podman; `None` if it does not say which.
    Podman(Option<PodmanVersion>),
}

impl Engine {
    /// Whether the annotations of an image may be among the container's.
    #[must_use]
    pub fn lets_images_annotate(self) -> bool {
        match self {
            Self::Other => false,
            Self::Podman(version) => version.is_none_or(|v| v < PodmanVersion::SAFE),
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other => f.write_str("no podman"),
            Self::Podman(None) => f.write_str("podman of an unknown version"),
            Self::Podman(Some(version)) => write!(f, "podman {version}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn podman(text: &str) -> Engine {
        Engine::Podman(PodmanVersion::parse(text))
    }

    #[test]
    fn versions_are_read_from_podmans_own_words() {
        for (text, shown) in [
            ("podman version 4.3.1\n", "podman 4.3.1"),
            ("podman version 4.9.4-rhel\n", "podman 4.9.4"),
            ("podman version 6.0.0-dev\n", "podman 6.0.0"),
            ("podman version 4.3\n", "podman of an unknown version"),
            ("conmon version 2.1.6\n", "podman of an unknown version"),
            ("", "podman of an unknown version"),
        ] {
            assert_eq!(podman(text).to_string(), shown, "{text:?}");
        }
    }

    #[test]
    fn images_annotate_before_4_5_1_and_who_knows_where_else() {
        for text in ["podman version 4.3.1", "podman version 4.5.0", "?"] {
            assert!(podman(text).lets_images_annotate(), "{text}");
        }
        for text in ["podman version 4.5.1", "podman version 5.0.0-rc1"] {
            assert!(!podman(text).lets_images_annotate(), "{text}");
        }
        assert!(!Engine::Other.lets_images_annotate());
    }
}
