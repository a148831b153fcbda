//! Names of rules: a domain, and how far below it a rule goes (RFC 1035, RFC 4592). Pure.

use std::fmt;

use crate::error::{Error, Kind, Result};

/// Longest name, bytes as it is written (RFC 1035, 2.3.4: 255 in wire format).
const MAX_BYTES: usize = 253;

/// Longest label.
const MAX_LABEL: usize = 63;

/// Marks length bytes in keys: `NK_NAME_LENGTH`, bpf/abi.h.
const LENGTH: u8 = 0x80;

/// A name in lower case, of two labels or more, without the root's dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain(String);

impl Domain {
    /// Checks and folds it.
    ///
    /// # Errors
    /// [`Kind::BadInput`] with what is wrong with it.
    pub fn new(text: &str) -> Result<Self> {
        let bad = |what: &str| Error::new(Kind::BadInput, format!("{text:?} {what}"));
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if name.len() > MAX_BYTES {
            return Err(bad("is longer than 253 bytes"));
        }
        for label in name.split('.') {
            if label.is_empty() {
                return Err(bad("has an empty label"));
            }
            if label.len() > MAX_LABEL {
                return Err(bad("has a label of more than 63 bytes"));
            }
            let is_fine = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            if !label.bytes().all(is_fine) || label.starts_with('-') || label.ends_with('-') {
                return Err(bad(
                    "has a label that is not made of letters, digits, - and _",
                ));
            }
        }
        match name.rsplit_once('.') {
            None => Err(bad("has one label only").with_hint("write the whole name")),
            Some((_, top)) if top.bytes().all(|b| b.is_ascii_digit()) => {
                Err(bad("ends in a number, as no name does"))
            }
            Some(_) => Ok(Self(name)),
        }
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How many labels it has.
    #[must_use]
    pub fn labels(&self) -> u32 {
        u32::try_from(self.0.split('.').count()).unwrap_or(u32::MAX)
    }

    /// How many labels it has more than `above`; `None` if it is not in there.
    #[must_use]
    pub fn below(&self, above: &Self) -> Option<u32> {
        let head = self.0.strip_suffix(above.as_str())?;
        (head.is_empty() || head.ends_with('.')).then(|| self.labels() - above.labels())
    }

    /// In wire format backwards, with length bytes marked, without the root: `struct nk_name_key`,
    /// bpf/abi.h.
    #[must_use]
    pub fn key(&self) -> Vec<u8> {
        let mut wire = Vec::new();
        for label in self.0.split('.') {
            // Checked to be at most 63.
            wire.push(LENGTH | u8::try_from(label.len()).unwrap_or(0));
            wire.extend_from_slice(label.as_bytes());
        }
        wire.reverse();
        wire
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A domain to search, which may be of one label, in lower case and without the root's dot.
///
/// # Errors
/// [`Kind::BadInput`] with what is wrong with it.
pub fn search_domain(text: &str) -> Result<String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    // One label is no name of a rule, and fine here.
    let whole = if name.contains('.') {
        Domain::new(name)
    } else {
        Domain::new(&format!("{name}.invalid"))
    };
    whole
        .map(|_| name.to_ascii_lowercase())
        .map_err(|e| Error::new(Kind::BadInput, e.to_string().replace(".invalid\"", "\"")))
}

/// The name of a key, as people write it; bytes that no name should have are shown as escapes (RFC
/// 1035, 5.1), and those from 128 to 191 as 64 more, see `NK_NAME_FOREIGN`. `None` if it is none.
#[must_use]
pub fn name_of_key(key: &[u8]) -> Option<String> {
    let mut wire: Vec<u8> = key.to_vec();
    wire.reverse();
    let mut labels = Vec::new();
    let mut rest = wire.as_slice();
    while let Some((length, more)) = rest.split_first() {
        let length = length.checked_sub(LENGTH)?;
        let label = more.get(..usize::from(length))?;
        rest = &more[label.len()..];
        let shown = label.iter().map(|b| match b {
            b'.' | b'\\' => format!("\\{}", char::from(*b)),
            b if b.is_ascii_graphic() => char::from(*b).to_string(),
            b => format!("\\{b:03}"),
        });
        labels.push(shown.collect::<String>());
    }
    Some(labels.join("."))
}

/// How far below its domain a rule goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Depth {
    /// The name itself.
    Exact,
    /// `*.`: one label more.
    One,
    /// `**.`: one label more, or several.
    Deep,
}

/// Names that a rule is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern {
    /// How far.
    pub depth: Depth,
    /// Below what, or the name itself.
    pub domain: Domain,
}

impl Pattern {
    /// Whether a name is one of them.
    #[must_use]
    pub fn matches(&self, name: &Domain) -> bool {
        match (self.depth, name.below(&self.domain)) {
            (Depth::Exact, below) => below == Some(0),
            (Depth::One, below) => below == Some(1),
            (Depth::Deep, below) => below.is_some_and(|n| n >= 1),
        }
    }

    /// Whether all names of another pattern are among these.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self.depth, other.depth) {
            (_, Depth::Exact) => self.matches(&other.domain),
            (Depth::One, Depth::One) => self.domain == other.domain,
            (Depth::Deep, _) => other.domain.below(&self.domain).is_some(),
            _ => false,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = match self.depth {
            Depth::Exact => "",
            Depth::One => "*.",
            Depth::Deep => "**.",
        };
        write!(f, "{prefix}{}", self.domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(text: &str) -> Domain {
        Domain::new(text).unwrap()
    }

    #[test]
    fn names_are_folded_and_checked() {
        assert_eq!(domain("GitHub.COM.").as_str(), "github.com");
        assert_eq!(domain("_dns.xn--bcher-kva.example").labels(), 3);
        let long = format!("{}.example.com", "a".repeat(63));
        assert_eq!(domain(&long).labels(), 3);
        for (text, what) in [
            ("localhost", "one label"),
            ("a..b", "empty label"),
            (".example.com", "empty label"),
            ("", "empty label"),
            ("-a.example", "letters"),
            ("a*b.example", "letters"),
            ("a b.example", "letters"),
            ("1.2.3.4.5", "number"),
            (&format!("{}.com", "a".repeat(64)), "63 bytes"),
            (&"abcdefg.".repeat(33), "253 bytes"),
        ] {
            let e = Domain::new(text).unwrap_err();
            assert!(e.to_string().contains(what), "{text}: {e}");
        }
    }

    #[test]
    fn domains_to_search_may_have_one_label() {
        assert_eq!(search_domain("Corp.Example.").unwrap(), "corp.example");
        assert_eq!(search_domain("lan").unwrap(), "lan");
        let e = search_domain("a*b").unwrap_err().to_string();
        assert!(e.starts_with("\"a*b\" has a label"), "{e}");
        assert!(search_domain("").is_err());
        assert!(search_domain("a..b").is_err());
    }

    #[test]
    fn keys_are_wire_names_backwards() {
        let key = domain("api.example.com").key();
        assert_eq!(key, b"moc\x83elpmaxe\x87ipa\x83");
        assert!(key.starts_with(&domain("example.com").key()));
        assert!(
            !domain("badexample.com")
                .key()
                .starts_with(&domain("example.com").key())
        );
        assert_eq!(name_of_key(&key).as_deref(), Some("api.example.com"));
        assert_eq!(name_of_key(b"m.c\x83").as_deref(), Some("c\\.m"));
        assert_eq!(
            name_of_key(b"\x00\xffa\x83").as_deref(),
            Some("a\\255\\000")
        );
        assert_eq!(name_of_key(b"moc\x89"), None);
        assert_eq!(name_of_key(b"moc\x03"), None);
        assert_eq!(name_of_key(b"").as_deref(), Some(""));
    }

    /// 48 is the digit 0, too.
    #[test]
    fn no_part_of_a_label_is_a_label() {
        let long = "a".repeat(48);
        let one = domain(&format!("x0{long}.example"));
        let other = domain(&format!("{long}.example"));
        assert!(!one.key().starts_with(&other.key()));
    }

    #[test]
    fn depths_count_labels_and_never_the_apex() {
        let pattern = |depth| Pattern {
            depth,
            domain: domain("example.com"),
        };
        for (name, exact, one, deep) in [
            ("example.com", true, false, false),
            ("a.example.com", false, true, true),
            ("b.a.example.com", false, false, true),
            ("badexample.com", false, false, false),
            ("example.com.evil.net", false, false, false),
        ] {
            let name = domain(name);
            assert_eq!(pattern(Depth::Exact).matches(&name), exact, "{name}");
            assert_eq!(pattern(Depth::One).matches(&name), one, "{name}");
            assert_eq!(pattern(Depth::Deep).matches(&name), deep, "{name}");
        }
    }

    #[test]
    fn a_pattern_covers_what_it_has_all_names_of() {
        let read = |text: &str| {
            let (depth, domain) = match (text.strip_prefix("**."), text.strip_prefix("*.")) {
                (Some(rest), _) => (Depth::Deep, rest),
                (_, Some(rest)) => (Depth::One, rest),
                _ => (Depth::Exact, text),
            };
            Pattern {
                depth,
                domain: Domain::new(domain).unwrap(),
            }
        };
        for (outer, inner, covers) in [
            ("a.example", "a.example", true),
            ("*.a.example", "b.a.example", true),
            ("*.a.example", "a.example", false),
            ("*.a.example", "*.a.example", true),
            ("*.a.example", "**.a.example", false),
            ("**.a.example", "*.a.example", true),
            ("**.a.example", "**.b.a.example", true),
            ("**.b.a.example", "**.a.example", false),
            ("**.a.example", "a.example", false),
            ("a.example", "*.a.example", false),
        ] {
            assert_eq!(read(outer).covers(&read(inner)), covers, "{outer} {inner}");
            assert_eq!(read(inner).to_string(), inner);
        }
    }
}
