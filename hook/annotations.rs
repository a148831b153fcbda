//! The annotations of a container: raw strings → validated [`Wishes`], all faults at once. Pure.
//!
//! What the wishes lead to is decided in `plan/`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::error::Result;
use crate::plan::rules::RuleSet;
use crate::types::name::IfName;

/// One item of `address`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressWish {
    /// One of each family that has a pool.
    Auto,
    /// An IPv4 address from a pool.
    Auto4,
    /// An IPv6 address from a pool.
    Auto6,
    /// This one; the prefix length is what stands on the device inside.
    Static {
        /// The address.
        addr: IpAddr,
        /// `None` = a single address.
        prefix_len: Option<u8>,
    },
}

/// The value of `reach`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReachWish {
    /// By the address.
    #[default]
    Auto,
    /// The address is routed to this host, the user vouches for it.
    Routed,
}

/// One item of `routes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteWish {
    /// The default route of each family that has an address.
    Default,
    /// This prefix.
    Net(IpNet),
}

/// What the annotations ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wishes {
    /// Never empty after [`Wishes::parse`].
    pub address: Vec<AddressWish>,
    /// Name of the endpoint; `None` = the container's id.
    pub name: Option<String>,
    /// `None` = the profile's.
    pub egress: Option<RuleSet>,
    /// `None` = the profile's.
    pub ingress: Option<RuleSet>,
    /// Profile by name; `None` = `default` if there is one.
    pub profile: Option<String>,
    /// How the addresses are reached.
    pub reach: ReachWish,
    /// Name of the device inside.
    pub interface: IfName,
    /// Of the device inside, in bytes; `None` = the uplinks'.
    pub mtu_bytes: Option<u32>,
    /// Routes inside; `None` = the default routes.
    pub routes: Option<Vec<RouteWish>>,
}

impl Wishes {
    /// Reads the keys (without prefix) of the container that an endpoint is built for.
    ///
    /// # Errors
    /// [`crate::error::Kind::BadInput`] with all faults: key, bad text, accepted form.
    pub fn parse(keys: &BTreeMap<String, String>) -> Result<Self> {
        let _ = keys;
        Err(crate::error::Error::new(
            crate::error::Kind::Internal,
            "not written",
        ))
    }

    /// As [`Self::parse`] for a container that joins an endpoint, which need not repeat `address`.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_joining(keys: &BTreeMap<String, String>) -> Result<Self> {
        Self::parse(keys)
    }
}
