//! The one error type: a kind that decides the exit code, a chain of context,
//! the text for people. Mustn't print or exit; `main.rs` does both.

use std::fmt;
use std::net::IpAddr;

/// Result of everything in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, as far as the caller must know; decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The command line is wrong (`EX_USAGE`).
    Usage,
    /// Annotations, state JSON, rules or ids are wrong (`EX_DATAERR`).
    BadInput,
    /// This host cannot do what is asked: kernel, bpffs, capabilities (`EX_UNAVAILABLE`).
    Unsupported,
    /// A bug in this program, or state on disk that it cannot have written (`EX_SOFTWARE`).
    Internal,
    /// The kernel refused a call that should have worked (`EX_OSERR`).
    Kernel,
    /// Something else holds what is asked for: address, namespace, name (`EX_CANTCREAT`).
    Conflict,
    /// A lock or the deadline ran out (`EX_TEMPFAIL`).
    Timeout,
    /// Refused on purpose: host namespace, rootless, capabilities (`EX_NOPERM`).
    NotPermitted,
    /// The administrator's config is wrong (`EX_CONFIG`).
    Config,
}

impl Kind {
    /// Exit code, after sysexits(3head).
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 64,
            Self::BadInput => 65,
            Self::Unsupported => 69,
            Self::Internal => 70,
            Self::Kernel => 71,
            Self::Conflict => 73,
            Self::Timeout => 75,
            Self::NotPermitted => 77,
            Self::Config => 78,
        }
    }
}

/// An error: kind, message, context from the outside in, optional hint.
///
/// The text is lower case, has no full stop and reads action + object + where.
#[derive(Clone, Debug)]
pub struct Error {
    kind: Kind,
    /// Outermost first.
    context: Vec<String>,
    message: String,
    hint: Option<String>,
    taken: Vec<IpAddr>,
}

impl Error {
    /// A new error with the innermost message.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            context: Vec::new(),
            message: message.into(),
            hint: None,
            taken: Vec::new(),
        }
    }

    /// What decides the exit code.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What to do about it, without the word "hint".
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Addresses that other machines have: who leased them can try others.
    #[must_use]
    pub fn taken(&self) -> &[IpAddr] {
        &self.taken
    }

    /// Says that this is about addresses which other machines have, and only about that.
    #[must_use]
    pub fn with_taken(mut self, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        self.taken.extend(addresses);
        self
    }

    /// Adds one line that says how to mend it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds what was being done, outside of what is there.
    #[must_use]
    pub fn with_context(mut self, context: impl Into<String>) -> Self {
        self.context.insert(0, context.into());
        self
    }
}

impl fmt::Display for Error {
    /// One line: `context: message`; the hint follows in brackets by [`Error::report`] only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in &self.context {
            write!(f, "{c}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl Error {
    /// The text for people: the line, then the hint on a line of its own.
    #[must_use]
    pub fn report(&self) -> String {
        match &self.hint {
            Some(h) => format!("{self}\nhint: {h}"),
            None => self.to_string(),
        }
    }
}

impl std::error::Error for Error {}

/// Adds context to the error of a result, done at each kernel step.
pub trait Context<T>: Sized {
    /// Turns any error into ours, keeping the kind if it is ours already, else [`Kind::Kernel`]. The
    /// words are made only where there is an error.
    ///
    /// # Errors
    /// The error that was there, with the context around it.
    fn with_context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;

    /// As [`Context::with_context`], with words that are there.
    ///
    /// # Errors
    /// As [`Context::with_context`].
    fn context(self, what: impl Into<String>) -> Result<T> {
        self.with_context(|| what)
    }
}

impl<T> Context<T> for Result<T> {
    fn with_context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Self {
        self.map_err(|e| e.with_context(what()))
    }
}

impl<T> Context<T> for std::io::Result<T> {
    fn with_context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|e| {
            let error = Error::new(Kind::Kernel, lower(&e.to_string())).with_context(what());
            match e.kind() {
                std::io::ErrorKind::StorageFull => error.with_hint("free some space there"),
                _ => error,
            }
        })
    }
}

/// The text with a small first letter, as messages of ours start.
pub(crate) fn lower(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map_or_else(String::new, |c| c.to_lowercase().chain(chars).collect())
}

/// Faults collected by what must not stop at the first: validation, teardown, gc.
#[derive(Clone, Debug, Default)]
pub struct ErrorList(Vec<Error>);

impl ErrorList {
    /// An empty list.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one fault.
    pub fn push(&mut self, error: Error) {
        self.0.push(error);
    }

    /// Keeps the error of a result, gives its value.
    pub fn keep<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|e| self.push(e)).ok()
    }

    /// True if nothing went wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How much went wrong.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The faults in the order they were found.
    pub fn iter(&self) -> std::slice::Iter<'_, Error> {
        self.0.iter()
    }

    /// `value` if the list is empty, else one error that holds all of them: the first one's kind,
    /// a line each.
    ///
    /// # Errors
    /// When the list is not empty.
    pub fn into_result<T>(self, value: T) -> Result<T> {
        let Some(first) = self.0.first() else {
            return Ok(value);
        };
        if self.0.len() == 1 {
            return Err(first.clone());
        }
        let lines: Vec<String> = self
            .0
            .iter()
            .map(|e| e.report().replace('\n', "; "))
            .collect();
        let all = Error::new(
            first.kind,
            format!("{} faults:\n  {}", lines.len(), lines.join("\n  ")),
        );
        let taken = self.0.iter().flat_map(|e| e.taken.iter().copied());
        Err(all.with_taken(taken))
    }
}
