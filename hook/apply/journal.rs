//! Write-ahead list of what one attempt may have to take back, one JSON line each.
//!
//! The file is locked while its hook lives, so that `gc` can tell a half-built endpoint from one
//! that is being built; hence it is appended to in place and never renamed. A line that a kill
//! tore apart belongs to a step that did not begin.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

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
    file: Flock<File>,
    start: Option<EndpointRecord>,
    undos: Vec<Undo>,
}

impl FileJournal {
    /// Begins a journal.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when there is one: another hook builds this endpoint, or died doing so
    /// and [`super::recover`] has to run first.
    pub fn create(path: &Path, record: &EndpointRecord) -> Result<Self> {
        let what = || format!("begin journal {}", path.display());
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|e| {
                let there = e.kind() == std::io::ErrorKind::AlreadyExists;
                let kind = if there { Kind::Conflict } else { Kind::Kernel };
                Error::new(kind, e.to_string()).with_context(what())
            })?;
        let file = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| e);
        let file = file.context(what())?;
        let mut journal = Self {
            path: path.to_owned(),
            file,
            start: Some(record.clone()),
            undos: Vec::new(),
        };
        journal.append(record)?;
        Ok(journal)
    }

    /// Takes over the journal of a hook that has died; `None` while it lives, or if it is gone.
    ///
    /// # Errors
    /// When the file is no journal.
    pub fn adopt(path: &Path) -> Result<Option<Self>> {
        let what = || format!("read journal {}", path.display());
        let file = match OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(path)
        {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).context(what()),
        };
        let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
            Err((_, e)) => return Err(e).context(what()),
        };
        let ino = file.metadata().context(what())?.ino();
        if !std::fs::symlink_metadata(path).is_ok_and(|m| m.ino() == ino) {
            return Ok(None); // its hook, or another gc, finished it meanwhile
        }
        let mut text = String::new();
        file.read_to_string(&mut text).context(what())?;
        let (start, undos) = parse(&text).context(what())?;
        Ok(Some(Self {
            path: path.to_owned(),
            file,
            start,
            undos,
        }))
    }

    /// The endpoint as it was planned; `None` when the hook was killed before it wrote that.
    #[must_use]
    pub fn record_at_start(&self) -> Option<&EndpointRecord> {
        self.start.as_ref()
    }

    /// What has to be taken back, in that order.
    #[must_use]
    pub fn newest_first(&self) -> Vec<Undo> {
        self.undos.iter().rev().cloned().collect()
    }

    /// Nothing has to be taken back any more.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn finish(self) -> Result<()> {
        remove_file(&self.path) // before the lock goes, so nobody adopts it
    }

    /// One write per line: after a kill a line is whole or torn, never mixed.
    fn append<T: serde::Serialize>(&mut self, value: &T) -> Result<()> {
        let mut line = serde_json::to_vec(value)
            .map_err(|e| Error::new(Kind::Internal, format!("encode journal: {e}")))?;
        line.push(b'\n');
        self.file
            .write_all(&line)
            .context(format!("write {}", self.path.display()))
    }
}

impl Journal for FileJournal {
    fn record(&mut self, undo: &Undo) -> Result<()> {
        self.append(undo)?;
        self.undos.push(undo.clone());
        Ok(())
    }
}

/// Lines of a journal; what follows the last line feed is torn and does not count.
fn parse(text: &str) -> Result<(Option<EndpointRecord>, Vec<Undo>)> {
    let whole = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
    let mut lines = whole.lines();
    let Some(first) = lines.next() else {
        return Ok((None, Vec::new()));
    };
    let fault = |e: serde_json::Error| Error::new(Kind::Internal, e.to_string());
    let start = serde_json::from_str(first).map_err(fault)?;
    let undos = lines
        .map(serde_json::from_str)
        .collect::<std::result::Result<_, _>>();
    Ok((Some(start), undos.map_err(fault)?))
}
