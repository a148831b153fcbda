use super::*;
use crate::facts::{HostAddress, HostRoute};

fn link(ifindex: u32, name: &str, up: bool) -> Link {
    let link = Link::example(ifindex, name);
    Link {
        kind: None,
        physical: true,
        up,
        ..link
    }
}

fn host(addresses: &[(u32, &str)]) -> HostFacts {
    let address = |(ifindex, net): &(u32, &str)| HostAddress {
        ifindex: *ifindex,
        net: net.parse().unwrap(),
    };
    HostFacts {
        links: vec![
            link(2, "eth0", false),
            link(3, "eth1", true),
            link(4, "br0", true),
        ],
        addresses: addresses.iter().map(address).collect(),
        routes: vec![HostRoute {
            destination: "0.0.0.0/0".parse().unwrap(),
            ifindex: Some(2),
            gateway: Some("192.0.2.1".parse().unwrap()),
        }],
        ..HostFacts::example()
    }
}

/// eth0 and eth1.
fn uplinks(host: &HostFacts) -> Uplinks<'_> {
    Uplinks {
        links: host.links.iter().take(2).collect(),
        warnings: Vec::new(),
        ..Uplinks::default()
    }
}

fn name(host: &HostFacts, addr: &str) -> Option<String> {
    let found = network(host, &uplinks(host), addr.parse().unwrap());
    found.map(|n| n.link.name.clone())
}

#[test]
fn an_address_belongs_to_the_uplink_whose_network_holds_it() {
    let host = host(&[
        (2, "192.0.2.10/24"),
        (3, "198.51.100.10/24"),
        (3, "203.0.113.10/32"),
        (3, "fe80::1/64"),
        (4, "172.16.0.1/16"),
        (2, "2001:db8::10/64"),
    ]);
    assert_eq!(name(&host, "192.0.2.50").as_deref(), Some("eth0"));
    assert_eq!(name(&host, "198.51.100.50").as_deref(), Some("eth1"));
    assert_eq!(name(&host, "2001:db8::50").as_deref(), Some("eth0"));
    for other in ["203.0.113.10", "172.16.0.9", "fe80::9", "192.0.3.1"] {
        assert_eq!(name(&host, other), None, "{other}");
    }
}

#[test]
fn of_several_the_one_that_is_up_and_then_the_narrowest_counts() {
    let both = [(2, "192.0.2.10/25"), (3, "192.0.2.11/24")];
    assert_eq!(name(&host(&both), "192.0.2.50").as_deref(), Some("eth1"));
    let mut all_up = host(&both);
    all_up.links[0].up = true;
    assert_eq!(name(&all_up, "192.0.2.50").as_deref(), Some("eth0"));
    assert_eq!(name(&all_up, "192.0.2.150").as_deref(), Some("eth1"));
}

#[test]
fn edges_and_gateways_are_nobodys() {
    let host = host(&[
        (3, "192.0.2.10/24"),
        (3, "198.51.100.0/31"),
        (3, "2001:db8::1/64"),
    ]);
    let refuses = |addr: &str| {
        let addr = addr.parse().unwrap();
        let found = network(&host, &uplinks(&host), addr).unwrap();
        found.refuses(&host, addr)
    };
    for (addr, why) in [
        ("192.0.2.0", "network or broadcast"),
        ("192.0.2.255", "network or broadcast"),
        ("2001:db8::", "network or broadcast"),
        ("192.0.2.1", "gateway"),
    ] {
        assert!(refuses(addr).unwrap().contains(why), "{addr}");
    }
    for addr in [
        "192.0.2.2",
        "198.51.100.1",
        "2001:db8::2",
        "2001:db8::ffff:ffff:ffff:ffff",
    ] {
        assert_eq!(refuses(addr), None, "{addr}");
    }
}

#[test]
fn steps_are_by_uplink() {
    let host = host(&[(2, "192.0.2.10/24"), (3, "2001:db8::10/64")]);
    let uplinks = uplinks(&host);
    let addresses = [
        ("192.0.2.50/24".parse().unwrap(), Reach::Lan),
        ("2001:db8::50/128".parse().unwrap(), Reach::Lan),
        ("192.0.2.51/32".parse().unwrap(), Reach::Lan),
        ("10.0.0.1/32".parse().unwrap(), Reach::Masquerade),
    ];
    let lan = locate(&host, &uplinks, &addresses);
    let specs = specs(&uplinks.specs(), &lan);
    let texts: Vec<String> = specs
        .iter()
        .map(|s| format!("{} {:?}", s.uplink.name, s.addresses))
        .collect();
    assert_eq!(
        texts,
        ["eth0 [192.0.2.50, 192.0.2.51]", "eth1 [2001:db8::50]"]
    );
}
