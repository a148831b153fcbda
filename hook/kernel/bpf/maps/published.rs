//! Ports of the host that are an endpoint's: `nk_published`, and the bits by which from_wire knows
//! at once that a port is none of them.
//!
//! A word of bits belongs to many endpoints, so callers hold the generation lock.

use std::net::IpAddr;

use super::super::skel::types;
use super::{Maps, checked};
use crate::error::{Context, Error, Kind, Result};
use crate::plan::step::PortSpec;
use crate::types::addr::mapped;
use crate::types::id::EndpointId;

const WORD: u16 = 32;

impl Maps {
    /// Makes ports of the host an endpoint's.
    ///
    /// # Errors
    /// [`Kind::Conflict`] when another endpoint has one of them.
    pub fn publish_ports(&self, id: EndpointId, ports: &[PortSpec]) -> Result<()> {
        let endpoint_id = checked(id)?;
        for port in ports {
            let key = encode_key(port);
            let there = self.published.lookup(&key).context("read nk_published")?;
            if there.is_some_and(|p| p.endpoint_id != endpoint_id) {
                let text = format!("{port} belongs to another endpoint");
                return Err(Error::new(Kind::Conflict, text));
            }
            let value = types::nk_published {
                endpoint_id,
                port: port.port.to_be(),
                local_index: port.local_index,
                ..Default::default()
            };
            self.published
                .update(&key, &value)
                .context("write nk_published")?;
            self.edit_bits(port.host_port, |word, bit| word | bit)
                .context("write nk_published_bits")?;
        }
        Ok(())
    }

    /// Makes these the addresses by which the host's own processes may mean a port that is published
    /// at any; loopback is known anyway.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_host_addresses(&self, addresses: &[IpAddr]) -> Result<()> {
        let mut wanted: Vec<_> = addresses.iter().map(|a| mapped(*a)).collect();
        for key in self.host_addrs.keys().context("read nk_host_addrs")? {
            if wanted.contains(&key.addr) {
                wanted.retain(|w| *w != key.addr);
            } else {
                let gone = self.host_addrs.delete(&key);
                gone.context("clear nk_host_addrs")?;
            }
        }
        for addr in wanted {
            let new = self.host_addrs.update(&types::nk_addr_key { addr }, &1);
            new.context("write nk_host_addrs")?;
        }
        Ok(())
    }

    /// Gives all ports of an endpoint back; whether any is published still.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn retract_ports(&self, id: EndpointId) -> Result<bool> {
        let endpoint_id = checked(id)?;
        let (mut gone, mut kept) = (Vec::new(), Vec::new());
        for key in self.published.keys().context("read nk_published")? {
            let port = u16::from_be(key.port);
            let found = self.published.lookup(&key).context("read nk_published")?;
            if found.is_some_and(|p| p.endpoint_id == endpoint_id) {
                self.published.delete(&key).context("clear nk_published")?;
                gone.push(port);
            } else {
                kept.push(port);
            }
        }
        let is_any_left = !kept.is_empty();
        for port in gone.into_iter().filter(|p| !kept.contains(p)) {
            self.edit_bits(port, |word, bit| word & !bit)
                .context("clear nk_published_bits")?;
        }
        Ok(is_any_left)
    }

    fn edit_bits(&self, port: u16, edit: fn(u32, u32) -> u32) -> super::Answer<()> {
        let key = u32::from(port / WORD);
        let word = self.published_bits.lookup(&key)?.unwrap_or_default();
        let edited = edit(word, 1 << (port % WORD));
        self.published_bits.update(&key, &edited)
    }
}

fn encode_key(port: &PortSpec) -> types::nk_published_key {
    types::nk_published_key {
        addr: mapped(port.host),
        port: port.host_port.to_be(),
        protocol: port.protocol.number(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::publish::Transport;

    #[test]
    fn keys_are_what_the_programs_look_up() {
        let of = |host: &str| {
            encode_key(&PortSpec {
                host: host.parse().unwrap(),
                host_port: 0x1234,
                protocol: Transport::Udp,
                port: 1,
                local_index: 0,
            })
        };
        let any4 = of("0.0.0.0");
        assert_eq!(any4.addr[10..], [0xff, 0xff, 0, 0, 0, 0]);
        assert_eq!(of("::").addr, [0; 16]);
        assert_eq!(any4.port.to_ne_bytes(), [0x12, 0x34]);
        assert_eq!(any4.protocol, 17);
        assert_eq!(u32::from(WORD), types::nk_limits::NK_NAT_CHUNK.0);
    }
}
