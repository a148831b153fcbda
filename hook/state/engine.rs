//! What podman calls itself, for as long as its program stays the same: to ask it takes longer than
//! to build a network.

use serde::{Deserialize, Serialize};

use super::store::{Store, View, read_json, write_json};
use crate::error::Result;
use crate::types::engine::{PodmanVersion, Program};

const FILE: &str = "podman.json";

#[derive(Serialize, Deserialize)]
struct Known {
    program: Program,
    version: PodmanVersion,
}

impl View {
    /// What this very file said. A damaged note counts as none.
    #[must_use]
    pub fn podman(&self, program: &Program) -> Option<PodmanVersion> {
        let known: Option<Known> = read_json(&self.file(FILE)).unwrap_or_else(|e| {
            log::warn!("{e}: counts as none");
            None
        });
        known.filter(|k| k.program == *program).map(|k| k.version)
    }
}

impl Store {
    /// Remembers it in place of another's.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_podman(&self, program: Program, version: PodmanVersion) -> Result<()> {
        write_json(&self.view().file(FILE), &Known { program, version })
    }
}
