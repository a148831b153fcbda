use super::*;
use crate::facts::{HostAddress, HostRoute};

const UPLINK: u32 = 2;
const DOCKER: u32 = 3;

fn host() -> HostFacts {
    let route = |destination: &str, ifindex| HostRoute {
        destination: destination.parse().unwrap(),
        ifindex: Some(ifindex),
        gateway: None,
    };
    HostFacts {
        addresses: vec![HostAddress {
            ifindex: UPLINK,
            net: "192.0.2.2/24".parse().unwrap(),
        }],
        routes: vec![
            route("0.0.0.0/0", UPLINK),
            route("192.0.2.0/24", UPLINK),
            route("172.17.0.0/16", DOCKER),
        ],
        ..HostFacts::example()
    }
}

#[test]
fn each_place_has_its_question() {
    for (addr, place) in [
        ("203.0.113.10", Place::At(Scope::Outside)),
        ("192.0.2.1", Place::At(Scope::Outside)),
        ("192.0.2.2", Place::At(Scope::Host)),
        ("172.17.0.5", Place::At(Scope::Network)),
        ("169.254.169.254", Place::At(Scope::Metadata)),
        ("100.100.100.200", Place::At(Scope::Metadata)),
        ("169.254.1.1", Place::At(Scope::LinkLocal)),
        ("fe80::1", Place::At(Scope::LinkLocal)),
        ("224.0.0.251", Place::At(Scope::Multicast)),
        ("ff02::1", Place::At(Scope::Multicast)),
        ("127.0.0.1", Place::Martian),
        ("0.1.2.3", Place::Martian),
        ("255.255.255.255", Place::Martian),
        ("::1", Place::Martian),
        ("::ffff:203.0.113.10", Place::Martian),
        ("2001:db8::1", Place::Unroutable),
    ] {
        let found = locate(
            addr.parse().unwrap(),
            &host(),
            &Ledger::default(),
            &[UPLINK],
        );
        assert_eq!(found, place, "{addr}");
    }
}

#[test]
fn a_network_behind_something_that_is_no_uplink_is_not_outside() {
    let found = locate(
        "203.0.113.10".parse().unwrap(),
        &host(),
        &Ledger::default(),
        &[],
    );
    assert_eq!(found, Place::At(Scope::Network));
}
