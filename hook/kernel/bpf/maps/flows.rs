//! An endpoint's tables of flows, one for each side that opens them: `nk_flows`.

use libbpf_sys as raw;

use super::super::skel::types;
use super::super::sys::Map;
use super::{Maps, checked};
use crate::error::{Context, Result};
use crate::types::id::EndpointId;

type FlowTable = Map<types::nk_flow_key, types::nk_flow>;

/// LRU, so that a full one costs the oldest flow.
fn flow_table(elements: u32) -> Result<FlowTable> {
    let kind = raw::BPF_MAP_TYPE_LRU_HASH;
    FlowTable::create("nk_flow", kind, elements.max(1), 0)
}

impl Maps {
    pub(super) fn fill_flows(&self, id: u32, out: u32, inbound: Option<u32>) -> Result<()> {
        let out = (2 * id, flow_table(out)?);
        let inbound = inbound.map(flow_table).transpose()?;
        let tables = [Some(out), inbound.map(|table| (2 * id + 1, table))];
        let (keys, tables): (Vec<u32>, Vec<FlowTable>) = tables.into_iter().flatten().unzip();
        let values: Vec<u32> = tables.iter().map(Map::as_value).collect();
        self.flows
            .update_many(&keys, &values)
            .context("write nk_flows")
    }

    /// Gives an endpoint the table of inbound flows, unless it has one: what was open stays over a
    /// change of rules.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn ensure_inbound_flows(&self, id: EndpointId, elements: u32) -> Result<()> {
        let key = 2 * checked(id)? + 1;
        let flows = &self.flows;
        if flows.lookup(&key).context("read nk_flows")?.is_some() {
            return Ok(());
        }
        let table = flow_table(elements)?;
        let written = flows.update(&key, &table.as_value());
        written.context("write nk_flows")
    }
}
