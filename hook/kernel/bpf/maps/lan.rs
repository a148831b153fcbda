//! `nk_addrs`' part in reach = lan: on which uplink the neighbours are answered for an address.

use super::{Maps, checked, types};
use crate::error::{Context, Result};
use crate::types::addr::mapped;
use crate::types::id::EndpointId;
use crate::types::reach::LanAddress;

impl Maps {
    /// From here on the uplinks' neighbours are answered for these addresses, as far as they are
    /// published and this endpoint's.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn answer_for(&self, id: EndpointId, lan: &[LanAddress]) -> Result<()> {
        let endpoint_id = checked(id)?;
        for one in lan {
            let key = types::nk_addr_key {
                addr: mapped(one.address),
            };
            let there = self.addrs.lookup(&key).context("read nk_addrs")?;
            if let Some(there) = there.filter(|a| a.endpoint_id == endpoint_id) {
                let value = types::nk_addr {
                    lan_ifindex: one.ifindex,
                    ..there
                };
                // Not back to life, if it was retracted meanwhile.
                self.addrs.replace(&key, &value).context("write nk_addrs")?;
            }
        }
        Ok(())
    }
}
