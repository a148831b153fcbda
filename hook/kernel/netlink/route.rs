//! Routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{Emitable, NLM_F_CREATE, NLM_F_EXCL, NlasIterator};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
    RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use nix::libc;

use super::addr::family;
use super::socket::{Netlink, Refused};
use crate::error::{Context, Error, Kind, Result};
use crate::facts::HostRoute;
use crate::plan::step::RouteSpec;

/// `RT_TABLE_LOCAL`, include/uapi/linux/rtnetlink.h.
const LOCAL_TABLE: u32 = 255;

/// Unicast routes of both families in all tables but `local`; one entry per next hop.
///
/// # Errors
/// When the kernel refuses.
pub fn list(netlink: &Netlink) -> Result<Vec<HostRoute>> {
    list_but(netlink, |_, _| false)
}

/// As [`list`], without those to one address out of one device of which `is_known` is true.
///
/// # Errors
/// As [`list`].
pub fn list_but(
    netlink: &Netlink,
    is_known: impl Fn(u32, IpAddr) -> bool,
) -> Result<Vec<HostRoute>> {
    let is_wanted =
        |bytes: &[u8]| !single(bytes).is_some_and(|(ifindex, to)| is_known(ifindex, to));
    dump(netlink, &[], is_wanted).context("list routes")
}

/// As [`list`], those out of one device; none if it is gone.
///
/// # Errors
/// As [`list`].
pub fn list_out_of(netlink: &Netlink, ifindex: u32) -> Result<Vec<HostRoute>> {
    let mut routes = match dump(netlink, &[RouteAttribute::Oif(ifindex)], |_| true) {
        Err(e) if e.is(Errno::ENODEV) => Vec::new(),
        found => found.with_context(|| format!("list routes out of {ifindex}"))?,
    };
    // Of several next hops, only those.
    routes.retain(|route| route.ifindex == Some(ifindex));
    Ok(routes)
}

/// Routes of both families that match the attributes and are wanted by their bytes.
fn dump(
    netlink: &Netlink,
    attributes: &[RouteAttribute],
    is_wanted: impl Fn(&[u8]) -> bool,
) -> std::result::Result<Vec<HostRoute>, Refused> {
    let mut routes = Vec::new();
    for any in EACH_FAMILY {
        let mut request = request(any);
        request.attributes = attributes.to_vec();
        let request = RouteNetlinkMessage::GetRoute(request);
        match netlink.dump_some(&request, &is_wanted, |answer| decode(answer, any)) {
            Err(e) if has_no_family(&e, any) => {}
            found => routes.extend(found?),
        }
    }
    Ok(routes)
}

const EACH_FAMILY: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    IpAddr::V6(Ipv6Addr::UNSPECIFIED),
];

fn request(any: IpAddr) -> RouteMessage {
    let mut request = RouteMessage::default();
    request.header.address_family = family(any);
    // Of IPv6 each device has two of other kinds.
    request.header.kind = RouteType::Unicast;
    request
}

/// A kernel with ipv6.disable=1 has no such family.
fn has_no_family(error: &Refused, any: IpAddr) -> bool {
    any.is_ipv6() && error.is(Errno::EOPNOTSUPP)
}

/// Device and destination of a route to one address out of one device, by the bytes of its message;
/// `None` for any other route.
#[must_use]
pub fn single(bytes: &[u8]) -> Option<(u32, IpAddr)> {
    let header = RouteHeader::parse(bytes).ok()?;
    let (mut ifindex, mut to) = (None, None);
    for attribute in NlasIterator::new(bytes.get(header.buffer_len()..)?) {
        let attribute = attribute.ok()?;
        let value = attribute.value();
        match attribute.kind() {
            libc::RTA_OIF => ifindex = Some(u32::from_ne_bytes(value.try_into().ok()?)),
            libc::RTA_DST => to = address(header.address_family, value),
            libc::RTA_MULTIPATH => return None,
            _ => {}
        }
    }
    let to = to.filter(|to| IpNet::from(*to).prefix_len() == header.destination_prefix_length);
    Some((ifindex?, to?))
}

/// Adds a route straight out of a device.
///
/// # Errors
/// [`Kind::Conflict`] when there is a route for the same prefix.
pub fn add(netlink: &Netlink, ifindex: u32, spec: &RouteSpec) -> Result<()> {
    let to = spec.destination;
    let mut request = RouteMessage::default();
    request.header.address_family = family(to.addr());
    request.header.destination_prefix_length = to.prefix_len();
    request.header.table = RouteHeader::RT_TABLE_MAIN;
    request.header.protocol = RouteProtocol::Static;
    request.header.kind = RouteType::Unicast;
    // IPv6 has no such scope: ip6_route_info_create(), net/ipv6/route.c, ignores it.
    request.header.scope = if to.addr().is_ipv4() {
        RouteScope::Link
    } else {
        RouteScope::Universe
    };
    request.attributes = vec![RouteAttribute::Oif(ifindex)];
    if to.prefix_len() != 0 {
        request
            .attributes
            .push(RouteAttribute::Destination(to.network().into()));
    }
    if let Some(source) = spec.source {
        request
            .attributes
            .push(RouteAttribute::PrefSource(source.into()));
    }
    netlink
        .change(
            RouteNetlinkMessage::NewRoute(request),
            NLM_F_CREATE | NLM_F_EXCL,
        )
        .map_err(|e| match e.errno {
            Some(Errno::EEXIST) => {
                Error::new(Kind::Conflict, format!("there is another route for {to}"))
            }
            _ => e.into(),
        })
        .with_context(|| format!("add route {to} to device {ifindex}"))
}

/// The hops of one route of the main tables; `any` is the destination of a route that names none.
/// Empty for another message, and for what is no unicast route.
#[must_use]
pub fn decode(message: &RouteNetlinkMessage, any: IpAddr) -> Vec<HostRoute> {
    let RouteNetlinkMessage::NewRoute(route) = message else {
        return Vec::new();
    };
    let mut table = u32::from(route.header.table);
    let (mut to, mut ifindex, mut gateway, mut hops) = (any, None, None, Vec::new());
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Table(id) => table = *id,
            RouteAttribute::Destination(addr) => to = ip(addr).unwrap_or(to),
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::Gateway(addr) => gateway = ip(addr),
            RouteAttribute::Via(via) => gateway = via_ip(via),
            RouteAttribute::MultiPath(list) => {
                hops.extend(
                    list.iter()
                        .map(|h| (Some(h.interface_index), hop_gateway(&h.attributes))),
                );
            }
            _ => {}
        }
    }
    let destination = IpNet::new(to, route.header.destination_prefix_length).ok();
    let Some(destination) = destination else {
        return Vec::new();
    };
    if route.header.kind != RouteType::Unicast || table == LOCAL_TABLE {
        return Vec::new();
    }
    if hops.is_empty() {
        hops.push((ifindex, gateway));
    }
    hops.into_iter()
        .map(|(ifindex, gateway)| HostRoute {
            destination,
            ifindex,
            gateway,
        })
        .collect()
}

fn address(family: AddressFamily, bytes: &[u8]) -> Option<IpAddr> {
    match family {
        AddressFamily::Inet => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        AddressFamily::Inet6 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

fn hop_gateway(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|a| match a {
        RouteAttribute::Gateway(addr) => ip(addr),
        RouteAttribute::Via(via) => via_ip(via),
        _ => None,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

fn via_ip(via: &RouteVia) -> Option<IpAddr> {
    match via {
        RouteVia::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteVia::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}
