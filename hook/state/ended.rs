//! What was refused to endpoints that have ended, for `denied`: a job of a minute is over before
//! anybody asks. One file each, of the newest only; gone with the boot.

use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::names::list;
use super::store::{Store, View, private_dir, read_json, remove_file, write_json};
use crate::error::{Context, ErrorList, Result};
use crate::types::denied::Denied;
use crate::types::mode::Mode;
use crate::types::record::EndpointRecord;

const DIR: &str = "ended";

/// How many are kept.
pub const KEPT: usize = 32;

/// An endpoint as far as its refusals are to be understood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Its name.
    pub name: String,
    /// Ids of its containers.
    pub containers: Vec<String>,
    /// Whether the rules decided.
    pub mode: Mode,
    /// Texts of the rules that were in effect last.
    pub egress: Vec<String>,
    /// As `egress`.
    pub ingress: Vec<String>,
    /// In the order in which it was first refused; never empty.
    pub denied: Vec<Denied>,
}

impl Ended {
    /// Of an endpoint that is about to be taken down.
    #[must_use]
    pub fn new(record: &EndpointRecord, denied: Vec<Denied>) -> Self {
        let ids = record.members.iter().map(|m| m.container_id.to_string());
        Self {
            name: record.name.clone(),
            containers: ids.collect(),
            mode: record.mode,
            egress: record.egress.clone(),
            ingress: record.ingress.clone(),
            denied,
        }
    }
}

impl View {
    /// Those on record, the newest first. A damaged file is none.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn ended(&self) -> Result<Vec<Ended>> {
        let paths = self.ended_newest_first()?;
        let read = |path: &PathBuf| {
            read_json(path).unwrap_or_else(|e| {
                log::warn!("{e}: counts as none");
                None
            })
        };
        Ok(paths.iter().filter_map(read).collect())
    }

    fn ended_newest_first(&self) -> Result<Vec<PathBuf>> {
        let mut dated = Vec::new();
        for path in list(&self.file(DIR), "json")? {
            // Removed by another process meanwhile.
            let Ok(meta) = fs::metadata(&path) else {
                continue;
            };
            let written: SystemTime = meta
                .modified()
                .with_context(|| format!("look at {}", path.display()))?;
            dated.push((written, path));
        }
        dated.sort();
        Ok(dated.into_iter().rev().map(|(_, path)| path).collect())
    }
}

impl Store {
    /// Writes one down; the oldest beyond [`KEPT`] are forgotten.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn remember_ended(&self, record: &EndpointRecord, ended: &Ended) -> Result<()> {
        let dir = self.view().file(DIR);
        private_dir(&dir)?;
        write_json(&dir.join(record.cookie.file_name() + ".json"), ended)?;
        let mut errors = ErrorList::new();
        for path in self.view().ended_newest_first()?.iter().skip(KEPT) {
            errors.keep(remove_file(path));
        }
        errors.into_result(())
    }
}

#[cfg(test)]
mod tests;
