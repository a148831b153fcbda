//! The container state that an OCI runtime writes to a hook's standard input
//! (runtime-spec, runtime.md, "State"), checked strictly. Pure.
//!
//! oci-spec fills in a missing `status` or `id` with a default, so those are required here first;
//! then its own type has the last word on the rest.

use std::collections::BTreeMap;
use std::fmt;

use oci_spec::runtime::{ContainerState, State};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use crate::error::{Error, Kind, Result};
use crate::request::{PREFIX, Request};
use crate::types::id::ContainerId;

/// When the runtime calls us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// createRuntime, or the deprecated prestart.
    Create,
    /// poststop.
    Poststop,
}

impl Stage {
    /// As on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Poststop => "poststop",
        }
    }

    /// runc says `creating` at createRuntime, crun `created`; podman's own poststop `stopped`.
    fn allows(self, status: ContainerState) -> bool {
        match self {
            Self::Create => {
                matches!(
                    status,
                    ContainerState::Creating | ContainerState::Created | ContainerState::Running
                )
            }
            Self::Poststop => status == ContainerState::Stopped,
        }
    }
}

/// What must stand in the text itself; unknown keys are the runtime's right (crun adds `root`).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(rename = "ociVersion")]
    _oci_version: String,
    id: String,
    #[serde(rename = "status")]
    _status: String,
    #[serde(default)]
    pid: Option<i64>,
    #[serde(default)]
    annotations: Option<Unique>,
}

/// String map in which a key twice is an error: the two halves of a system would read different ones.
struct Unique(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Unique;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }
            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Unique, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, String>()? {
                    if entries.contains_key(&key) {
                        return Err(A::Error::custom(format!("annotation {key:?} stands twice")));
                    }
                    entries.insert(key, value);
                }
                Ok(Unique(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// Turns the bytes into a request.
///
/// # Errors
/// [`Kind::BadInput`]: not one JSON object, a required key missing or twice, an id no runtime
/// makes, a status that does not fit the stage, a pid that is none (create only).
pub fn parse(bytes: &[u8], stage: Stage) -> Result<Request> {
    let raw: Raw = serde_json::from_slice(bytes).map_err(|e| bad(&e.to_string()))?;
    let pid = pid(stage, raw.pid)?;
    let state: State = serde_json::from_slice(bytes).map_err(|e| bad(&e.to_string()))?;
    let container_id = ContainerId::new(&raw.id)?;
    if !stage.allows(*state.status()) {
        // So runc calls the hook while it restores: its network is not ours to build then.
        let hint = if stage == Stage::Create && state.status().to_string() == "stopped" {
            "a checkpoint cannot be restored, since CRIU does not know netkit: start it anew"
        } else {
            "register `hook create` for createRuntime and `hook poststop` for poststop"
        };
        return Err(bad(&format!(
            "status is {:?}, which is not one of the {} stage",
            state.status().to_string(),
            stage.name()
        ))
        .with_hint(hint));
    }
    Ok(Request {
        container_id,
        pid,
        bundle: state.bundle().clone(),
        keys: ours(raw.annotations.map(|a| a.0).unwrap_or_default()),
    })
}

fn bad(text: &str) -> Error {
    Error::new(Kind::BadInput, format!("container state: {text}"))
}

/// poststop's is gone, and crun says 0.
fn pid(stage: Stage, pid: Option<i64>) -> Result<i32> {
    match (stage, pid) {
        (Stage::Poststop, _) => Ok(0),
        (Stage::Create, None) => Err(bad("pid is missing")),
        (Stage::Create, Some(pid)) => i32::try_from(pid)
            .ok()
            .filter(|pid| *pid > 0)
            .ok_or_else(|| bad(&format!("pid is {pid}, which is no process"))),
    }
}

fn ours(annotations: BTreeMap<String, String>) -> BTreeMap<String, String> {
    annotations
        .into_iter()
        .filter_map(|(key, value)| Some((key.strip_prefix(PREFIX)?.to_owned(), value)))
        .collect()
}

#[cfg(test)]
mod tests;
