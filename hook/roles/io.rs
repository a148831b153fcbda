//! Injected standard streams, so that no role uses the process's own.

use std::io::{Read, Write};

use crate::error::{Context, Error, Kind, Result};

/// The streams a role may use.
pub struct Io<'a> {
    /// Where the state JSON comes from.
    pub stdin: &'a mut dyn Read,
    /// Tables and JSON; stays empty in the hook role.
    pub stdout: &'a mut dyn Write,
}

/// Most bytes of state JSON that are read: 1 MiB. podman passes at most 300 kB of annotations.
pub const STDIN_LIMIT_BYTES: usize = 1 << 20;

impl Io<'_> {
    /// Reads standard input to its end.
    ///
    /// # Errors
    /// [`Kind::BadInput`] for more than [`STDIN_LIMIT_BYTES`], [`Kind::Kernel`] if reading fails.
    pub fn read_input(&mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let limit = STDIN_LIMIT_BYTES as u64 + 1;
        self.stdin
            .take(limit)
            .read_to_end(&mut bytes)
            .context("read standard input")?;
        if bytes.len() <= STDIN_LIMIT_BYTES {
            return Ok(bytes);
        }
        // The runtime blocks until all is read: take the rest, keep none of it.
        std::io::copy(&mut self.stdin, &mut std::io::sink()).context("read standard input")?;
        Err(Error::new(
            Kind::BadInput,
            "container state on standard input is larger than 1 MiB",
        ))
    }

    /// Writes text to standard output.
    ///
    /// # Errors
    /// [`Kind::Kernel`] if writing fails; a closed pipe is success, the reader has seen enough.
    pub fn print(&mut self, text: &str) -> Result<()> {
        self.reaches_reader(text).map(drop)
    }

    /// As [`Io::print`]; false if nobody reads any more.
    ///
    /// # Errors
    /// As [`Io::print`].
    pub fn reaches_reader(&mut self, text: &str) -> Result<bool> {
        match self
            .stdout
            .write_all(text.as_bytes())
            .and_then(|()| self.stdout.flush())
        {
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
            other => other.context("write standard output").map(|()| true),
        }
    }
}
