//! What the guest tests share. Every test file is a crate of its own and uses a part of it.
//!
//! ```text
//!   container           guest (the host under test)             the wire
//!   ┌────────┐ netkit  ┌────────────────────────────┐   tap    ┌──────────────────────────────┐
//!   │ inside ├─────────┤ oci-netkit   eth0 192.0.2.2├──────────┤ 192.0.2.1       203.0.113.10 │
//!   │  .py   │         │         2001:db8:1::2      │          │ 2001:db8:1::1  2001:db8:f::10│
//!   └────────┘         └────────────────────────────┘          │ servers, agent and capture   │
//!   198.51.100.N, 2001:db8:2::N (routed to the guest)          └──────────────────────────────┘
//! ```

#![allow(dead_code, reason = "each test binary uses another part of it")]
#![allow(
    missing_docs,
    unreachable_pub,
    reason = "read beside the tests, not as an API"
)]

pub mod attacks;
pub mod cli;
pub mod container;
pub mod far;
pub mod frames;
pub mod hook;
pub mod host;
pub mod names;
pub mod probe;
pub mod second;
pub mod wire;

/// An address of "the internet" on the wire machine: HTTP on 80, 443 and 8080, echo on 7 and 7777.
pub const OUTSIDE: &str = "203.0.113.10";
pub const OUTSIDE_6: &str = "2001:db8:f::10";
/// Another one.
pub const ELSEWHERE: &str = "203.0.113.20";
pub const ELSEWHERE_6: &str = "2001:db8:f::20";
/// The guest.
pub const HOST: &str = "192.0.2.2";
pub const HOST_6: &str = "2001:db8:1::2";
/// The wire machine on the guest's own subnet.
pub const WIRE: &str = "192.0.2.1";
pub const WIRE_6: &str = "2001:db8:1::1";

/// For whoever waits, at once, and whether or not the test passes.
pub fn say(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{text}");
}
