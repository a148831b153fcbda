//! Our directory on the bpf file system: which pins are where. Knows paths and files only; what
//! is pinned is `bpf/`'s business. bpffs refuses names with a dot.
//!
//! ```text
//! <bpffs>/abi1/maps/nk_addrs …             shared by all generations of one ABI
//! <bpffs>/gen-<hash>/nk_from_container …   programs of one build
//! <bpffs>/uplinks/<ifindex>                link of from_wire
//! <bpffs>/links/<cookie>/from_container …  links of one endpoint
//! <bpffs>/cgroup/connect4 …                links on the root cgroup
//! ```

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::error::{Context, Error, Kind, Result};
use crate::state::names::{for_names, names};
use crate::types::id::NetnsCookie;

/// Where each pin goes.
#[derive(Clone, Debug)]
pub struct Pins {
    base: PathBuf,
}

impl Pins {
    /// All below `base`, our own directory.
    #[must_use]
    pub fn new(base: &Path) -> Self {
        Self {
            base: base.to_owned(),
        }
    }

    /// Our directory itself.
    #[must_use]
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// Directory of an ABI version.
    #[must_use]
    pub fn abi(&self, version: u32) -> PathBuf {
        self.base.join(format!("abi{version}"))
    }

    /// ABI versions that are pinned.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn abis(&self) -> Result<Vec<u32>> {
        let names = list(&self.base)?;
        let version = |n: &String| n.strip_prefix("abi")?.parse().ok();
        Ok(names.iter().filter_map(version).collect())
    }

    /// Maps shared by the generations of an ABI.
    #[must_use]
    pub fn maps(&self, version: u32) -> PathBuf {
        self.abi(version).join("maps")
    }

    /// Programs of a generation.
    #[must_use]
    pub fn generation(&self, name: &str) -> PathBuf {
        self.base.join(name)
    }

    /// Links on uplinks.
    #[must_use]
    pub fn uplinks(&self) -> PathBuf {
        self.base.join("uplinks")
    }

    /// Links of all endpoints, a directory each.
    #[must_use]
    pub fn links(&self) -> PathBuf {
        self.base.join("links")
    }

    /// Links on the root cgroup, while something is published.
    #[must_use]
    pub fn cgroup(&self) -> PathBuf {
        self.base.join("cgroup")
    }

    /// Links of an endpoint.
    #[must_use]
    pub fn endpoint(&self, cookie: NetnsCookie) -> PathBuf {
        self.links().join(cookie.file_name())
    }

    /// Namespaces that have pinned links, in no order.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn endpoints(&self) -> Result<Vec<NetnsCookie>> {
        let mut cookies = Vec::new();
        for_names(&self.links(), |name| {
            cookies.extend(NetnsCookie::from_file_name(name));
        })?;
        Ok(cookies)
    }

    /// Generations that are pinned, complete ones only.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn generations(&self) -> Result<Vec<String>> {
        let mut names = list(&self.base)?;
        names.retain(|n| n.starts_with("gen-"));
        Ok(names)
    }
}

/// Whether a path lies on a bpf file system.
#[must_use]
pub fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|s| s.filesystem_type() == BPF_FS_MAGIC)
}

/// Creates a directory of mode 0700 with its parents below the file system's root, or checks that
/// what is there belongs to this user and nobody else may enter it.
///
/// # Errors
/// [`Kind::NotPermitted`] for a directory of someone else, [`Kind::Kernel`] when it cannot be made.
pub fn ensure_dir(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return Ok(()),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
            let parent = parent.ok_or_else(|| Error::new(Kind::Internal, "no parent directory"))?;
            ensure_dir(parent)?;
            return ensure_dir(path);
        }
        Err(e) => return Err(e).with_context(|| format!("create {}", path.display())),
    }
    let meta = fs::symlink_metadata(path).with_context(|| format!("look at {}", path.display()))?;
    let ours = meta.uid() == nix::unistd::geteuid().as_raw() && meta.mode() & 0o077 == 0;
    if meta.is_dir() && ours {
        return Ok(());
    }
    Err(Error::new(
        Kind::NotPermitted,
        format!(
            "{} is not a directory that only this user may enter",
            path.display()
        ),
    ))
}

/// Names in a directory, sorted; none where it is missing.
///
/// # Errors
/// When it cannot be listed.
pub fn list(dir: &Path) -> Result<Vec<String>> {
    let mut names = names(dir)?;
    names.sort();
    Ok(names)
}

/// Removes a pin; gone already is fine.
///
/// # Errors
/// When it cannot be removed.
pub fn unpin(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        other => other.with_context(|| format!("unpin {}", path.display())),
    }
}

/// Removes a directory with the pins in it; gone already is fine.
///
/// # Errors
/// When something in it cannot be removed.
pub fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        other => other.with_context(|| format!("remove {}", path.display())),
    }
}

/// Removes a directory if nothing is in it.
///
/// # Errors
/// For any other reason than that it is in use or gone.
pub fn remove_empty(path: &Path) -> Result<()> {
    match fs::remove_dir(path) {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => Ok(()),
        other => other.with_context(|| format!("remove {}", path.display())),
    }
}
