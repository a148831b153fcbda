//! The record of what an endpoint's programs refused: `nk_denied`.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use libbpf_sys as raw;
use nix::time::{ClockId, clock_gettime};

use super::super::skel::types;
use super::super::sys::Map;
use super::{Maps, checked};
use crate::error::{Context, Result};
use crate::types::denied::Denied;
use crate::types::direction::Direction;
use crate::types::id::EndpointId;

type Table = Map<types::nk_denied_key, types::nk_denied>;

impl Maps {
    pub(super) fn fill_denied(&self, id: u32, elements: u32) -> Result<()> {
        let make = || Table::create("nk_denied", raw::BPF_MAP_TYPE_LRU_HASH, elements.max(1), 0);
        let tables = [make()?, make()?];
        let values = tables.each_ref().map(Map::as_value);
        self.denied
            .update_many(&[2 * id, 2 * id + 1], &values)
            .context("write nk_denied")
    }

    /// What is on record of an endpoint, in the order in which it was first refused.
    ///
    /// # Errors
    /// When the maps or the clock cannot be read.
    pub fn denied(&self, id: EndpointId) -> Result<Vec<Denied>> {
        let id = checked(id)?;
        let boot = booted()?;
        let mut list = Vec::new();
        for direction in Direction::ALL {
            let key = 2 * id + u32::from(direction as u8);
            let Some(table) = Table::open_inner(&self.denied, key)? else {
                continue;
            };
            let mut met = HashSet::new();
            for key in table.keys().context("read nk_denied")? {
                let decoded = decode(direction, &key);
                if !met.insert((
                    decoded.remote,
                    key.port,
                    key.protocol,
                    key.reason,
                    key.passed,
                )) {
                    continue;
                }
                // Gone since, to make room for another.
                let Some(value) = table.lookup(&key).context("read nk_denied")? else {
                    continue;
                };
                list.push(Denied {
                    count: value.count,
                    first_ms: milliseconds(boot, value.first),
                    last_ms: milliseconds(boot, value.last),
                    ..decoded
                });
            }
        }
        self.name(id, &mut list)?;
        for (name, value) in self.refused_names(id)? {
            list.push(Denied {
                name: Some(name),
                passed: value.passed != 0,
                count: value.count,
                first_ms: milliseconds(boot, value.first),
                last_ms: milliseconds(boot, value.last),
                ..NAME
            });
        }
        list.sort_by_key(|d| (d.first_ms, d.direction, d.remote, d.port));
        Ok(list)
    }

    /// Gives addresses the names that they were learned by. What only counts refused names is told by
    /// the names themselves.
    fn name(&self, id: u32, list: &mut Vec<Denied>) -> Result<()> {
        list.retain(|d| d.reason != NAME.reason);
        if list.is_empty() {
            return Ok(());
        }
        let learned = self.learned(EndpointId(id))?;
        for one in list.iter_mut().filter(|d| d.direction == Direction::Egress) {
            let known = learned.iter().find(|l| Some(l.address) == one.remote);
            let name = known.and_then(|l| l.names.first());
            one.name = name.map(|n| n.name.clone());
        }
        Ok(())
    }
}

/// A query for a name, without which name, how often and when.
const NAME: Denied = Denied {
    direction: Direction::Egress,
    remote: None,
    name: None,
    protocol: 0,
    port: 0,
    reason: types::nk_drop::NK_DROP_DNS_NAME.0,
    passed: false,
    count: 0,
    first_ms: 0,
    last_ms: 0,
};

/// What was refused, without how often and when.
fn decode(direction: Direction, key: &types::nk_denied_key) -> Denied {
    let remote = Ipv6Addr::from(key.remote);
    let is_known = key.protocol != 0 || !remote.is_unspecified();
    Denied {
        direction,
        remote: is_known.then(|| IpAddr::V6(remote).to_canonical()),
        name: None,
        protocol: key.protocol,
        port: u16::from_be(key.port),
        reason: key.reason.into(),
        passed: key.passed != 0,
        count: 0,
        first_ms: 0,
        last_ms: 0,
    }
}

/// When `CLOCK_BOOTTIME` was 0, by the clock as it is set now.
fn booted() -> Result<SystemTime> {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).context("read CLOCK_BOOTTIME")?;
    Ok(SystemTime::now() - Duration::from(now))
}

fn milliseconds(boot: SystemTime, ns: u64) -> u64 {
    let since = (boot + Duration::from_nanos(ns)).duration_since(UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_that_was_not_understood_has_no_remote_side() {
        let mut key = types::nk_denied_key {
            reason: 1,
            ..Default::default()
        };
        assert_eq!(decode(Direction::Ingress, &key).remote, None);
        key.remote = crate::types::addr::mapped("192.0.2.7".parse().unwrap());
        key.protocol = 6;
        key.port = 443u16.to_be();
        let denied = decode(Direction::Egress, &key);
        assert_eq!(denied.remote, "192.0.2.7".parse().ok());
        assert_eq!((denied.protocol, denied.port), (6, 443));
    }

    #[test]
    fn times_are_counted_from_the_boot() {
        let boot = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        assert_eq!(milliseconds(boot, 2_500_000_000), 1_700_000_002_500);
    }
}
