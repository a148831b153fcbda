//! What the tests of the datapath share: packets, the loaded datapath, and the oracle's half.

#![allow(dead_code, reason = "each test binary uses another part of it")]
#![allow(
    missing_docs,
    unreachable_pub,
    reason = "read beside the tests, not as an API"
)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::wrong_self_convention,
    clippy::unwrap_used,
    reason = "small numbers; from_wire and to_container are the hooks' names"
)]

pub mod checksum;
pub mod datapath;
pub mod denied;
pub mod dns;
pub mod dns_message;
pub mod nat;
pub mod oracle;
pub mod packet;
pub mod publish;
pub mod random;
pub mod tables;
