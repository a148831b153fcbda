//! An endpoint's share of the host's ports, and the table that leads back to its masqueraded flows:
//! `nk_ports` and `nk_nats`.

use libbpf_sys as raw;

use super::super::skel::types;
use super::super::sys::Map;
use super::Maps;
use crate::error::{Context, Result};
use crate::plan::step::NatSpec;
use crate::types::port::PortShare;

const CHUNK: u32 = types::nk_limits::NK_NAT_CHUNK.0;

impl Maps {
    /// The ports last: from then on packets to them are looked at.
    pub(super) fn fill_nat(&self, id: u32, nat: NatSpec) -> Result<()> {
        let table = Map::<types::nk_flow_key, types::nk_nat>::create(
            "nk_nat",
            raw::BPF_MAP_TYPE_LRU_HASH,
            nat.flows.max(1),
            0,
        )?;
        self.nats
            .update(&id, &table.as_value())
            .context("write nk_nats")?;
        for chunk in chunks(nat.share) {
            self.ports
                .update(&chunk, &(id + 1))
                .context("write nk_ports")?;
        }
        Ok(())
    }

    /// Gives back the ports that the endpoint's entry names and that are still its own.
    pub(super) fn clear_ports(&self, id: u32) -> Result<()> {
        let endpoint = self.endpoints.lookup(&id).context("read nk_endpoints")?;
        let endpoint = endpoint.unwrap_or_default();
        let share = PortShare {
            first: endpoint.nat_port,
            count: endpoint.nat_ports,
        };
        for chunk in chunks(share) {
            if self.ports.lookup(&chunk).context("read nk_ports")? == Some(id + 1) {
                self.ports.update(&chunk, &0).context("clear nk_ports")?;
            }
        }
        Ok(())
    }
}

/// Indexes into `nk_ports`.
fn chunks(share: PortShare) -> std::ops::Range<u32> {
    let (first, count) = (u32::from(share.first), u32::from(share.count));
    first / CHUNK..(first + count).div_ceil(CHUNK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_its_chunks_and_none_has_none() {
        for (first, count, expected) in [
            (16384, 512, 512..528),
            (65504, 32, 2047..2048),
            (0, 0, 0..0),
        ] {
            assert_eq!(chunks(PortShare { first, count }), expected);
        }
        assert_eq!(u32::from(crate::types::port::CHUNK), CHUNK);
    }
}
