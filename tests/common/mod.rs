//! What the tests of the datapath share: packets, the loaded datapath, and the oracle's half.

#![allow(dead_code, reason = "each test binary uses another part of it")]
#![allow(
    missing_docs,
    unreachable_pub,
    reason = "read beside the tests, not as an API"
)]

pub mod datapath;
pub mod oracle;
pub mod packet;
pub mod random;
