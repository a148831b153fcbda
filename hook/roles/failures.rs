//! The record of the last failures, printed by `errors`: crun hides what a hook writes and `--rm`
//! hides the id, so this is where a person finds out. Translates an [`Error`] into an entry.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};
use crate::state::Paths;
use crate::state::lock::Deadline;
use crate::state::store::{Failure, Store};

/// A failure must not make the failing start wait for long.
const PATIENCE: Duration = Duration::from_secs(1);

/// Writes the failure down; if even that fails, only the log knows.
pub fn remember(paths: &Paths, command: &str, container_id: Option<&str>, error: &Error) {
    let failure = Failure {
        time: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_secs()),
        container_id: container_id.map(str::to_owned),
        command: command.to_owned(),
        kind: format!("{:?}", error.kind()),
        exit_code: error.kind().exit_code(),
        text: error.report(),
    };
    let written: Result<()> =
        Store::open(paths).and_then(|s| s.remember(failure, &Deadline::after(PATIENCE)));
    if let Err(e) = written {
        log::warn!("the failure is not recorded: {e}");
    }
}
