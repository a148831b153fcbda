//! One distinct thing that an endpoint's programs refused, or let through on trial. Pure.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::direction::Direction;

/// What was refused, how often and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denied {
    /// Of the packet.
    pub direction: Direction,
    /// `None` where the packet was not understood that far; then protocol and port are 0 too.
    pub remote: Option<IpAddr>,
    /// A name that led to the remote address; or that was asked for, where there is none.
    #[serde(default)]
    pub name: Option<String>,
    /// IP protocol number.
    pub protocol: u8,
    /// The remote one in egress, the container's in ingress; the type for ICMP.
    pub port: u16,
    /// `NK_DROP_*`; of what passed, what it would have been.
    pub reason: u32,
    /// It passed, since the endpoint is on trial.
    pub passed: bool,
    /// Packets; flows of what passed.
    pub count: u64,
    /// Milliseconds since 1970.
    pub first_ms: u64,
    /// Milliseconds since 1970.
    pub last_ms: u64,
}
