//! Containers with an address of the uplink's own network: neighbours reach them as they reach any
//! machine, and nobody is given an address that somebody has.
//!
//! ```text
//!  containers 192.0.2.50, .51     ── host 192.0.2.2      ── wire 192.0.2.1
//!             2001:db8:1::50           2001:db8:1::2           2001:db8:1::1
//!                                      52:54:00:00:00:02       52:54:00:00:00:01, no route to .50
//! ```

mod rig;

mod guest {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use crate::rig::container::{self, Container};
    use crate::rig::host::{self, Snapshot};
    use crate::rig::second::{SecondNetwork, sh};
    use crate::rig::wire::Frame;
    use crate::rig::{HOST, HOST_6, WIRE, WIRE_6, cli, frames, wire};

    const LAN4: &str = "192.0.2.50";
    const LAN6: &str = "2001:db8:1::50";
    /// Somebody who is not there.
    const GHOST: &str = "52:54:00:00:00:99";
    const GUEST: &str = "52:54:00:00:00:02";
    const TAP: &str = "tap0";

    fn on_the_wire(command: &str) -> String {
        wire::exec(&command.split_whitespace().collect::<Vec<_>>()).success()
    }

    /// As if no neighbour had ever heard of the addresses.
    fn forget() {
        for address in [LAN4, LAN6] {
            wire::exec(&["ip", "neigh", "del", address, "dev", TAP]);
        }
    }

    fn neighbour(address: &str) -> String {
        on_the_wire(&format!("ip neigh show {address} dev {TAP}"))
    }

    /// Open to its neighbours, the host and other containers; echoes on 7777.
    fn start() -> Container {
        let c = container::podman("lan")
            .address("192.0.2.50 2001:db8:1::50")
            .egress("tcp:any:7777 udp:any:7777 icmp:any icmp:host")
            .ingress(
                "tcp:any:7777 udp:any:7777 icmp:any icmp:host tcp:host:7777 tcp:containers:7777",
            )
            .start();
        c.listen("tcp", 7777);
        c.listen("udp", 7777);
        c
    }

    #[track_caller]
    fn neighbours_reach(address: &str) {
        assert!(wire::ping(address), "{address}: {}", neighbour(address));
        for protocol in ["tcp", "udp"] {
            let answer = wire::ask(protocol, address, 7777, "neighbour");
            assert_eq!(answer, Ok("neighbour".into()), "{protocol} to {address}");
        }
        let known = neighbour(address);
        assert!(known.contains(GUEST), "{known}");
        let route = on_the_wire(&format!("ip route get {address}"));
        assert!(!route.contains("via"), "{route}");
    }

    mod smoke {
        use super::*;

        #[test]
        #[ignore = "needs the guest"]
        fn a_container_is_a_machine_of_the_lan() {
            host::start_clean();
            forget();
            let before = Snapshot::take();
            let c = start();
            neighbours_reach(LAN4);
            neighbours_reach(LAN6);
            for (protocol, port) in [("tcp", 7777), ("udp", 7777), ("icmp", 0)] {
                c.reaches(protocol, WIRE, port);
                c.reaches(protocol, WIRE_6, port);
            }
            c.stop();
            before.assert_same();
            assert!(!wire::ping(LAN4) && !wire::ping(LAN6), "it has ended");
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn the_host_and_other_containers_reach_it() {
        host::start_clean();
        let c = start();
        for (host, lan) in [(HOST, LAN4), (HOST_6, LAN6)] {
            c.reaches("icmp", host, 0);
            host::run(&["ping", "-n", "-c", "1", "-W", "2", lan]);
            let mut to_container = TcpStream::connect((lan, 7777)).expect("it listens");
            to_container.write_all(b"host").expect("it takes it");
            let mut echo = [0; 4];
            to_container.read_exact(&mut echo).expect("it echoes");
            assert_eq!(&echo, b"host");
        }
        for (name, address) in [
            ("routed", "198.51.100.9 2001:db8:2::9"),
            ("lan", "192.0.2.51 2001:db8:1::51"),
        ] {
            let other = container::bundle(name)
                .address(address)
                .egress("tcp:containers:7777")
                .start();
            other.reaches("tcp", LAN4, 7777);
            other.reaches("tcp", LAN6, 7777);
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn what_no_rule_allows_is_dropped_as_anywhere() {
        host::start_clean();
        let c = container::bundle("closed")
            .address("192.0.2.50 2001:db8:1::50")
            .start();
        c.listen("tcp", 7777);
        for address in [LAN4, LAN6] {
            let asked = c.expect_drop("ingress", "no-rule", || {
                wire::ask("tcp", address, 7777, "anybody?")
            });
            assert_eq!(asked, Err("timeout".into()));
        }
        c.is_kept_from("no-rule", "tcp", WIRE, 7777);
        c.is_kept_from("no-rule", "tcp", WIRE_6, 7777);
    }

    fn arp(frame: &Frame, sender: [u8; 4], target: [u8; 4]) -> bool {
        frame.ethertype() == 0x0806 && frame.data[28..32] == sender && frame.data[38..42] == target
    }

    fn nd(frame: &Frame, kind: u8) -> bool {
        frame.ethertype() == frames::IPV6
            && frame.data[20] == 58
            && frame.data[54] == kind
            && frame.data[62..78] == frames::v6(LAN6).octets()
    }

    #[test]
    #[ignore = "needs the guest"]
    fn it_is_asked_for_before_and_announced_after() {
        host::start_clean();
        forget();
        for address in [LAN4, LAN6] {
            on_the_wire(&format!(
                "ip neigh replace {address} lladdr {GHOST} dev {TAP} nud stale"
            ));
        }
        let cursor = wire::cursor();
        let _c = start();
        let from_guest: Vec<Frame> = cursor
            .frames()
            .into_iter()
            .filter(|f| f.from_guest)
            .collect();
        let position = |is: &dyn Fn(&Frame) -> bool| -> Vec<usize> {
            let all = from_guest.iter().enumerate();
            all.filter(|(_, f)| is(f)).map(|(i, _)| i).collect()
        };
        let lan = [192, 0, 2, 50];
        for (asked, announced) in [
            (
                position(&|f| arp(f, [0; 4], lan)),
                position(&|f| arp(f, lan, lan)),
            ),
            (position(&|f| nd(f, 135)), position(&|f| nd(f, 136))),
        ] {
            let all = wire::summaries(&from_guest);
            assert_eq!((asked.len(), announced.len()), (3, 1), "{all:?}");
            assert!(asked < announced, "{all:?}");
        }
        for address in [LAN4, LAN6] {
            assert!(neighbour(address).contains(GUEST), "{}", neighbour(address));
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn an_address_that_somebody_has_is_refused_with_who() {
        host::start_clean();
        let before = Snapshot::take();
        on_the_wire(&format!("ip addr add {LAN4}/24 dev {TAP}"));
        on_the_wire(&format!("ip addr add {LAN6}/64 dev {TAP} nodad"));
        let _gone = Taken;
        for addresses in [LAN4, LAN6, "192.0.2.51 192.0.2.50 2001:db8:1::50"] {
            container::podman("late").address(addresses).refused();
            let error = cli::last_error();
            assert_eq!(error["exit_code"], 73, "{error:#}");
            let said = error["error"].as_str().expect("a text");
            for taken in [LAN4, LAN6].iter().filter(|a| addresses.contains(*a)) {
                let wanted = format!("{taken} belongs to 52:54:00:00:00:01 on eth0");
                assert!(said.contains(&wanted), "{said}");
            }
            assert!(!said.contains("192.0.2.51 "), "{said}");
            before.assert_same();
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_lease_goes_on_to_the_next_address() {
        host::start_clean();
        let pool = |len4: u8, len6: u8| {
            format!(
                "pool = [{{ prefix = \"192.0.2.48/{len4}\", reach = \"lan\" }},
                         {{ prefix = \"2001:db8:1::50/{len6}\", reach = \"lan\" }}]"
            )
        };
        let _gone = Taken;
        on_the_wire(&format!("ip addr add {LAN4}/24 dev {TAP}"));
        on_the_wire(&format!("ip addr add {LAN6}/64 dev {TAP} nodad"));
        let config = host::OtherConfig::instead(&pool(29, 127));
        let named = || container::podman("next").with("name", "next");
        let c = named()
            .address("192.0.2.49 auto4 auto6")
            .ingress("icmp:any")
            .start();
        // The first two of the IPv4 pool are not given out, .50 and ::50 are the wire's.
        let shown = cli::run(&["show", "next", "--json"]).success().json();
        assert_eq!(
            shown["addresses"],
            serde_json::json!(["192.0.2.49/32", "192.0.2.51/32", "2001:db8:1::51/128"])
        );
        assert!(wire::ping("192.0.2.51") && wire::ping("2001:db8:1::51"));
        c.stop();
        drop(config);

        // .50 and ::50 are all there is.
        let before = Snapshot::take();
        let _config = host::OtherConfig::instead(&pool(30, 128));
        for (wish, text) in [
            (
                "auto6",
                "no free address is left in 2001:db8:1::50/128; other machines have 1 of them",
            ),
            (
                "192.0.2.50 auto6",
                "192.0.2.50 belongs to 52:54:00:00:00:01 on eth0",
            ),
        ] {
            named().address(wish).refused();
            let error = cli::last_error();
            let said = error["error"].as_str().expect("a text");
            assert!(said.contains(text), "{said}");
            assert_eq!(error["exit_code"], 73, "{error:#}");
        }
        before.assert_same();
    }

    /// Takes the addresses away from the wire machine again.
    struct Taken;

    impl Drop for Taken {
        fn drop(&mut self) {
            for address in ["192.0.2.50/24", "2001:db8:1::50/64"] {
                wire::exec(&["ip", "addr", "del", address, "dev", TAP]);
            }
            wire::exec(&["sysctl", "-qw", "net.ipv6.conf.tap0.accept_dad=0"]);
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn who_comes_later_and_asks_is_told() {
        host::start_clean();
        forget();
        let c = start();
        let _gone = Taken;
        // A kernel asks before it takes an IPv6 address.
        on_the_wire("sysctl -qw net.ipv6.conf.tap0.accept_dad=1");
        on_the_wire(&format!("ip addr add {LAN6}/64 dev {TAP}"));
        host::eventually("the kernel has seen the duplicate", || {
            on_the_wire(&format!("ip -6 addr show dev {TAP}")).contains("dadfailed")
        });
        on_the_wire(&format!("ip addr del {LAN6}/64 dev {TAP}"));
        // An ARP probe, which Linux does not send by itself.
        let probe = wire::unhex(
            &format!(
                "ffffffffffff{mac}0806000108000604 0001{mac}00000000000000000000c0000232",
                mac = wire::WIRE_MAC
            )
            .replace(' ', ""),
        );
        let cursor = wire::cursor();
        wire::send(&[probe]);
        host::eventually("the probe is answered", || {
            let all = cursor.frames();
            let answer = |f: &Frame| f.from_guest && arp(f, [192, 0, 2, 50], [0; 4]);
            all.iter()
                .any(|f| answer(f) && f.source_mac() == wire::GUEST_MAC)
        });
        assert!(!c.drops("ingress").contains_key("address-conflict"));
    }

    #[test]
    #[ignore = "needs the guest"]
    fn another_machine_that_takes_the_address_is_counted() {
        host::start_clean();
        let c = start();
        let before = c.drops("ingress");
        let announcement = wire::unhex(&format!(
            "ffffffffffff{mac}08060001080006040001{mac}c0000232000000000000c0000232",
            mac = "525400000099"
        ));
        wire::send(&[announcement]);
        host::eventually("the conflict is counted", || {
            cli::added(&before, &c.drops("ingress")) == cli::only("address-conflict", 1)
        });
    }

    #[test]
    #[ignore = "needs the guest"]
    fn an_uplink_that_comes_back_answers_again() {
        const ADDRESSES: [&str; 2] = ["198.18.0.50", "2001:db8:9::50"];
        let moved = || cli::run(&["reconcile", "--json"]).success().json()["moved"].clone();
        host::start_clean();
        let lan = SecondNetwork::new();
        // By which it is an uplink.
        let route = || sh("ip route add default dev up9 metric 9999");
        route();
        let c = container::bundle("moves")
            .address(&ADDRESSES.join(" "))
            .ingress("icmp:any")
            .start();
        assert!(ADDRESSES.iter().all(|a| lan.reaches(a)));
        assert_eq!(moved(), serde_json::json!([]));

        lan.make_link_anew();
        route();
        assert!(!ADDRESSES.iter().any(|a| lan.reaches(a)), "by nobody");
        assert_eq!(moved(), serde_json::json!([c.id]));
        for address in ADDRESSES {
            assert!(lan.reaches(address), "{address}");
        }
        assert_eq!(moved(), serde_json::json!([]), "nothing is left to do");

        c.stop();
        assert_eq!(host::run(&["ip", "-6", "neigh", "show", "proxy"]), "");
        drop(lan);
        cli::run(&["reconcile"]).success();
    }
}
