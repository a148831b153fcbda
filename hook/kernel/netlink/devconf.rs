//! IPv4's settings of a device: what /proc/sys/net/ipv4/conf/DEVICE/ shows, all in one message
//! (IPv6 takes few of its own this way, hence `sysctl.rs`).

use netlink_packet_core::{DefaultNla, Emitable as _, NLA_F_NESTED};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{AfSpecInet, AfSpecUnspec, LinkAttribute, LinkMessage};

use super::socket::Netlink;
use crate::error::{Context, Result};
use crate::plan::step::Ipv4Setting;

/// `IFLA_INET_CONF`, include/uapi/linux/if_link.h.
const IFLA_INET_CONF: u16 = 1;

/// Switches settings on or off: inet_set_link_af(), net/ipv4/devinet.c, which all kernels with
/// netkit have, and which refuses a number that it does not know (EINVAL).
///
/// Unlike a write to the file this tells no routing daemon and empties no cache of routes: for a
/// device of which nobody knows yet.
///
/// # Errors
/// When the kernel refuses.
pub fn set(netlink: &Netlink, ifindex: u32, settings: &[(Ipv4Setting, bool)]) -> Result<()> {
    netlink
        .change(RouteNetlinkMessage::SetLink(message(ifindex, settings)), 0)
        .with_context(|| format!("settings of IPv4 on device {ifindex}"))
}

/// The crate's `DevConfRequest` leaves out what is zero.
fn message(ifindex: u32, settings: &[(Ipv4Setting, bool)]) -> LinkMessage {
    let mut nested = Vec::new();
    for (setting, on) in settings {
        let value = u32::from(*on).to_ne_bytes().to_vec();
        let attribute = DefaultNla::new(number(*setting), value);
        let start = nested.len();
        nested.resize(start + attribute.buffer_len(), 0);
        attribute.emit(&mut nested[start..]);
    }
    let conf = AfSpecInet::Other(DefaultNla::new(IFLA_INET_CONF | NLA_F_NESTED, nested));
    let mut message = LinkMessage::default();
    message.header.index = ifindex;
    message.attributes = vec![LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet(vec![
        conf,
    ])])];
    message
}

/// `IPV4_DEVCONF_*`, include/uapi/linux/ip.h.
fn number(setting: Ipv4Setting) -> u16 {
    match setting {
        Ipv4Setting::Forwarding => 1,
        Ipv4Setting::AcceptRedirects => 4,
        Ipv4Setting::SendRedirects => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_switched_off_is_in_the_message_too() {
        let settings = [
            (Ipv4Setting::Forwarding, true),
            (Ipv4Setting::AcceptRedirects, false),
        ];
        let message = message(7, &settings);
        assert_eq!(message.header.index, 7);
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        // Length, type and value of each.
        let wanted: Vec<u8> = [8u16, 1, 1, 0, 8, 4, 0, 0]
            .iter()
            .flat_map(|half| half.to_ne_bytes())
            .collect();
        assert!(bytes.ends_with(&wanted), "{bytes:?}");
    }
}
