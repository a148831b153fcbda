//! The administrator's config: TOML text → validated [`Config`], all faults at once with their
//! lines. Pure; the role reads the file. Without a file, [`Config::default`] is in effect.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::error::Result;
use crate::plan::rules::RuleSet;
use crate::types::direction::Direction;
use crate::types::name::IfName;
use crate::types::port::PortRange;
use crate::types::reach::Reach;

mod read;
#[cfg(test)]
mod tests;

/// Where it is, unless `--config` says otherwise.
pub const PATH: &str = "/etc/oci-netkit/config.toml";

/// Addresses to lease from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// All of them; host bits zero.
    pub prefix: IpNet,
    /// How they are reached.
    pub reach: Reach,
}

/// A named set of rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Where the container may connect to.
    pub egress: RuleSet,
    /// Who may connect to the container.
    pub ingress: RuleSet,
}

impl Profile {
    /// The rules of one direction.
    #[must_use]
    pub fn rules(&self, direction: Direction) -> &RuleSet {
        match direction {
            Direction::Egress => &self.egress,
            Direction::Ingress => &self.ingress,
        }
    }
}

/// What annotations may ask for at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ceiling {
    /// Rules that theirs must be within; those of profiles too.
    pub rules: Profile,
    /// Ports of the host that they may publish.
    pub publish: Vec<PortRange>,
    /// Addresses that they may name, beside those of the pools.
    pub address: Vec<IpNet>,
}

/// Upper bounds per endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Tracked flows that the container opened.
    pub flows_out: u32,
    /// Tracked flows that were opened towards it.
    pub flows_in: u32,
    /// Rules of both directions together.
    pub rules: u32,
    /// Distinct refusals on record, of each direction.
    pub denied: u32,
    /// Addresses learned by name.
    pub learned: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            flows_out: 2048,
            flows_in: 1024,
            rules: 100_000,
            denied: 256,
            learned: 1024,
        }
    }
}

/// What the administrator decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Interfaces that lead out; `None` = found by looking (see `plan/link.rs`).
    pub uplinks: Option<Vec<IfName>>,
    /// Addresses to lease from, in order of preference.
    pub pools: Vec<Pool>,
    /// Name servers of the containers; `None` = the host's.
    pub resolvers: Option<Vec<IpAddr>>,
    /// Domains that containers search; `None` = the host's.
    pub search: Option<Vec<String>>,
    /// Queries for names that no rule names are answered with NXDOMAIN, else with REFUSED: musl's
    /// resolver does not take the latter for an answer (`__res_msend_rc`).
    pub nxdomain: bool,
    /// Named rules; `default` is in effect where no other is named.
    pub profiles: BTreeMap<String, Profile>,
    /// What annotations may ask for at most; `None` = whatever they like.
    pub ceiling: Option<Ceiling>,
    /// Upper bounds.
    pub limits: Limits,
    /// Ports of the host that containers are masqueraded with.
    pub nat_ports: PortRange,
    /// Containers with `NET_ADMIN` in the host's user namespace are accepted, and guarded.
    pub allow_net_admin: bool,
    /// Containers may ask for mode=audit.
    pub audit_allowed: bool,
    /// What is odd, but not wrong.
    pub warnings: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            uplinks: None,
            pools: Vec::new(),
            resolvers: None,
            search: None,
            nxdomain: true,
            profiles: BTreeMap::new(),
            ceiling: None,
            limits: Limits::default(),
            nat_ports: PortRange::MASQUERADE,
            allow_net_admin: false,
            audit_allowed: false,
            warnings: Vec::new(),
        }
    }
}

impl Config {
    /// Reads the text of the file.
    ///
    /// # Errors
    /// [`crate::error::Kind::Config`] with all faults and their lines.
    pub fn parse(text: &str) -> Result<Self> {
        read::config(text)
    }
}
