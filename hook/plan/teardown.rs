//! What to take away after a container ended, and what a crash left behind. Pure: whether a
//! process is dead is asked of the caller.

use super::step::Undo;
use crate::types::id::{ContainerId, NetnsCookie};
use crate::types::record::{EndpointRecord, Member};

/// What is to be taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Teardown {
    /// Members to strike from the record of an endpoint that stays.
    pub leave: Vec<(NetnsCookie, Member)>,
    /// Endpoints to take down: run the undos in this order, then remove the record.
    pub remove: Vec<(NetnsCookie, Vec<Undo>)>,
    /// Records of another boot: remove the file; what they speak of is gone. Cookies are unique
    /// per boot only, hence the boot id.
    pub forget: Vec<(String, NetnsCookie)>,
    /// Pin directories without a record.
    pub unpin: Vec<NetnsCookie>,
}

/// What poststop of a container takes away: it has no pid, so only members whose process is dead.
/// Also reaps other dead endpoints that are met.
pub fn poststop(
    container: &ContainerId,
    records: &[EndpointRecord],
    boot_id: &str,
    is_dead: &dyn Fn(&Member) -> bool,
) -> Teardown {
    let _ = (container, records, boot_id, is_dead);
    Teardown::default()
}

/// What `gc`, and every create, takes away: dead members everywhere, endpoints without a member,
/// records of another boot, and pin directories (by cookie) without a record of this boot.
pub fn gc(
    records: &[EndpointRecord],
    pins: &[NetnsCookie],
    boot_id: &str,
    is_dead: &dyn Fn(&Member) -> bool,
) -> Teardown {
    let _ = (records, pins, boot_id, is_dead);
    Teardown::default()
}

/// How to take a whole endpoint down, newest first. Every undo is safe if its step never ran.
#[must_use]
pub fn undo_all(record: &EndpointRecord) -> Vec<Undo> {
    let _ = record;
    Vec::new()
}
