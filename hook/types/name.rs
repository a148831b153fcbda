//! Names of network devices and endpoints. Pure.

use std::fmt;
use std::hash::Hasher;

use fnv::FnvHasher;
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
        Self::try_from(text.to_owned())
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
        let ok = (1..=15).contains(&text.len())
            && !matches!(text.as_str(), "." | ".." | "all" | "default" | "lo")
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
        if ok {
            Ok(Self(text))
        } else {
            Err(Error::new(
                Kind::BadInput,
                format!(
                    "{} is not a device name (1 to 15 of A-Z a-z 0-9 _ . -, not lo)",
                    shown(&text)
                ),
            ))
        }
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

/// Checks the name of an endpoint or profile: `[A-Za-z0-9][A-Za-z0-9_.-]{0,63}`.
///
/// # Errors
/// [`Kind::BadInput`] when it is none.
pub fn check_label(text: &str) -> Result<()> {
    let ok = text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if ok {
        return Ok(());
    }
    Err(Error::new(
        Kind::BadInput,
        format!("{} is not [A-Za-z0-9][A-Za-z0-9_.-]{{0,63}}", shown(text)),
    ))
}

/// Text of others in messages: quoted, escaped and not too long.
#[must_use]
pub fn shown(text: &str) -> String {
    const MOST: usize = 80;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{:?}...", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

/// The known word that `text` is most likely a misspelling of, for "did you mean".
#[must_use]
pub fn nearest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let text = text.to_ascii_lowercase();
    known
        .into_iter()
        .map(|word| (distance(&text, word), word))
        .filter(|(d, word)| *d <= 1 + word.len() / 4)
        .min()
        .map(|(_, word)| word)
}

/// Edits (insert, delete, replace, swap of neighbours) from one to the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().collect());
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            if i == 0 || j == 0 {
                rows[i][j] = i + j;
                continue;
            }
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replace.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = least;
        }
    }
    rows[a.len()][b.len()]
}

/// A number for a name, for files of many: FNV-1a, which does not change with the compiler. Never 0.
/// Two names may have the same.
#[must_use]
pub(super) fn digest(name: &str) -> u64 {
    let mut hasher = FnvHasher::default();
    hasher.write(name.as_bytes());
    hasher.finish().max(1)
}
