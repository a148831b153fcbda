//! What an endpoint sent and received, `nk_passed`, and what was dropped, `nk_dropped`.

use super::super::skel::types;
use super::{Maps, NO_ENDPOINT};
use crate::error::{Context, Result};
use crate::types::direction::Direction;
use crate::types::drop::{DropReason, reason};
use crate::types::id::EndpointId;

/// Packets of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Frames as the device sees them: GSO ones count once.
    pub packets: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Flows opened.
    pub flows: u64,
}

/// Counters of one endpoint, over all CPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// By [`Direction`].
    pub traffic: [Traffic; 2],
    /// What was dropped, where the count is not zero.
    pub drops: Vec<(Direction, &'static DropReason, u64)>,
}

impl Maps {
    /// Counters of an endpoint, or of what belongs to none; `None` if they are not kept.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn counters(&self, id: Option<EndpointId>) -> Result<Option<Counters>> {
        let key = id.map_or(NO_ENDPOINT, |id| id.0);
        let Some(dropped) = self.dropped.lookup_cpus(&key).context("read nk_dropped")? else {
            return Ok(None);
        };
        // What belongs to no endpoint never passes.
        let passed = match id {
            Some(_) => self.passed.lookup_cpus(&key).context("read nk_passed")?,
            None => None,
        };
        Ok(Some(sum(&passed.unwrap_or_default(), &dropped)))
    }

    pub(super) fn zero_counters(&self, id: u32) -> Result<()> {
        self.passed.zero_cpus(&id).context("write nk_passed")?;
        self.dropped.zero_cpus(&id).context("write nk_dropped")
    }
}

/// Adds up the CPUs' counters.
pub(super) fn sum(passed: &[types::nk_passed], dropped: &[types::nk_dropped]) -> Counters {
    let mut total = Counters::default();
    for direction in Direction::ALL {
        let at = direction as usize;
        let traffic = &mut total.traffic[at];
        for cpu in passed {
            traffic.packets += cpu.traffic[at].packets;
            traffic.bytes += cpu.traffic[at].bytes;
            traffic.flows += cpu.traffic[at].flows;
        }
        for code in 1..types::nk_drop::NK_DROPS.0 {
            let count: u64 = dropped
                .iter()
                .map(|c| c.drops[at].packets[code as usize])
                .sum();
            if let (Some(reason), 1..) = (reason(code), count) {
                total.drops.push((direction, reason, count));
            }
        }
    }
    total
}
