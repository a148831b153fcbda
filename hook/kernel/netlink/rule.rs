//! Policy routing rules, of which only the selectors are read.

use netlink_packet_core::Nla as _;
use netlink_packet_route::rule::{RuleAttribute, RuleFlags, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::socket::Netlink;
use crate::error::{Context, Result};
use crate::facts::RoutingRule;

/// `FRA_DSCP`, `FRA_FLOWLABEL`, include/uapi/linux/fib_rules.h: younger than our netlink crate.
const BY_CLASS: [u16; 2] = [25, 26];

/// The rules of both families.
///
/// # Errors
/// When the kernel refuses.
pub fn list(netlink: &Netlink) -> Result<Vec<RoutingRule>> {
    let request = RouteNetlinkMessage::GetRule(RuleMessage::default());
    netlink.dump(&request, decode).context("list routing rules")
}

/// `None` for another message, and for rules of multicast routing.
#[must_use]
pub fn decode(message: &RouteNetlinkMessage) -> Option<RoutingRule> {
    let RouteNetlinkMessage::NewRule(rule) = message else {
        return None;
    };
    let is_ipv6 = match rule.header.family {
        AddressFamily::Inet => false,
        AddressFamily::Inet6 => true,
        _ => return None,
    };
    let mut found = RoutingRule {
        is_ipv6,
        priority: 0,
        is_inverted: rule.header.flags.contains(RuleFlags::Invert),
        mark: 0,
        mask: u32::MAX,
        by_class: rule.header.tos != 0,
    };
    for attribute in &rule.attributes {
        match attribute {
            RuleAttribute::Priority(number) => found.priority = *number,
            RuleAttribute::FwMark(mark) => found.mark = *mark,
            RuleAttribute::FwMask(mask) => found.mask = *mask,
            RuleAttribute::Other(other) if BY_CLASS.contains(&other.kind()) => {
                found.by_class = true;
            }
            _ => {}
        }
    }
    Some(found)
}
