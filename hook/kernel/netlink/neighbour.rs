//! Neighbours that a device answers for (NTF_PROXY). Ours only make the kernel join the group by
//! which an IPv6 address is asked for (pndisc_constructor(), net/ipv6/ndisc.c), so that NICs and
//! switches let the questions through; the answers are bpf/reply.h's, as the kernel gives none
//! while proxy_ndp is off.

use std::net::Ipv6Addr;

use netlink_packet_core::NLM_F_CREATE;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;

use super::socket::Netlink;
use crate::error::{Context, Result};

/// Adds one; success if it is there.
///
/// # Errors
/// When the kernel refuses.
pub fn add_proxy(netlink: &Netlink, ifindex: u32, address: Ipv6Addr) -> Result<()> {
    netlink
        .change(
            RouteNetlinkMessage::NewNeighbour(proxy(ifindex, address)),
            NLM_F_CREATE,
        )
        .with_context(|| format!("add proxy neighbour {address} to device {ifindex}"))
}

/// Removes one; success if it, or its device, is gone.
///
/// # Errors
/// When the kernel refuses.
pub fn remove_proxy(netlink: &Netlink, ifindex: u32, address: Ipv6Addr) -> Result<()> {
    let request = RouteNetlinkMessage::DelNeighbour(proxy(ifindex, address));
    match netlink.change(request, 0) {
        Err(e) if e.is(Errno::ENOENT) || e.is(Errno::ENODEV) => Ok(()),
        other => {
            other.with_context(|| format!("remove proxy neighbour {address} of device {ifindex}"))
        }
    }
}

fn proxy(ifindex: u32, address: Ipv6Addr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet6;
    message.header.ifindex = ifindex;
    // Or the kernel forgets the entry with the carrier; before Linux 6.15 it does so anyway.
    message.header.state = NeighbourState::Permanent;
    message.header.flags = NeighbourFlags::Proxy;
    message.attributes = vec![NeighbourAttribute::Destination(NeighbourAddress::Inet6(
        address,
    ))];
    message
}
