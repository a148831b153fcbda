//! Which uplinks running endpoints need after the host's devices or the config changed. Pure.

use super::link;
use super::step::Uplink;
use crate::config::Config;
use crate::error::{Kind, Result};
use crate::facts::HostFacts;

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

#[cfg(test)]
mod tests;
