//! The tables that are an endpoint's own, and what they take of the kernel's memory.

use std::os::fd::AsFd;

use super::super::sys::{self, Map};
use super::{Maps, checked};
use crate::error::{Context, Result};
use crate::types::id::EndpointId;

/// Outer map by name, and the key of an endpoint's table in it.
pub(super) type Table<'a> = (&'static str, &'a Map<u32, u32>, u32);

impl Maps {
    /// All that an endpoint may have; it need not have each.
    pub(super) fn tables(&self, id: u32) -> [Table<'_>; 13] {
        let (first, second) = (2 * id, 2 * id + 1);
        [
            ("nk_flows", &self.flows, first),
            ("nk_flows", &self.flows, second),
            ("nk_rules", &self.rules, first),
            ("nk_rules", &self.rules, second),
            ("nk_denied", &self.denied, first),
            ("nk_denied", &self.denied, second),
            ("nk_names", &self.names, first),
            ("nk_names", &self.names, second),
            ("nk_queries", &self.queries, id),
            ("nk_resolved", &self.resolved, id),
            ("nk_learned", &self.learned, id),
            ("nk_refused", &self.refused, id),
            ("nk_nats", &self.nats, id),
        ]
    }

    /// Bytes of the kernel's memory that an endpoint's tables take, as the kernel counts them:
    /// all that grows with the limits of the config and with the rules.
    ///
    /// # Errors
    /// When a map cannot be looked at.
    pub fn memory_bytes(&self, id: EndpointId) -> Result<u64> {
        let mut sum = 0;
        for (name, outer, key) in self.tables(checked(id)?) {
            let what = || format!("look into {name}");
            let Some(id) = outer.lookup(&key).with_context(what)? else {
                continue;
            };
            if let Some(table) = sys::map_by_id(id).with_context(what)? {
                sum += sys::memory_bytes(table.as_fd())?;
            }
        }
        Ok(sum)
    }
}
