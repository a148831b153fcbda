//! Locks between processes, and the deadline that bounds every wait for one.
//!
//! flock(2) on files that `unload` may remove: who gets the lock checks that the path still leads
//! to the locked file. flock has no time limit, so it is polled; a waiter sleeps some
//! milliseconds, which a hook that waits for grace periods anyway does not notice.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::error::{Context, Error, Kind, Result};

/// Until when something must be done.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// From now on.
    #[must_use]
    pub fn after(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// Zero when it has passed.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Stops work that has lasted too long; `next` is what it was about to do.
    ///
    /// # Errors
    /// [`Kind::Timeout`] once the deadline has passed.
    pub fn check(&self, next: impl Display) -> Result<()> {
        if self.remaining().is_zero() {
            return Err(Error::new(
                Kind::Timeout,
                format!("out of time before: {next}"),
            ));
        }
        Ok(())
    }
}

/// An exclusive lock; ends when dropped, or with the process.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    _file: Flock<File>,
}

impl Lock {
    /// Waits for the lock, creating the file if it is missing.
    ///
    /// # Errors
    /// [`Kind::Timeout`] naming the holder's pid when the deadline passes.
    pub fn acquire(path: &Path, deadline: &Deadline) -> Result<Self> {
        let mut pause = Duration::from_micros(500);
        loop {
            if let Some(lock) = Self::try_acquire(path)? {
                return Ok(lock);
            }
            if deadline.remaining().is_zero() {
                return Err(Error::new(
                    Kind::Timeout,
                    format!("{} is locked by {}", path.display(), holder(path)),
                ));
            }
            sleep(pause.min(deadline.remaining()));
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }

    /// The lock if nobody has it.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn try_acquire(path: &Path) -> Result<Option<Self>> {
        let what = || format!("lock {}", path.display());
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(path)
            .with_context(what)?;
        let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
            Err((_, e)) => return Err(e).with_context(what),
        };
        let ours = file.metadata().with_context(what)?;
        match std::fs::symlink_metadata(path) {
            Ok(found) if found.ino() == ours.ino() && found.dev() == ours.dev() => {}
            // Removed between open and lock: whoever comes next would lock another file.
            _ => return Ok(None),
        }
        let note = write!(file, "{}", std::process::id());
        if note.is_ok() {
            let end = file.stream_position().with_context(what)?;
            file.set_len(end).with_context(what)?;
        }
        Ok(Some(Self {
            path: path.to_owned(),
            _file: file,
        }))
    }

    /// Removes the file under the lock; waiters notice.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(self) -> Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other.with_context(|| format!("remove {}", self.path.display())),
        }
    }
}

/// Words for the process that wrote its pid into a lock file.
fn holder(path: &Path) -> String {
    let mut text = String::new();
    let read = File::open(path).and_then(|f| f.take(16).read_to_string(&mut text));
    match (read, text.trim()) {
        (Ok(_), pid) if !pid.is_empty() => format!("process {pid}"),
        _ => "another process".into(),
    }
}

#[cfg(test)]
mod tests;
