//! Devices: listing them, the netkit pair, up and down. Which values the pair gets is the plan's;
//! that they took effect is checked here, since kernels ignore attributes they do not know.

use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoNetkit, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo,
    LinkLayerType, LinkMessage, NetkitMode, NetkitPolicy, NetkitScrub,
};
use nix::errno::Errno;

use super::socket::Netlink;
use crate::error::{Context, Error, Kind, Result};
use crate::facts::Link;
use crate::kernel::netns::Netns;
use crate::plan::step::{LinkSizes, PairSpec};
use crate::types::name::IfName;

/// Every primary's name begins so; nothing else is ever deleted.
pub const PRIMARY_PREFIX: &str = "onk";
/// What a kernel without CONFIG_NETKIT means, in the words `probe` uses too.
pub const NO_NETKIT: &str = "this kernel has no netkit device (CONFIG_NETKIT, Linux 6.7)";

/// Every namespace's `lo`: `LOOPBACK_IFINDEX`, include/net/flow.h.
pub const LOOPBACK_IFINDEX: u32 = 1;
/// `IFLA_NETKIT_HEADROOM`, include/uapi/linux/if_link.h. The crate's own variant says four bytes
/// where the kernel wants two.
const IFLA_NETKIT_HEADROOM: u16 = 8;
/// `IFLA_HEADROOM`: the device's needed_headroom (Linux 6.18 and newer).
const IFLA_HEADROOM: u16 = 68;
/// `ETH_HLEN`.
const ETHERNET_HEADER_BYTES: u16 = 14;
/// `HH_DATA_MOD`, include/linux/netdevice.h.
const HEADER_UNIT_BYTES: u16 = 16;

/// Interface indexes of a new pair, each in its own namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairIndexes {
    /// On the host.
    pub primary: u32,
    /// In the container.
    pub peer: u32,
}

/// Whether the kernel knows the netkit device; `None` when it does not say (no `CAP_NET_ADMIN`).
///
/// A request that never creates anything: without NLM_F_CREATE, and with an attribute that only
/// the kernel may set. rtnl_newlink(), net/core/rtnetlink.c, looks at a known kind's attributes
/// (EINVAL) before it looks for the device (ENODEV).
#[must_use]
pub fn has_netkit(netlink: &Netlink) -> Option<bool> {
    let mut request = LinkMessage::default();
    request.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Netkit),
        LinkInfo::Data(InfoData::Netkit(vec![InfoNetkit::Primary(true)])),
    ]));
    match netlink.change(RouteNetlinkMessage::NewLink(request), 0) {
        Err(e) if e.is(Errno::EINVAL) => Some(true),
        Err(e) if e.is(Errno::ENODEV) || e.is(Errno::EOPNOTSUPP) => Some(false),
        _ => None,
    }
}

/// All devices of the socket's namespace. `physical` is left to `probe`: only /sys knows, and it
/// shows the namespace it was mounted in.
///
/// # Errors
/// When the kernel refuses.
pub fn list(netlink: &Netlink) -> Result<Vec<Link>> {
    let mut request = LinkMessage::default();
    request.attributes.push(without_statistics());
    let request = RouteNetlinkMessage::GetLink(request);
    netlink
        .dump(&request, |answer| as_link(answer).map(decode))
        .context("list devices")
}

/// The device of that name, if there is one.
///
/// # Errors
/// When the kernel refuses for another reason.
pub fn find(netlink: &Netlink, name: &str) -> Result<Option<Link>> {
    Ok(get(netlink, name)?.as_ref().map(decode))
}

/// The device of that index, if there is one.
///
/// # Errors
/// As [`find`].
pub fn find_by_index(netlink: &Netlink, ifindex: u32) -> Result<Option<Link>> {
    let mut request = LinkMessage::default();
    request.header.index = ifindex;
    let found = ask(netlink, request, || format!("look for device {ifindex}"))?;
    Ok(found.as_ref().map(decode))
}

fn get(netlink: &Netlink, name: &str) -> Result<Option<LinkMessage>> {
    let mut request = LinkMessage::default();
    request
        .attributes
        .push(LinkAttribute::IfName(name.to_owned()));
    ask(netlink, request, || format!("look for device {name}"))
}

fn ask(
    netlink: &Netlink,
    mut request: LinkMessage,
    what: impl FnOnce() -> String,
) -> Result<Option<LinkMessage>> {
    request.attributes.push(without_statistics());
    match netlink.ask(RouteNetlinkMessage::GetLink(request)) {
        Ok(answers) => Ok(answers.iter().find_map(as_link).cloned()),
        Err(e) if e.is(Errno::ENODEV) => Ok(None),
        Err(e) => Err(e).with_context(what),
    }
}

/// Statistics would be the most of each answer.
fn without_statistics() -> LinkAttribute {
    LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])
}

fn as_link(message: &RouteNetlinkMessage) -> Option<&LinkMessage> {
    match message {
        RouteNetlinkMessage::NewLink(link) => Some(link),
        _ => None,
    }
}

/// Creates the pair closed: L3, both policies blackhole, the peer born inside under its final
/// name, so that neither udev nor the host ever sees it. Then reads both ends back; the socket it
/// took for that inside comes along.
///
/// Primary scrub none lets our marks reach the programs; peer scrub default keeps the container's
/// marks from steering the host's rules.
///
/// # Errors
/// [`Kind::Unsupported`] without netkit or where an attribute had no effect, [`Kind::Conflict`]
/// when a name is taken, else [`Kind::Kernel`]. The pair may exist then: delete it.
pub fn create_pair(
    host: &Netlink,
    netns: &Netns,
    spec: &PairSpec,
) -> Result<(PairIndexes, Netlink)> {
    let request = RouteNetlinkMessage::NewLink(pair_request(spec, netns.as_fd().as_raw_fd()));
    host.change(request, NLM_F_CREATE | NLM_F_EXCL)
        .map_err(|e| match e.errno {
            Some(Errno::EOPNOTSUPP) => Error::new(Kind::Unsupported, NO_NETKIT),
            Some(Errno::EEXIST) => Error::new(
                Kind::Conflict,
                format!("{} or {} exists already", spec.primary, spec.peer),
            ),
            _ => e.into(),
        })?;
    let inside = Netlink::open_in(netns)?;
    let primary = read_back(host, &spec.primary, &spec.sizes, NetkitScrub::None)?;
    let peer = read_back(&inside, &spec.peer, &spec.sizes, NetkitScrub::Default)?;
    Ok((PairIndexes { primary, peer }, inside))
}

fn pair_request(spec: &PairSpec, netns_fd: i32) -> LinkMessage {
    let mut peer = LinkMessage::default();
    peer.attributes = vec![
        LinkAttribute::IfName(spec.peer.as_str().to_owned()),
        LinkAttribute::NetNsFd(netns_fd),
    ];
    peer.attributes.extend(sizes(&spec.sizes));
    let mut data = vec![
        InfoNetkit::Mode(NetkitMode::L3),
        InfoNetkit::Policy(NetkitPolicy::Drop),
        InfoNetkit::PeerPolicy(NetkitPolicy::Drop),
        InfoNetkit::Scrub(NetkitScrub::None),
        InfoNetkit::PeerScrub(NetkitScrub::Default),
    ];
    if spec.sizes.headroom_bytes != 0 {
        let bytes = spec.sizes.headroom_bytes.to_ne_bytes().to_vec();
        data.push(InfoNetkit::Other(DefaultNla::new(
            IFLA_NETKIT_HEADROOM,
            bytes,
        )));
    }
    data.push(InfoNetkit::Peer(peer));
    let mut primary = LinkMessage::default();
    primary.attributes = vec![LinkAttribute::IfName(spec.primary.as_str().to_owned())];
    primary.attributes.extend(sizes(&spec.sizes));
    primary.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Netkit),
        LinkInfo::Data(InfoData::Netkit(data)),
    ]));
    primary
}

/// The attributes for sizes that are asked for.
fn sizes(sizes: &LinkSizes) -> impl Iterator<Item = LinkAttribute> {
    let all = [
        (
            sizes.mtu_bytes,
            LinkAttribute::Mtu as fn(u32) -> LinkAttribute,
        ),
        (sizes.gso_max_bytes, LinkAttribute::GsoMaxSize),
        (sizes.gso_ipv4_max_bytes, LinkAttribute::GsoIpv4MaxSize),
        (sizes.gro_max_bytes, LinkAttribute::GroMaxSize),
        (sizes.gro_ipv4_max_bytes, LinkAttribute::GroIpv4MaxSize),
    ];
    all.into_iter()
        .filter(|(bytes, _)| *bytes != 0)
        .map(|(bytes, attribute)| attribute(bytes))
}

fn read_back(
    netlink: &Netlink,
    name: &IfName,
    sizes: &LinkSizes,
    scrub: NetkitScrub,
) -> Result<u32> {
    let found = get(netlink, name.as_str())?
        .ok_or_else(|| Error::new(Kind::Kernel, format!("{name} is gone right after creation")))?;
    let wrong = differences(&found, sizes, scrub);
    if wrong.is_empty() {
        return Ok(found.header.index);
    }
    Err(Error::new(
        Kind::Unsupported,
        format!(
            "the kernel did not take these for {name}: {}",
            wrong.join(", ")
        ),
    ))
}

/// What is not as it was asked for, by name. An attribute the kernel does not return counts as
/// not taken, but for the headroom: before 6.14 there is none, and it only costs speed.
fn differences(found: &LinkMessage, sizes: &LinkSizes, scrub: NetkitScrub) -> Vec<String> {
    let data = netkit_data(found);
    let wanted = [
        ("mode", InfoNetkit::Mode(NetkitMode::L3)),
        ("policy", InfoNetkit::Policy(NetkitPolicy::Drop)),
        ("peer policy", InfoNetkit::PeerPolicy(NetkitPolicy::Drop)),
        ("scrub", InfoNetkit::Scrub(scrub)),
        ("primary", InfoNetkit::Primary(scrub == NetkitScrub::None)),
    ];
    let mut wrong: Vec<String> = wanted
        .iter()
        .filter(|(_, attribute)| !data.contains(attribute))
        .map(|(name, _)| (*name).to_owned())
        .collect();
    let is = decode(found);
    let lengths = [
        ("mtu", sizes.mtu_bytes, is.mtu_bytes),
        ("gso_max_size", sizes.gso_max_bytes, is.gso_max_bytes),
        (
            "gso_ipv4_max_size",
            sizes.gso_ipv4_max_bytes,
            is.gso_ipv4_max_bytes,
        ),
        ("gro_max_size", sizes.gro_max_bytes, is.gro_max_bytes),
        (
            "gro_ipv4_max_size",
            sizes.gro_ipv4_max_bytes,
            is.gro_ipv4_max_bytes,
        ),
    ];
    for (name, asked, got) in lengths {
        if asked != 0 && asked != got {
            wrong.push(format!("{name} {asked} (is {got})"));
        }
    }
    for attribute in data {
        match attribute {
            InfoNetkit::Headroom(got) if *got != sizes.headroom_bytes => {
                wrong.push(format!("headroom {} (is {got})", sizes.headroom_bytes));
            }
            _ => {}
        }
    }
    wrong
}

fn netkit_data(link: &LinkMessage) -> &[InfoNetkit] {
    let infos = link.attributes.iter().find_map(|a| match a {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    });
    infos
        .into_iter()
        .flatten()
        .find_map(|i| match i {
            LinkInfo::Data(InfoData::Netkit(data)) => Some(data.as_slice()),
            _ => None,
        })
        .unwrap_or_default()
}

/// Deletes a primary and with it the peer, their addresses and routes. Success when it is gone
/// already, and when the device of that name cannot be a primary of ours or, by its index, is not the
/// one that is meant: then that is gone too.
///
/// # Errors
/// When the kernel refuses.
pub fn delete_pair(
    netlink: &Netlink,
    name: &IfName,
    is_meant: impl FnOnce(u32) -> Result<bool>,
) -> Result<()> {
    let Some(link) = find(netlink, name.as_str())? else {
        return Ok(());
    };
    let ours = name.as_str().starts_with(PRIMARY_PREFIX) && link.kind.as_deref() == Some("netkit");
    if !ours {
        log::warn!("{name} is not a netkit device of ours: left alone");
        return Ok(());
    }
    if !is_meant(link.ifindex)? {
        return Ok(());
    }
    let mut request = LinkMessage::default();
    request.header.index = link.ifindex;
    match netlink.change(RouteNetlinkMessage::DelLink(request), 0) {
        Err(e) if e.is(Errno::ENODEV) => Ok(()),
        other => other.with_context(|| format!("delete {name}")),
    }
}

/// Sets `IFF_UP`.
///
/// # Errors
/// When the kernel refuses.
pub fn up(netlink: &Netlink, ifindex: u32) -> Result<()> {
    let mut request = LinkMessage::default();
    request.header.index = ifindex;
    request.header.flags = LinkFlags::Up;
    request.header.change_mask = LinkFlags::Up;
    netlink
        .change(RouteNetlinkMessage::SetLink(request), 0)
        .with_context(|| format!("bring up device {ifindex}"))
}

/// What one device's message says; total, whatever the kernel (or a fuzzer) sent.
#[must_use]
pub fn decode(message: &LinkMessage) -> Link {
    let ethernet = message.header.link_layer_type == LinkLayerType::Ether;
    let mut link = Link {
        ifindex: message.header.index,
        up: message.header.flags.contains(LinkFlags::Up),
        loopback: message.header.flags.contains(LinkFlags::Loopback),
        headroom_bytes: reserve(0),
        ..Link::default()
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(bytes) => link.mtu_bytes = *bytes,
            LinkAttribute::GsoMaxSize(bytes) => link.gso_max_bytes = *bytes,
            LinkAttribute::GsoIpv4MaxSize(bytes) => link.gso_ipv4_max_bytes = *bytes,
            LinkAttribute::GroMaxSize(bytes) => link.gro_max_bytes = *bytes,
            LinkAttribute::GroIpv4MaxSize(bytes) => link.gro_ipv4_max_bytes = *bytes,
            LinkAttribute::Address(mac) if ethernet => link.mac = mac.as_slice().try_into().ok(),
            LinkAttribute::LinkInfo(infos) => {
                link.kind = infos.iter().find_map(|i| match i {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
            }
            LinkAttribute::Other(nla) => {
                link.headroom_bytes = needed_headroom(nla).map_or(link.headroom_bytes, reserve);
            }
            _ => {}
        }
    }
    link
}

fn needed_headroom(nla: &DefaultNla) -> Option<u16> {
    use netlink_packet_core::Nla;
    if nla.kind() != IFLA_HEADROOM || nla.value_len() != 2 {
        return None;
    }
    let mut bytes = [0; 2];
    nla.emit_value(&mut bytes);
    Some(u16::from_ne_bytes(bytes))
}

/// What the kernel keeps free before a packet that leaves by a device with this needed_headroom:
/// mirrors LL_RESERVED_SPACE(), include/linux/netdevice.h. Kernels that do not report it get 0,
/// right for a plain NIC: 16.
fn reserve(needed_headroom: u16) -> u16 {
    let header = ETHERNET_HEADER_BYTES.saturating_add(needed_headroom);
    (header / HEADER_UNIT_BYTES * HEADER_UNIT_BYTES).saturating_add(HEADER_UNIT_BYTES)
}

#[cfg(test)]
mod tests;
