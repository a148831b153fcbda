//! `monitor`: refusals as they happen, of one endpoint or of all.
//!
//! The programs only keep their record; this looks at it several times a second and prints what has
//! been added, so that nothing has to run for the record and nothing is slower while nobody looks.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use serde::Serialize;

use super::args::Output;
use super::denied::Row;
use super::endpoint;
use crate::error::{Error, Kind, Result};
use crate::inspect::{self, EndpointView};
use crate::roles::environment::Environment;
use crate::roles::io::Io;
use crate::types::denied::Denied;
use crate::types::id::NetnsCookie;

const INTERVAL: Duration = Duration::from_millis(200);

/// One line of `--json`.
#[derive(Serialize)]
struct Event<'e> {
    name: &'e str,
    /// Packets, or flows, since the last line about the same.
    added: u64,
    #[serde(flatten)]
    row: Row,
}

/// A refusal apart from how often and when.
type What = (String, u8, u8, u16, u32, bool);

fn what(d: &Denied) -> What {
    // A name tells refusals apart only where there is no address, whose name may become known later.
    let place = match (d.remote, &d.name) {
        (Some(remote), _) => remote.to_string(),
        (None, name) => name.clone().unwrap_or_default(),
    };
    let direction = d.direction as u8;
    (place, direction, d.protocol, d.port, d.reason, d.passed)
}

/// Prints until nobody reads any more, or the endpoint has ended.
pub(super) fn run(
    io: &mut Io<'_>,
    environment: &Environment,
    id: Option<&str>,
    output: Output,
) -> Result<()> {
    // Counts as of the last look, by endpoint; what was refused before is `denied`'s.
    let mut seen: HashMap<NetnsCookie, HashMap<What, u64>> = HashMap::new();
    let one = id.map(|id| endpoint::find(environment, id)).transpose()?;
    let cookie = one.map(|view| view.record.cookie);
    let mut is_first = true;
    loop {
        let mut views = endpoint::all(environment)?;
        views.retain(|v| cookie.is_none_or(|c| v.record.cookie == c));
        if cookie.is_some() && views.is_empty() {
            return Ok(());
        }
        seen.retain(|c, _| views.iter().any(|v| v.record.cookie == *c));
        for view in &views {
            // Between a start and its record there is nothing to tell; the next look has it.
            let denied = inspect::denied(&environment.paths, view.record.id)?;
            // One that came since the first look is told from its beginning.
            let before = seen.entry(view.record.cookie).or_default();
            for event in added(view, &denied, before) {
                if !is_first && !io.reaches_reader(&text(&event, output)?)? {
                    return Ok(());
                }
            }
        }
        is_first = false;
        thread::sleep(INTERVAL);
    }
}

/// What has been added since, which `before` then holds.
fn added<'v>(
    view: &'v EndpointView,
    denied: &[Denied],
    before: &mut HashMap<What, u64>,
) -> Vec<Event<'v>> {
    let mut events = Vec::new();
    for one in denied {
        let known = before.insert(what(one), one.count).unwrap_or(0);
        // A record that made room and came again counts from 1.
        let added = one.count.checked_sub(known).unwrap_or(one.count);
        if added > 0 {
            events.push(Event {
                name: &view.record.name,
                added,
                row: Row::from(one),
            });
        }
    }
    before.retain(|known, _| denied.iter().any(|d| what(d) == *known));
    events
}

fn text(event: &Event<'_>, output: Output) -> Result<String> {
    if output.json {
        let line = serde_json::to_string(event);
        return line
            .map(|l| l + "\n")
            .map_err(|e| Error::new(Kind::Internal, format!("write json: {e}")));
    }
    let row = &event.row;
    let remote = match row.place() {
        place if place.is_empty() => "-".to_owned(),
        place => place,
    };
    let port = row.port.map_or_else(String::new, |p| format!(" {p}"));
    let name = event.name.get(..12).unwrap_or(event.name);
    Ok(format!(
        "{}  {name}  {} {} {remote}{port}  {} as {} (+{})\n",
        row.last,
        row.direction,
        row.protocol,
        row.fate(),
        row.reason,
        event.added
    ))
}

#[cfg(test)]
mod tests;
