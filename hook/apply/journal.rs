//! Write-ahead list of what one attempt may have to take back, one JSON line each.
//!
//! Appended to in place; a line that a kill tore apart belongs to a step that did not begin. Who
//! opens one holds the endpoint's lock, so a journal that is found belongs to a hook that died.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Kind, Result};
use crate::plan::step::Undo;
use crate::state::store::remove_file;
use crate::types::record::EndpointRecord;

/// Where [`super::apply`] writes undos before their steps run.
pub trait Journal {
    /// Remembers how to take back the step that comes next.
    ///
    /// # Errors
    /// When it cannot be written; then the step must not run.
    fn record(&mut self, undo: &Undo) -> Result<()>;
}

/// The journal of an endpoint on disk.
#[derive(Debug)]
pub struct FileJournal {
    path: PathBuf,
    file: File,
}

/// What a journal says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// The endpoint as it was planned; `None` when the hook was killed before it wrote that.
    pub record: Option<EndpointRecord>,
    /// What has to be taken back, in that order: newest first.
    pub undos: Vec<Undo>,
}

impl FileJournal {
    /// Begins a journal; there is none of this endpoint afterwards if its first line does not fit.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when there is one: a hook died here, [`super::recover`] has to run.
    pub fn create(path: &Path, record: &EndpointRecord) -> Result<Self> {
        let opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        let file = opened.map_err(|e| {
            let there = e.kind() == ErrorKind::AlreadyExists;
            let kind = if there { Kind::Conflict } else { Kind::Kernel };
            Error::new(kind, e.to_string())
                .with_context(format!("begin journal {}", path.display()))
        })?;
        let mut journal = Self {
            path: path.to_owned(),
            file,
        };
        if let Err(cause) = journal.append(record) {
            journal.finish()?;
            return Err(cause);
        }
        Ok(journal)
    }

    /// Nothing has to be taken back any more.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn finish(self) -> Result<()> {
        finish(&self.path)
    }

    /// One write per line: after a kill a line is whole or torn, never mixed.
    fn append<T: serde::Serialize>(&mut self, value: &T) -> Result<()> {
        let mut line = serde_json::to_vec(value)
            .map_err(|e| Error::new(Kind::Internal, format!("encode journal: {e}")))?;
        line.push(b'\n');
        self.file
            .write_all(&line)
            .with_context(|| format!("write {}", self.path.display()))
    }
}

impl Journal for FileJournal {
    fn record(&mut self, undo: &Undo) -> Result<()> {
        self.append(undo)
    }
}

/// Reads the journal of a hook that died; `None` if there is none.
///
/// # Errors
/// When the file is no journal.
pub fn read(path: &Path) -> Result<Option<Entries>> {
    let what = || format!("read journal {}", path.display());
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path);
    let mut file = match opened {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).with_context(what),
    };
    let mut text = String::new();
    file.read_to_string(&mut text).with_context(what)?;
    parse(&text).map(Some).with_context(what)
}

/// Removes a journal whose entries are dealt with; gone already is fine.
///
/// # Errors
/// When it cannot be removed.
pub fn finish(path: &Path) -> Result<()> {
    remove_file(path)
}

/// What follows the last line feed is torn and does not count.
fn parse(text: &str) -> Result<Entries> {
    let whole = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
    let mut lines = whole.lines();
    let Some(first) = lines.next() else {
        return Ok(Entries::default());
    };
    let fault = |e: serde_json::Error| Error::new(Kind::Internal, e.to_string());
    let record = Some(serde_json::from_str(first).map_err(fault)?);
    let undos: std::result::Result<Vec<_>, _> = lines.map(serde_json::from_str).collect();
    let mut undos = undos.map_err(fault)?;
    undos.reverse();
    Ok(Entries { record, undos })
}

#[cfg(test)]
mod tests;
