//! Files that only grow, of values in postcard between two bytes that are 0 (COBS): what a full disk
//! or a power cut damages tells itself, and spoils nothing beside it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Serialize;

use crate::error::{Error, Kind, Result};

/// A value as it is appended. It begins with the 0 that ends what was cut off before it.
pub(super) fn frame<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    let frame = postcard::to_allocvec_cobs(value)
        .map_err(|e| Error::new(Kind::Internal, format!("make a frame: {e}")))?;
    Ok([&[0], frame.as_slice()].concat())
}

/// What is in a file; nothing if it cannot be read, which is warned of.
pub(super) fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|e| {
        if e.kind() != ErrorKind::NotFound {
            log::warn!("read {}: {e}", path.display());
        }
        Vec::new()
    })
}

/// All of a file, from either end; to be decoded in place.
pub(super) fn frames(bytes: &mut [u8]) -> impl DoubleEndedIterator<Item = &mut [u8]> {
    bytes
        .split_mut(|b| *b == 0)
        .filter(|frame| !frame.is_empty())
}

/// Opens a file to append to, of mode 0600 if it is new.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)
}
