//! Files that nobody will ever ask for again: what a killed process was writing, locks of
//! endpoints that are gone, and what a power cut damaged where the directory outlives the boot.

use std::path::{Path, PathBuf};

use super::names::{cookie_of, extension_of, list, names};
use super::store::{LedgerLock, Store, View, remove_file};
use crate::error::{ErrorList, Result};
use crate::types::claim::Claim;
use crate::types::id::NetnsCookie;

/// Start of the extension of a file that is being written; the writer's pid follows.
pub(super) const TEMPORARY: &str = "tmp-";

impl View {
    /// Whether there are files of these endpoints only, finished ones, and journals of those that are
    /// being built: then nothing is to be swept or forgotten. Reads names, no file of an endpoint.
    /// The claims are in the order of their namespaces.
    ///
    /// # Errors
    /// When a directory cannot be listed.
    pub fn is_tidy(&self, claims: &[Claim]) -> Result<bool> {
        let files = self.files()?;
        let is_theirs = |cookie: &NetnsCookie| Claim::find(claims, *cookie).is_some();
        let is_building = |cookie: &NetnsCookie| {
            let claim = Claim::find(claims, *cookie);
            claim.is_some_and(|claim| !claim.is_active())
        };
        let is_finished = |dir: &PathBuf| temporaries(dir).is_ok_and(|paths| paths.is_empty());
        let [state, _, lasting] = self.swept();
        Ok(!files.has_left
            && !files.has_odd
            && files.namespaces.iter().all(is_theirs)
            && is_finished(&state)
            && is_finished(&lasting)
            && self.journals()?.iter().all(is_building)
            && self.failures().is_ok()
            && self.is_fresh_readable())
    }

    /// Directories in which files are written.
    fn swept(&self) -> [PathBuf; 3] {
        [self.file(""), self.endpoints_dir(), self.lasting_file("")]
    }
}

impl Store {
    /// Removes them; never stops.
    pub fn sweep(&self) -> ErrorList {
        let mut errors = ErrorList::new();
        let view = self.view();
        for dir in view.swept() {
            for path in errors.keep(temporaries(&dir)).unwrap_or_default() {
                errors.keep(remove_file(&path));
            }
        }
        for path in errors
            .keep(list(&self.view().endpoints_dir(), "lock"))
            .unwrap_or_default()
        {
            errors.keep(self.sweep_lock(&path));
        }
        if let Err(e) = self.view().failures() {
            log::warn!("{e}: starting a new list");
            errors.keep(remove_file(&self.view().failures_path()));
        }
        errors.keep(self.sweep_fresh());
        errors
    }

    /// A lock that is held, or whose endpoint stands, is somebody's.
    fn sweep_lock(&self, path: &Path) -> Result<()> {
        let Some(cookie) = cookie_of(path) else {
            return Ok(());
        };
        let Some(lock) = self.try_lock_endpoint(cookie)? else {
            return Ok(());
        };
        let view = self.view();
        if view.has_record(cookie) || view.journal_path(cookie).exists() {
            return Ok(());
        }
        lock.remove()
    }

    /// Removes the record of a namespace if it is none; one that can be read stays.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn remove_damaged(&self, _lock: &LedgerLock, cookie: NetnsCookie) -> Result<()> {
        match self.view().find(cookie) {
            Ok(_) => Ok(()),
            Err(_) => remove_file(&self.view().record_path(cookie)),
        }
    }
}

/// Unfinished files whose writer has ended.
fn temporaries(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut names = names(dir)?;
    names.retain(|name| is_left(name));
    Ok(names.iter().map(|name| dir.join(name)).collect())
}

/// Whether a file of that name was being written by a process that has ended.
pub(super) fn is_left(name: &str) -> bool {
    let pid = extension_of(name).and_then(|e| e.strip_prefix(TEMPORARY));
    pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::state::Paths;
    use crate::state::lock::Deadline;
    use crate::types::record::EndpointRecord;
    use std::time::Duration;

    #[test]
    fn only_what_nobody_needs_is_swept() {
        let dir = std::env::temp_dir().join(format!("oci-netkit-sweep-{}", std::process::id()));
        let paths = Paths {
            state_dir: dir.clone(),
            lasting_dir: dir.join("lasting"),
            bpffs_dir: dir.join("bpf"),
        };
        let store = Store::open(&paths).unwrap();
        let soon = Deadline::after(Duration::from_secs(5));
        let ledger = store.lock_ledger(&soon).unwrap();
        store.reserve(&ledger, &EndpointRecord::example()).unwrap();
        let endpoints = dir.join("endpoints");
        let keep = [
            endpoints.join(format!("07.tmp-{}", std::process::id())),
            endpoints.join("0000000000000009.json"),
            endpoints.join("0000000000000009.lock"),
            endpoints.join("000000000000000a.lock"),
            endpoints.join("000000000000000c.json"),
        ];
        let go = [
            dir.join("fresh.tmp-4194305"),
            dir.join("errors.json"),
            dir.join("lasting/leases.tmp-4194305"),
            dir.join("fresh.json"),
            endpoints.join("0000000000000009.tmp-4194305"),
            endpoints.join("000000000000000b.lock"),
        ];
        let held = store.try_lock_endpoint(NetnsCookie(10)).unwrap();
        for path in keep.iter().chain(&go) {
            if !path.exists() {
                fs::write(path, "{").unwrap();
            }
        }
        let errors = store.sweep();
        assert!(errors.is_empty(), "{errors:?}");
        for path in &keep {
            assert!(path.exists(), "{}", path.display());
        }
        for path in &go {
            assert!(!path.exists(), "{}", path.display());
        }
        store.remove_damaged(&ledger, NetnsCookie(9)).unwrap();
        store.remove_damaged(&ledger, NetnsCookie(12)).unwrap();
        assert!(keep[1].exists() && !keep[4].exists());
        drop(held);
        fs::remove_dir_all(dir).unwrap();
    }
}
