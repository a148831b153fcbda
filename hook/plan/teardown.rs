//! What to take away after a container ended, and what a crash left behind. Pure: whether a
//! process is dead is asked of the caller.

use std::collections::HashSet;

use ipnet::IpNet;

use super::step::Undo;
use crate::types::id::{ContainerId, NetnsCookie};
use crate::types::record::{EndpointRecord, Member};

#[cfg(test)]
mod tests;

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
    /// Records that cannot be read and that nothing in the kernel belongs to: of an earlier boot.
    pub damaged: Vec<NetnsCookie>,
}

/// What poststop of a container takes away. It has no pid, so only members whose process is dead
/// go: a restart builds the new namespace before the old one's poststop.
pub fn poststop(
    container: &ContainerId,
    records: &[EndpointRecord],
    boot_id: &str,
    is_dead: &dyn Fn(&Member) -> bool,
) -> Teardown {
    let goes = |m: &Member| m.container_id == *container && is_dead(m);
    let mut teardown = Teardown::default();
    records
        .iter()
        .filter(|r| r.boot_id == boot_id)
        .for_each(|r| teardown.strike(r, &goes));
    teardown
}

/// What `gc`, and every create, takes away: dead members everywhere, endpoints without a member,
/// records of another boot, and pin directories (by cookie) without a record of this boot.
/// `damaged` are the records that cannot be read: one that has pins may well be running, so both
/// stay.
///
/// A record in phase creating is judged by its member as well: when the hook died, so does the
/// container it held up.
pub fn gc(
    records: &[EndpointRecord],
    damaged: &[NetnsCookie],
    pins: &[NetnsCookie],
    boot_id: &str,
    is_dead: &dyn Fn(&Member) -> bool,
) -> Teardown {
    let mut teardown = Teardown::default();
    for record in records {
        if record.boot_id == boot_id {
            teardown.strike(record, is_dead);
        } else {
            // Its devices, maps and pins went with that boot.
            teardown
                .forget
                .push((record.boot_id.clone(), record.cookie));
        }
    }
    let of_this_boot = records.iter().filter(|r| r.boot_id == boot_id);
    let known: HashSet<NetnsCookie> = of_this_boot
        .map(|r| r.cookie)
        .chain(damaged.iter().copied())
        .collect();
    teardown.unpin = pins
        .iter()
        .copied()
        .filter(|c| !known.contains(c))
        .collect();
    let stands = |c: &NetnsCookie| pins.contains(c);
    teardown.damaged = damaged.iter().copied().filter(|c| !stands(c)).collect();
    teardown
}

impl Teardown {
    /// True if there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Strikes the members that go; without a member the endpoint goes.
    fn strike(&mut self, record: &EndpointRecord, goes: &dyn Fn(&Member) -> bool) {
        let (gone, stay): (Vec<&Member>, Vec<&Member>) =
            record.members.iter().partition(|m| goes(m));
        if gone.is_empty() && !record.members.is_empty() {
            return;
        }
        if stay.is_empty() {
            self.remove.push((record.cookie, undo_all(record)));
        } else {
            self.leave
                .extend(gone.into_iter().map(|m| (record.cookie, m.clone())));
        }
    }
}

/// How to take a whole endpoint down, newest first. Every undo is safe if its step never ran.
#[must_use]
pub fn undo_all(record: &EndpointRecord) -> Vec<Undo> {
    let mut undos = vec![Undo::RetractAddresses {
        id: record.id,
        addresses: record.addresses.iter().map(IpNet::addr).collect(),
    }];
    if !record.publish.is_empty() {
        undos.push(Undo::RetractPorts { id: record.id });
    }
    if record.lan.iter().any(|l| l.address.is_ipv6()) {
        undos.push(Undo::RemoveProxies {
            lan: record.lan.clone(),
        });
    }
    undos.extend([
        Undo::DetachPrograms {
            cookie: record.cookie,
        },
        Undo::ClearMaps { id: record.id },
        Undo::DeletePair {
            primary: record.primary.clone(),
        },
    ]);
    if record.nat.is_some() {
        undos.push(Undo::ReleasePorts);
    }
    undos.extend([Undo::ReleaseUplinks, Undo::ReleaseGeneration]);
    undos
}
