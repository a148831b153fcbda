//! The way between a container and the other side as people know it: path MTU discovery in both
//! places where it can be needed, headers that arrive as they were sent, traceroute, several routes
//! and addresses, policy routing.
//!
//! ```text
//!   container ══ guest ── 1500 ── wire machine ── 1280 ── far (tests/rig/far.rs)
//!            1500     uplink        a router
//! ```

mod rig;

mod guest {
    use crate::rig::container::{self, Container, Shot};
    use crate::rig::far::{self, FarNetwork};
    use crate::rig::{
        ELSEWHERE, ELSEWHERE_6, OUTSIDE, OUTSIDE_6, WIRE, WIRE_6, cli, frames, host, wire,
    };

    /// Of an upload and a download: enough for several windows.
    const BODY: u64 = 1 << 17;

    /// Frames leave the guest's kernel as they would leave a NIC that cuts nothing.
    struct NoOffload;

    impl NoOffload {
        fn new() -> Self {
            host::run(&["ethtool", "-K", "eth0", "tso", "off", "gso", "off"]);
            Self
        }
    }

    impl Drop for NoOffload {
        fn drop(&mut self) {
            host::attempt(&["ethtool", "-K", "eth0", "tso", "on", "gso", "on"]);
        }
    }

    /// Routes of the host, for as long as a test runs.
    struct Routes(Vec<Vec<String>>);

    impl Routes {
        fn add(commands: &[&str]) -> Self {
            let split = |c: &str| c.split(' ').map(str::to_owned).collect::<Vec<_>>();
            let mut undo = Vec::new();
            for command in commands {
                let words = split(command);
                run(&words);
                undo.insert(0, split(&command.replacen(" add ", " del ", 1)));
            }
            Self(undo)
        }
    }

    fn run(words: &[String]) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        host::run(&words);
    }

    impl Drop for Routes {
        fn drop(&mut self) {
            for words in &self.0 {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                host::attempt(&words);
            }
        }
    }

    fn uploads(c: &Container, to: &str, bytes: u64) {
        let answer = c.upload(to, 80, bytes).expect("an answer");
        assert!(answer.contains(&format!("body={bytes}")), "{answer}");
        assert_eq!(c.download(to, 80, bytes), Ok(bytes.to_string()));
    }

    /// Length of each IP packet the guest sent to an address.
    fn lengths(frames: &[wire::Frame], to: &str) -> Vec<usize> {
        let to: std::net::IpAddr = to.parse().expect("an address");
        frames
            .iter()
            .filter(|f| match to {
                std::net::IpAddr::V4(a) => {
                    f.ethertype() == frames::IPV4 && f.data[30..34] == a.octets()
                }
                std::net::IpAddr::V6(a) => {
                    f.ethertype() == frames::IPV6 && f.data[38..54] == a.octets()
                }
            })
            .map(|f| f.data.len() - 14)
            .collect()
    }

    mod smoke {
        use super::*;

        #[test]
        #[ignore = "needs the guest"]
        fn tcp_and_udp_adapt_to_a_smaller_mtu_in_the_middle() {
            host::start_clean();
            let _far = FarNetwork::new();
            let _plain = NoOffload::new();
            let c = container::podman("middle")
                .address("198.51.100.90 2001:db8:2::90")
                .egress("tcp:any")
                .start();
            for to in [far::ADDRESS, far::ADDRESS_6] {
                let cursor = wire::cursor();
                // The first segments are lost.
                uploads(&c, to, BODY);
                let frames = cursor.frames();
                let errors = frames.iter().filter(|f| is_too_big(f)).count();
                let sent = lengths(&frames, to);
                assert!(
                    sent.len() > 50 && sent.iter().all(|l| *l <= 1500),
                    "{sent:?}"
                );
                let large = sent.iter().filter(|l| **l > 1280).count();
                assert!(errors > 0 && large >= errors, "{errors} errors: {sent:?}");
            }
            let other = container::bundle("middle-udp")
                .address("198.51.100.91 2001:db8:2::91")
                .egress("udp:any")
                .start();
            for (to, header) in [(far::ADDRESS, 28), (far::ADDRESS_6, 48)] {
                let fits = 1280 - header;
                let cursor = wire::cursor();
                let sizes = [1500 - header, 1500 - header, fits + 1, fits, 100];
                let fared = other.send_sizes(to, far::ECHO_PORT, &sizes);
                assert_eq!(fared, "EMSGSIZE EMSGSIZE EMSGSIZE echo echo", "{to}");
                assert_eq!(
                    lengths(&cursor.frames(), to),
                    [1500, 1280, header as usize + 100]
                );
            }
            for c in [&c, &other] {
                assert_eq!(c.drops("egress"), cli::Drops::new());
                assert_eq!(c.drops("ingress"), cli::Drops::new());
            }
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn masqueraded_flows_adapt_as_well() {
        host::start_clean();
        let _far = FarNetwork::new();
        let _routes = Routes::add(&[
            "ip route add 203.0.113.20/32 via 192.0.2.1 mtu lock 1300",
            "ip route add 2001:db8:f::20/128 via 2001:db8:1::1 mtu lock 1300",
        ]);
        let c = container::bundle("private")
            .address("10.87.128.90 fd00:87::90")
            .with("reach", "masquerade")
            .egress("tcp:any udp:any")
            .start();
        // The router's error quotes the packet as it left; the container hears of its own.
        for (to, header) in [(far::ADDRESS, 28), (far::ADDRESS_6, 48)] {
            let cursor = wire::cursor();
            uploads(&c, to, BODY);
            assert!(cursor.frames().iter().any(is_too_big), "{to}");
            let fits = 1280 - header;
            let fared = c.send_sizes(to, far::ECHO_PORT, &[fits + 1, fits]);
            assert_eq!(fared, "EMSGSIZE echo", "{to}");
        }
        assert_eq!(c.drops("ingress"), cli::Drops::new());
        // And ours.
        for (to, header) in [(ELSEWHERE, 28), (ELSEWHERE_6, 48)] {
            c.expect_drop("egress", "oversize", || uploads(&c, to, BODY));
            let fits = 1300 - header;
            assert_eq!(c.send_sizes(to, 7777, &[fits + 1, fits]), "EMSGSIZE echo");
        }
        let c = container::bundle("private-udp")
            .address("10.87.128.91 fd00:87::91")
            .with("reach", "masquerade")
            .egress("udp:any")
            .start();
        for (to, most) in [(far::ADDRESS, 1280 - 28), (far::ADDRESS_6, 1280 - 48)] {
            let fared = c.send_sizes(to, far::ECHO_PORT, &[1400, most + 1, most]);
            assert_eq!(fared, "EMSGSIZE EMSGSIZE echo", "{to}");
        }
    }

    /// From the wire: fragmentation needed, or packet too big.
    fn is_too_big(frame: &wire::Frame) -> bool {
        let at_ip = &frame.data[14..];
        !frame.from_guest
            && match frame.ethertype() {
                frames::IPV4 => at_ip[9] == frames::ICMP && at_ip[20..22] == [3, 4],
                frames::IPV6 => at_ip[6] == frames::ICMP6 && at_ip[40] == 2,
                _ => false,
            }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_route_of_the_host_with_a_smaller_mtu_is_answered_by_us() {
        host::start_clean();
        let _plain = NoOffload::new();
        let _routes = Routes::add(&[
            "ip route add 203.0.113.20/32 via 192.0.2.1 mtu lock 1300",
            "ip route add 2001:db8:f::20/128 via 2001:db8:1::1 mtu lock 1300",
        ]);
        let c = container::bundle("route")
            .address("198.51.100.92 2001:db8:2::92")
            .egress("tcp:any udp:any")
            .start();
        for (to, header) in [(ELSEWHERE, 28), (ELSEWHERE_6, 48)] {
            let cursor = wire::cursor();
            // TCP first: its first large segments are GSO packets.
            c.expect_drop("egress", "oversize", || uploads(&c, to, BODY));
            let fits = 1300 - header;
            assert_eq!(
                c.send_sizes(to, 7777, &[fits + 1, fits]),
                "EMSGSIZE echo",
                "{to}: its kernel has not forgotten"
            );
            let sent = lengths(&cursor.frames(), to);
            assert!(sent.len() > 50, "{sent:?}");
            assert!(sent.iter().all(|l| *l <= 1300), "{sent:?}");
        }
        // Nothing learned yet here: UDP finds out.
        let c = container::bundle("route-udp")
            .address("198.51.100.93 2001:db8:2::93")
            .egress("udp:any")
            .start();
        for (to, header) in [(ELSEWHERE, 28), (ELSEWHERE_6, 48)] {
            let fits = 1300 - header;
            let fared = c.expect_drop("egress", "oversize", || {
                c.send_sizes(to, 7777, &[1500 - header, fits + 1, fits])
            });
            assert_eq!(fared, "EMSGSIZE EMSGSIZE echo", "{to}");
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_container_that_raises_its_mtu_is_told_and_the_wire_sees_nothing_large() {
        host::start_clean();
        let _plain = NoOffload::new();
        let c = container::bundle("raised")
            .address("198.51.100.94 2001:db8:2::94")
            .egress("tcp:any udp:any")
            .start();
        let cursor = wire::cursor();
        let pid = c.pid().to_string();
        host::run(&[
            "nsenter", "--target", &pid, "--net", "ip", "link", "set", "eth0", "mtu", "9000",
        ]);
        for (to, header) in [(OUTSIDE, 28), (OUTSIDE_6, 48)] {
            let fits = 1500 - header;
            let fared = c.expect_drop("egress", "oversize", || {
                c.send_sizes(to, 7777, &[8000, fits + 1, fits])
            });
            assert_eq!(fared, "EMSGSIZE EMSGSIZE echo", "{to}");
            uploads(&c, to, BODY);
        }
        let sent = cursor.sent_by_guest();
        let most = sent.iter().map(|f| f.data.len()).max();
        assert_eq!(most, Some(1514), "frames of the uplink's MTU and no more");
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_container_with_a_small_mtu_of_its_own_still_gets_what_is_sent_to_it() {
        host::start_clean();
        let own = ["198.51.100.95", "2001:db8:2::95"];
        let c = container::bundle("small")
            .address(&own.join(" "))
            .with("mtu", "1280")
            .egress("tcp:any udp:any")
            .ingress("tcp:any udp:any")
            .start();
        for to in [OUTSIDE, OUTSIDE_6] {
            uploads(&c, to, BODY);
        }
        c.listen("udp", 9000);
        c.listen("tcp", 9000);
        for to in own {
            // Larger than its MTU, which is about what it sends.
            let large = "l".repeat(1400);
            let _ = wire::ask("udp", to, 9000, &large);
            let heard = c.heard(2.0);
            assert_eq!(heard.len(), 1, "{heard:?}");
            assert_eq!(heard[0]["data"], large.as_str());
            assert_eq!(wire::ask("tcp", to, 9000, &large), Ok(large));
            let _ = c.heard(0.0);
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn hop_limit_dscp_and_ecn_arrive_as_they_were_sent() {
        host::start_clean();
        let c = container::bundle("headers")
            .address("198.51.100.96 2001:db8:2::96")
            .egress("udp:any")
            .raw_socket()
            .start();
        c.sniff("eth0");
        for (own, to) in [("198.51.100.96", OUTSIDE), ("2001:db8:2::96", OUTSIDE_6)] {
            for (class, hops) in [(0xb9, 37), (0x03, 1), (0x00, 255)] {
                let out = with_header(frames::udp_frame(own, to, 9, "outwards"), class, hops);
                let cursor = wire::cursor();
                c.raw(&Shot::new(out.clone())).expect("it is allowed");
                let seen = cursor.wait_for("outwards");
                assert_eq!(seen[0].data[12..], out[12..], "on the wire");

                let payload = frames::udp(to, own, 9, 40000, b"inwards");
                let back = frames::ip_frame(to, own, frames::UDP, payload);
                let back = with_header(back, class, hops);
                wire::send(&[frames::addressed(&back, wire::GUEST_MAC, wire::WIRE_MAC)]);
                // Also heard: that nobody listens at the port of the one before.
                host::eventually("it arrives as it was sent", || {
                    c.heard_frames(0.5).iter().any(|f| f[12..] == back[12..])
                });
            }
        }
    }

    /// The same frame with this traffic class and hop limit.
    fn with_header(mut frame: Vec<u8>, class: u8, hops: u8) -> Vec<u8> {
        let at_ip = &mut frame[14..];
        if at_ip[0] >> 4 == 4 {
            at_ip[1] = class;
            at_ip[8] = hops;
            at_ip[10..12].fill(0);
            let sum = frames::checksum(&[&at_ip[..20]]).to_be_bytes();
            at_ip[10..12].copy_from_slice(&sum);
        } else {
            at_ip[0] = 0x60 | class >> 4;
            at_ip[1] = class << 4 | at_ip[1] & 0x0f;
            at_ip[7] = hops;
        }
        frame
    }

    #[test]
    #[ignore = "needs the guest"]
    fn traceroute_shows_the_way_and_we_are_no_hop_on_it() {
        host::start_clean();
        let _far = FarNetwork::new();
        let c = container::bundle("trace")
            .address("198.51.100.97 2001:db8:2::97")
            .egress("udp:any icmp:any")
            .raw_socket()
            .start();
        for (to, router, how) in [
            (far::ADDRESS, WIRE, &["-4"][..]),
            (far::ADDRESS, WIRE, &["-4", "-I"]),
            (far::ADDRESS_6, WIRE_6, &["-6"]),
        ] {
            let command = [
                "busybox",
                "traceroute",
                "-n",
                "-q",
                "1",
                "-w",
                "2",
                "-m",
                "4",
            ];
            let shown = c.run(&[&command[..], how, &[to]].concat());
            let hops: Vec<&str> = shown
                .lines()
                .skip(1)
                .filter_map(|l| l.split_whitespace().nth(1))
                .collect();
            assert_eq!(hops, [router, to], "{how:?}: {shown}");
        }
        // By ICMP in IPv6, which busybox does not do.
        c.sniff("eth0");
        for (hops, kind, from) in [(1, 3, WIRE_6), (2, 129, far::ADDRESS_6)] {
            let own = "2001:db8:2::97";
            let echo = frames::icmp(own, far::ADDRESS_6, 128, 0, &[0, 7, 0, hops]);
            let echo = frames::ip_frame(own, far::ADDRESS_6, frames::ICMP6, echo);
            c.raw(&Shot::new(with_header(echo, 0, hops)))
                .expect("it is allowed");
            let heard = c.heard_frames(2.0);
            assert!(
                heard
                    .iter()
                    .any(|f| f[22..38] == frames::v6(from).octets() && f[54] == kind),
                "no answer {kind} of {from}: {heard:02x?}"
            );
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn several_addresses_are_sources_and_several_routes_lead_through_it() {
        host::start_clean();
        let own = [
            "198.51.100.98",
            "198.51.100.99",
            "2001:db8:2::98",
            "2001:db8:2::99",
        ];
        let c = container::bundle("several")
            .address(&own.join(" "))
            .with(
                "routes",
                "203.0.113.10/32 203.0.113.20/32 2001:db8:f::10/128",
            )
            .egress("tcp:any udp:any")
            .start();
        for source in own {
            let to = if source.contains(':') {
                OUTSIDE_6
            } else {
                OUTSIDE
            };
            let send = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            let answer = c.tcp_from(source, to, 80, send).expect("an answer");
            assert!(answer.contains(&format!("client={source} ")), "{answer}");
        }
        c.reaches("udp", ELSEWHERE, 7777);
        for to in [WIRE, ELSEWHERE_6, WIRE_6] {
            assert_eq!(c.attempt("tcp", to, 80), Err("ENETUNREACH".into()), "{to}");
        }
        // Too-big answers arrive with such routes as well.
        let _routes = Routes::add(&["ip route add 203.0.113.10/32 via 192.0.2.1 mtu lock 1300"]);
        let fared = c.send_sizes(OUTSIDE, 7777, &[1472, 1272]);
        assert_eq!(fared, "EMSGSIZE echo");
    }

    /// Whose packets a rule sends into a table where nothing is reachable.
    struct Rule<'a>(&'a str);

    impl<'a> Rule<'a> {
        fn new(words: &'a str) -> Self {
            Self::change("add", words);
            Self(words)
        }

        fn change(verb: &str, words: &str) {
            for ip in ["ip -4", "ip -6"] {
                host::run(&[
                    "sh",
                    "-c",
                    &format!("{ip} rule {verb} {words} pref 99 table 99"),
                ]);
            }
        }
    }

    impl Drop for Rule<'_> {
        fn drop(&mut self) {
            Self::change("del", self.0);
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn routing_rules_of_the_host_count_but_for_those_that_doctor_names() {
        host::start_clean();
        let c = container::bundle("rules")
            .address("198.51.100.89 2001:db8:2::89")
            .egress("tcp:any udp:any")
            .start();
        let _table = Routes::add(&[
            "ip route add blackhole default table 99",
            "ip -6 route add blackhole default table 99",
        ]);
        let named = || {
            let ran = cli::run(&["doctor", "--json"]);
            let findings = ran.json();
            let routing = findings
                .as_array()
                .and_then(|all| all.iter().find(|f| f["check"] == "routing").cloned());
            let routing = routing.expect("a line about routing");
            assert_eq!(routing["ok"], true);
            (routing["detail"].to_string(), routing["fix"].is_string())
        };
        assert!(!named().1);
        for words in [
            &format!("iif {}", c.primary())[..],
            "ipproto udp dport 7777",
            "not fwmark 0x1",
        ] {
            let _rule = Rule::new(words);
            for to in [OUTSIDE, OUTSIDE_6] {
                c.is_kept_from("no-route", "udp", to, 7777);
            }
            assert!(!named().1, "{words}: it counts");
        }
        for (from, to) in [("198.51.100.89", OUTSIDE), ("2001:db8:2::89", OUTSIDE_6)] {
            let family = if to == OUTSIDE { "-4" } else { "-6" };
            let rule = |verb: &str, by: &str| {
                host::run(&[
                    "sh",
                    "-c",
                    &format!("ip {family} rule {verb} {by} pref 99 table 99"),
                ]);
            };
            for by in [format!("from {from}"), format!("to {to}")] {
                rule("add", &by);
                c.is_kept_from("no-route", "udp", to, 7777);
                rule("del", &by);
            }
        }
        for (words, why) in [
            ("fwmark 0x1", "99 (fwmark 0x1"),
            ("tos 0x10", "99 (by traffic class)"),
        ] {
            let _rule = Rule::new(words);
            for to in [OUTSIDE, OUTSIDE_6] {
                c.reaches("udp", to, 7777);
            }
            let (detail, has_fix) = named();
            assert!(detail.contains(why) && has_fix, "{detail}");
        }
    }
}
