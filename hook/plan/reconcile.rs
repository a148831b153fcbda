//! What running endpoints need of the uplinks after the host's devices or the config changed: that
//! they have the program, and that they answer for addresses of their networks. Pure.

use super::lan;
use super::link;
use super::step::{LanSpec, Uplink};
use crate::config::Config;
use crate::error::{Kind, Result};
use crate::facts::HostFacts;
use crate::types::reach::LanAddress;
use crate::types::record::{EndpointRecord, Phase};

/// What to do about uplinks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uplinks {
    /// Need the program; the first one takes multicast.
    pub attach: Vec<Uplink>,
    /// Indexes of those to give up.
    pub detach: Vec<u32>,
    /// What is odd, but not wrong.
    pub warnings: Vec<String>,
}

impl Uplinks {
    /// Gives up the devices that are gone, and no more: for when the config does not say what else.
    #[must_use]
    pub fn gone(host: &HostFacts, attached: &[u32]) -> Self {
        let exists = |ifindex: u32| host.links.iter().any(|l| l.ifindex == ifindex);
        Self {
            detach: attached.iter().copied().filter(|i| !exists(*i)).collect(),
            ..Self::default()
        }
    }

    /// Decides by what the host has now; `attached` are the indexes that have the program.
    ///
    /// A device that is gone is given up, and one that the config's own list does not name.
    /// Without a list a device keeps the program as long as it lives: a default route often goes
    /// for a moment only, and without the program nothing keeps strangers from using the
    /// containers' addresses. A host without any uplink is no fault here: containers run on, and
    /// wait.
    ///
    /// # Errors
    /// [`Kind::Config`] for a list that names what is no uplink; [`Uplinks::gone`] is right then.
    pub fn now(config: &Config, host: &HostFacts, attached: &[u32]) -> Result<Self> {
        let mut uplinks = Self::gone(host, attached);
        match link::uplinks(config, host) {
            Ok(found) => {
                uplinks.attach = found.specs();
                if config.uplinks.is_some() {
                    let dropped = attached.iter().copied().filter(|i| !found.has(*i));
                    uplinks.detach = dropped.collect();
                }
                uplinks.warnings = found.warnings;
            }
            Err(e) if e.kind() == Kind::Unsupported => uplinks.warnings.push(e.to_string()),
            Err(e) => return Err(e),
        }
        Ok(uplinks)
    }
}

/// An endpoint with addresses that its uplinks' neighbours ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LanEndpoint {
    /// As it is on record.
    pub record: EndpointRecord,
    /// On which uplink each address is asked for now.
    pub lan: Vec<LanAddress>,
    /// The same, by uplink.
    pub specs: Vec<LanSpec>,
}

impl LanEndpoint {
    /// Another uplink than the one on record, such as one that was made anew.
    #[must_use]
    pub fn has_moved(&self) -> bool {
        self.record.lan != self.lan
    }

    /// All that stand. An address that is in no network of an uplink now keeps its place: the host
    /// may be about to renew its own.
    #[must_use]
    pub fn all(config: &Config, host: &HostFacts, records: &[EndpointRecord]) -> Vec<Self> {
        let Ok(uplinks) = link::uplinks(config, host) else {
            return Vec::new();
        };
        let now = |record: &EndpointRecord| {
            let found = |old: &LanAddress| LanAddress {
                ifindex: lan::network(host, &uplinks, old.address)
                    .map_or(old.ifindex, |n| n.link.ifindex),
                ..*old
            };
            let lan: Vec<LanAddress> = record.lan.iter().map(found).collect();
            let specs = lan::specs(&uplinks.specs(), &lan);
            Self {
                record: record.clone(),
                lan,
                specs,
            }
        };
        let stands = |r: &&EndpointRecord| r.phase == Phase::Active && !r.lan.is_empty();
        records.iter().filter(stands).map(now).collect()
    }
}

#[cfg(test)]
mod tests;
