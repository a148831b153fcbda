//! The naive twin, part one: rules. Reads nothing the compiler made.
use oci_netkit::plan::policy::{Places, Policy};
use oci_netkit::plan::rules::RuleSet;
use std::net::IpAddr;
/// Rules as text, at the places of `datapath.rs`.
pub fn policy(egress: &str, ingress: &str) -> Policy {
    let net = |text: &str| text.parse().expect("a prefix");
    let resolver: IpAddr = "192.0.2.7".parse().expect("an address");
    Policy {
        egress: RuleSet::parse(egress).expect("egress rules"),
        ingress: RuleSet::parse(ingress).expect("ingress rules"),
        places: Places {
            resolvers: vec![resolver],
            pools: vec![net("10.87.0.0/17"), net("2001:db8:87::/64")],
            networks: vec![net("172.17.0.0/16"), net("2001:db8:17::/64")],
        },
    }
}
