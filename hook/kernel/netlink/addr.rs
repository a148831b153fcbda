//! Addresses of devices.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;

use super::socket::Netlink;
use crate::error::{Context, Result};
use crate::facts::HostAddress;

/// All addresses of the socket's namespace.
///
/// # Errors
/// When the kernel refuses.
pub fn list(netlink: &Netlink) -> Result<Vec<HostAddress>> {
    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    netlink.dump(&request, decode).context("list addresses")
}

/// As [`list`], those of one device; none if it is gone.
///
/// # Errors
/// As [`list`].
pub fn list_on(netlink: &Netlink, ifindex: u32) -> Result<Vec<HostAddress>> {
    let mut request = AddressMessage::default();
    request.header.index = ifindex;
    let request = RouteNetlinkMessage::GetAddress(request);
    match netlink.dump(&request, decode) {
        Err(e) if e.is(Errno::ENODEV) => Ok(Vec::new()),
        found => found.with_context(|| format!("list addresses of {ifindex}")),
    }
}

/// As [`list`], without where they are.
///
/// # Errors
/// As [`list`].
pub fn own(netlink: &Netlink) -> Result<Vec<IpAddr>> {
    Ok(list(netlink)?.iter().map(|a| a.net.addr()).collect())
}

/// Sets an address. No duplicate detection: a netkit L3 device has no neighbours, and the plan
/// chose the address.
///
/// # Errors
/// When the kernel refuses.
pub fn add(netlink: &Netlink, ifindex: u32, net: &IpNet) -> Result<()> {
    let mut request = AddressMessage::default();
    request.header.family = family(net.addr());
    request.header.prefix_len = net.prefix_len();
    request.header.index = ifindex;
    request.attributes = vec![
        AddressAttribute::Local(net.addr()),
        AddressAttribute::Address(net.addr()),
    ];
    if net.addr().is_ipv6() {
        request
            .attributes
            .push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    netlink
        .change(
            RouteNetlinkMessage::NewAddress(request),
            NLM_F_CREATE | NLM_F_EXCL,
        )
        .with_context(|| format!("add address {net} to device {ifindex}"))
}

/// The netlink family of an address.
pub(super) fn family(addr: IpAddr) -> AddressFamily {
    if addr.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    }
}

/// IFA_LOCAL where there is one: IFA_ADDRESS is the other end of a point-to-point device.
///
/// `None` for another message, and for a prefix length that the family does not have.
#[must_use]
pub fn decode(message: &RouteNetlinkMessage) -> Option<HostAddress> {
    let RouteNetlinkMessage::NewAddress(address) = message else {
        return None;
    };
    let pick = |want_local: bool| {
        address.attributes.iter().find_map(|a| match a {
            AddressAttribute::Local(addr) if want_local => Some(*addr),
            AddressAttribute::Address(addr) if !want_local => Some(*addr),
            _ => None,
        })
    };
    let addr = pick(true).or_else(|| pick(false))?;
    let net = IpNet::new(addr, address.header.prefix_len).ok()?;
    Some(HostAddress {
        ifindex: address.header.index,
        net,
    })
}
