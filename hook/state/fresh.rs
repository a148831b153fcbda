//! Which programs and maps were loaded for a create that has not succeeded yet: if no create
//! does, they are unloaded again. Written before loading, removed by the first success.

use serde::{Deserialize, Serialize};

use super::store::{Store, View, read_json, remove_file, write_json};
use crate::error::Result;

const FILE: &str = "fresh.json";

/// What is loaded but not proven.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fresh {
    /// The generation.
    pub generation: String,
    /// The shared maps came with it.
    pub maps: bool,
}

impl View {
    /// What a create that has not succeeded loaded, if any. A damaged note counts as none: what it
    /// spoke of then stays loaded, which is what every success ends in.
    #[must_use]
    pub fn fresh(&self) -> Option<Fresh> {
        read_json(&self.file(FILE)).unwrap_or_else(|e| {
            log::warn!("{e}: counts as none");
            None
        })
    }

    /// Whether there is no note, or one that is not damaged.
    pub(super) fn is_fresh_readable(&self) -> bool {
        read_json::<Fresh>(&self.file(FILE)).is_ok()
    }
}

impl Store {
    /// Says what is about to be loaded. Something said earlier stays: it is not proven either.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set_fresh(&self, fresh: &Fresh) -> Result<()> {
        let maps = fresh.maps || self.view().fresh().is_some_and(|f| f.maps);
        write_json(
            &self.view().file(FILE),
            &Fresh {
                maps,
                ..fresh.clone()
            },
        )
    }

    /// Removes a damaged note, which counts as none.
    pub(super) fn sweep_fresh(&self) -> Result<()> {
        let path = self.view().file(FILE);
        match read_json::<Fresh>(&path) {
            Ok(_) => Ok(()),
            Err(_) => remove_file(&path),
        }
    }

    /// What was loaded is proven, or unloaded.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn clear_fresh(&self) -> Result<()> {
        remove_file(&self.view().file(FILE))
    }
}
