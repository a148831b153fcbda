use super::*;
use crate::facts::{HostRoute, Ledger, Link};
use crate::plan::check_same_host;
use crate::types::id::NetnsCookie;
use crate::types::lease::Leases;
use crate::types::record::EndpointRecord;

/// A host whose devices are 2 (eth0) and 3 (eth1); those of `default` have a default route.
fn host(default: &[u32]) -> HostFacts {
    let route = |ifindex: &u32| HostRoute {
        destination: "0.0.0.0/0".parse().unwrap(),
        ifindex: Some(*ifindex),
        gateway: None,
    };
    HostFacts {
        links: vec![Link::example(2, "eth0"), Link::example(3, "eth1")],
        routes: default.iter().map(route).collect(),
        ..HostFacts::example()
    }
}

#[test]
fn another_namespace_than_the_endpoints_is_not_their_host() {
    let here = NetnsCookie(1);
    let ledger = |host| {
        let record = EndpointRecord {
            host,
            ..EndpointRecord::example()
        };
        Ledger::whole(vec![record], Leases::default())
    };
    let check = |host| check_same_host(here, &ledger(host));
    check(Some(here)).unwrap();
    check(None).unwrap();
    let error = check(Some(NetnsCookie(2))).unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
}

/// What to attach and what to detach.
fn decide(config: &str, default: &[u32], attached: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let config = Config::parse(config).unwrap();
    let found = Uplinks::now(&config, &host(default), attached).unwrap();
    let attach = found.attach.iter().map(|u| u.ifindex).collect();
    (attach, found.detach)
}

#[test]
fn without_a_list_only_a_device_that_is_gone_is_given_up() {
    assert_eq!(decide("", &[2], &[2]), (vec![2], vec![]));
    assert_eq!(decide("", &[3], &[2]), (vec![3], vec![]));
    assert_eq!(decide("", &[2, 3], &[2, 9]), (vec![2, 3], vec![9]));
    assert_eq!(
        decide("", &[], &[2, 9]),
        (vec![], vec![9]),
        "no uplink at all"
    );
}

#[test]
fn a_list_is_followed_to_the_letter() {
    let eth1 = "uplinks = [\"eth1\"]";
    assert_eq!(decide(eth1, &[2], &[2, 9]), (vec![3], vec![2, 9]));
}

#[test]
fn a_list_that_cannot_be_followed_is_a_fault_of_the_config() {
    let absent = Config::parse("uplinks = [\"eth0\", \"eth7\"]").unwrap();
    let host = host(&[2]);
    let error = Uplinks::now(&absent, &host, &[2]).unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert_eq!(Uplinks::gone(&host, &[2, 3, 9]).detach, [9]);
}

#[test]
fn addresses_follow_an_uplink_that_was_made_anew() {
    let mut host = host(&[2, 3]);
    host.addresses = vec![crate::facts::HostAddress {
        ifindex: 3,
        net: "192.0.2.2/24".parse().unwrap(),
    }];
    let of = |address: &str, ifindex| LanAddress {
        address: address.parse().unwrap(),
        ifindex,
    };
    let record = |lan| EndpointRecord {
        lan,
        ..EndpointRecord::example()
    };
    let records = [
        record(vec![of("192.0.2.50", 7), of("2001:db8::50", 7)]),
        record(vec![of("192.0.2.51", 3)]),
        record(vec![]),
        EndpointRecord {
            phase: Phase::Ending,
            ..record(vec![of("192.0.2.52", 7)])
        },
    ];
    let found = LanEndpoint::all(&Config::default(), &host, &records);
    let lan: Vec<_> = found.iter().map(|e| e.lan.clone()).collect();
    let kept = of("2001:db8::50", 7);
    assert_eq!(
        lan,
        [vec![of("192.0.2.50", 3), kept], vec![of("192.0.2.51", 3)]]
    );
    assert_eq!(
        found.iter().map(LanEndpoint::has_moved).collect::<Vec<_>>(),
        [true, false]
    );
    assert_eq!(found[0].specs.len(), 1, "{:?}", found[0].specs);
    assert_eq!(
        found[0].specs[0].addresses.len(),
        1,
        "what no uplink has waits"
    );
    host.links.clear();
    host.routes.clear();
    assert!(LanEndpoint::all(&Config::default(), &host, &records).is_empty());
}
