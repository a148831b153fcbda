//! What an uplink's neighbours are asked and told, with a real neighbour: a namespace on the other
//! end of the veth. Topology: `common/guest.rs`; up0-far, 02:00:00:00:00:02, is in the container.

#![allow(clippy::unwrap_used, reason = "a failure is the test's")]
#![allow(
    unreachable_pub,
    reason = "what tests share is read beside them, not as an API"
)]

#[path = "common/guest.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod guest;

mod root {
    use std::net::Ipv6Addr;
    use std::thread;
    use std::time::{Duration, Instant};

    use oci_netkit::error::Kind;
    use oci_netkit::kernel::lan;
    use oci_netkit::kernel::netlink::{Netlink, neighbour};
    use oci_netkit::plan::step::{LanSpec, Uplink};

    use super::guest::{Container, Host, run};

    const LAN4: &str = "192.0.2.50";
    const LAN6: &str = "2001:db8:1::50";
    const FAR: &str = "02:00:00:00:00:02";

    /// A machine on the other end of the uplink, 192.0.2.1 and 2001:db8:1::1.
    fn machine() -> Container {
        let machine = Container::start();
        run("ip link set up0-far address 02:00:00:00:00:02");
        let pid = machine.process().pid();
        run(&format!("ip link set up0-far netns {pid}"));
        machine.run("ip link set up0-far up");
        machine.run("ip addr add 192.0.2.1/24 dev up0-far");
        machine.run("ip addr add 2001:db8:1::1/64 dev up0-far nodad");
        // The kernel sees the carrier a moment later.
        while !run("ip -o link show up0").contains("state UP") {
            thread::sleep(Duration::from_millis(1));
        }
        machine
    }

    fn spec(uplink: &Uplink, addresses: &[&str]) -> Vec<LanSpec> {
        vec![LanSpec {
            uplink: uplink.clone(),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        }]
    }

    #[test]
    #[ignore = "needs root"]
    fn free_addresses_are_asked_for_at_the_same_time() {
        let host = Host::enter();
        let _machine = machine();
        let start = Instant::now();
        lan::probe(&spec(
            &host.uplink,
            &[LAN4, LAN6, "192.0.2.51", "2001:db8:1::51"],
        ))
        .unwrap();
        let took = start.elapsed();
        println!("probe {took:?}");
        assert!(took >= Duration::from_millis(600), "{took:?}");
        assert!(took < Duration::from_secs(3), "{took:?}");
    }

    #[test]
    #[ignore = "needs root"]
    fn taken_addresses_are_named_with_who_has_them() {
        let host = Host::enter();
        let machine = machine();
        machine.run("ip addr add 192.0.2.50/24 dev up0-far");
        machine.run("ip addr add 2001:db8:1::50/64 dev up0-far nodad");
        for addresses in [&[LAN4][..], &[LAN6], &["192.0.2.51", LAN4, LAN6]] {
            let error = lan::probe(&spec(&host.uplink, addresses)).unwrap_err();
            assert_eq!(error.kind(), Kind::Conflict, "{error}");
            for taken in addresses.iter().filter(|a| **a != "192.0.2.51") {
                let wanted = format!("{taken} belongs to {FAR} on up0");
                assert!(error.to_string().contains(&wanted), "{error}");
            }
            assert!(!error.to_string().contains("192.0.2.51"), "{error}");
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn of_two_who_ask_at_the_same_time_one_gets_it_at_most() {
        for address in [LAN4, LAN6] {
            let host = Host::enter();
            let machine = machine();
            let netns = machine.netns();
            let ifindex = machine.run("cat /proc/self/net/dev_mcast");
            let line = ifindex.lines().find(|l| l.contains("up0-far")).unwrap();
            let far = Uplink {
                ifindex: line.split_whitespace().next().unwrap().parse().unwrap(),
                name: "up0-far".into(),
                mac: [2, 0, 0, 0, 0, 2],
                mtu_bytes: 1500,
            };
            let there =
                thread::spawn(move || netns.run(move || lan::probe(&spec(&far, &[address]))));
            let here = lan::probe(&spec(&host.uplink, &[address])).err();
            let there = there.join().unwrap().err();
            // Who hears the other first gives up, and may not be heard any more.
            assert!(here.is_some() || there.is_some(), "{address}");
            for (error, other) in [(here, FAR), (there, "02:00:00:00:00:01")] {
                let Some(error) = error else { continue };
                assert_eq!(error.kind(), Kind::Conflict, "{error}");
                let wanted = format!("{address} is what {other} on up0");
                assert!(error.to_string().contains(&wanted), "{error}");
            }
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn an_uplink_that_is_down_cannot_be_asked() {
        let host = Host::enter();
        let machine = machine();
        let refused = || {
            for address in [LAN4, LAN6] {
                let error = lan::probe(&spec(&host.uplink, &[address])).unwrap_err();
                assert_eq!(error.kind(), Kind::Unsupported, "{error}");
                for text in ["up0 is down or has no carrier", address] {
                    assert!(error.to_string().contains(text), "{error}");
                }
            }
        };
        machine.run("ip link set up0-far down");
        while run("ip -o link show up0").contains("state UP") {
            thread::sleep(Duration::from_millis(1));
        }
        refused();
        run("ip link set up0 down");
        refused();
    }

    #[test]
    #[ignore = "needs root"]
    fn an_announcement_moves_the_address_for_neighbours_that_knew_it_elsewhere() {
        let host = Host::enter();
        let machine = machine();
        for address in [LAN4, LAN6] {
            machine.run(&format!(
                "ip neigh replace {address} lladdr 02:00:00:00:00:99 dev up0-far nud stale"
            ));
        }
        lan::announce(&spec(&host.uplink, &[LAN4, LAN6])).unwrap();
        for address in [LAN4, LAN6] {
            let known = || machine.run(&format!("ip neigh show {address}"));
            let end = Instant::now() + Duration::from_secs(5);
            while !known().contains("02:00:00:00:00:01") {
                assert!(Instant::now() < end, "{}", known());
                thread::sleep(Duration::from_millis(10));
            }
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn a_proxy_neighbour_joins_the_group_by_which_its_address_is_asked_for() {
        let host = Host::enter();
        let netlink = Netlink::open().unwrap();
        let address: Ipv6Addr = LAN6.parse().unwrap();
        let joined = || run("ip maddr show dev up0").contains("ff02::1:ff00:50");
        let there = || run("ip -6 neigh show proxy").contains(LAN6);
        for _ in 0..2 {
            neighbour::add_proxy(&netlink, host.uplink.ifindex, address).unwrap();
            assert!(there() && joined());
        }
        for _ in 0..2 {
            neighbour::remove_proxy(&netlink, host.uplink.ifindex, address).unwrap();
            assert!(!there() && !joined());
        }
        neighbour::remove_proxy(&netlink, 4242, address).unwrap();
    }
}
