//! Names in a directory, of which a full host has thousands and each start reads all.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::RawDir;

use crate::error::{Context, Result};
use crate::types::id::NetnsCookie;

/// Of what the kernel says at a time, bytes: a few hundred names, and room for any.
const BUFFER: usize = 8192;

/// Calls with what is in a directory, in no order; nothing where it is missing.
///
/// # Errors
/// When it cannot be listed.
pub fn for_names(dir: &Path, mut call: impl FnMut(&str)) -> Result<()> {
    let all = any_name(dir, |name| {
        call(name);
        false
    });
    all.map(drop)
}

/// Whether one of the names in a directory is so; asks no further than to the first one.
/// [`std::fs::read_dir`] takes three allocations for each name.
///
/// # Errors
/// When it cannot be listed.
pub(super) fn any_name(dir: &Path, mut is_so: impl FnMut(&str) -> bool) -> Result<bool> {
    let what = || format!("list {}", dir.display());
    let opened = File::options()
        .read(true)
        .custom_flags(nix::libc::O_DIRECTORY)
        .open(dir);
    let opened = match opened {
        Ok(opened) => opened,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e).with_context(what),
    };
    let mut buffer = [MaybeUninit::uninit(); BUFFER];
    let mut entries = RawDir::new(opened, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(e) => return Err(io::Error::from(e)).with_context(what),
        };
        let found = match entry.file_name().to_str() {
            Ok("." | "..") => false,
            Ok(name) => is_so(name),
            Err(_) => is_so(&entry.file_name().to_string_lossy()),
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

/// As [`for_names`], all at once.
///
/// # Errors
/// When it cannot be listed.
pub fn names(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for_names(dir, |name| names.push(name.to_owned()))?;
    Ok(names)
}

/// Files with an extension, sorted; none where the directory is missing.
pub(super) fn list(dir: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut names = names(dir)?;
    names.retain(|name| extension_of(name) == Some(extension));
    names.sort_unstable();
    Ok(names.iter().map(|name| dir.join(name)).collect())
}

/// Of names, since paths take ten times as long to take apart.
pub(super) fn extension_of(name: &str) -> Option<&str> {
    name.rsplit_once('.').map(|(_, extension)| extension)
}

/// The namespace that a file is named after, and what it is of it.
pub(super) fn cookie_and_extension(name: &str) -> Option<(NetnsCookie, &str)> {
    let (stem, rest) = name.split_at_checked(NetnsCookie::FILE_NAME_BYTES)?;
    Some((NetnsCookie::from_file_name(stem)?, rest.strip_prefix('.')?))
}

pub(super) fn cookie_of(path: &Path) -> Option<NetnsCookie> {
    let (cookie, _) = cookie_and_extension(path.file_name()?.to_str()?)?;
    Some(cookie)
}
