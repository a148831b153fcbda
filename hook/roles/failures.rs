//! The record of the last failures, printed by `errors`: crun hides what a hook writes and `--rm`
//! hides the id, so this is where a person finds out. Translates an [`Error`] into an entry.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::Error;
use crate::state::store::{Failure, Store};

/// Seconds since 1970.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Writes the failure down; if even that fails, only the log knows.
pub fn remember(store: &Store, command: &str, container_id: Option<&str>, error: &Error) {
    let failure = Failure {
        time: now(),
        command: command.to_owned(),
        container_id: container_id.map(str::to_owned),
        exit_code: error.kind().exit_code(),
        error: error.to_string(),
        hint: error.hint().map(str::to_owned),
    };
    if let Err(e) = store.add_failure(&failure) {
        log::warn!("the failure is not recorded: {e}");
    }
}
