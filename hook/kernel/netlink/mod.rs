//! rtnetlink, one file per object kind; only `socket.rs` knows how messages travel.

pub mod addr;
pub mod devconf;
pub mod link;
pub mod neighbour;
pub mod qdisc;
pub mod route;
pub mod rule;
pub mod socket;

pub use socket::{Netlink, Refused};
