//! What the rules allow works, in both families and both directions; everything else is dropped
//! and counted under its reason. Real runtimes, through podman and from bundles.
//!
//! ```text
//!  containers 198.51.100.N, 2001:db8:2::N ── host 192.0.2.2 ── wire 192.0.2.1 ── 203.0.113.10, .20
//!                                            2001:db8:1::2     2001:db8:1::1     2001:db8:f::10, ::20
//!  echo (TCP and UDP) on 7777 of every address of the wire
//! ```

mod rig;

mod guest {
    use std::time::{Duration, Instant};

    use crate::rig::container::{self, Container, Shot};
    use crate::rig::frames::{self, Ip4, Ip6};
    use crate::rig::{
        ELSEWHERE, ELSEWHERE_6, HOST, HOST_6, OUTSIDE, OUTSIDE_6, WIRE, WIRE_6, cli, host, wire,
    };

    const PROTOCOLS: [&str; 3] = ["tcp", "udp", "icmp"];

    mod smoke {
        use super::*;

        #[test]
        #[ignore = "needs the guest"]
        fn podman_run_reaches_what_its_rules_name_and_nothing_else() {
            host::start_clean();
            let c = container::podman("promise")
                .address("auto")
                .egress("tcp:203.0.113.10:7777 udp:203.0.113.10:7777 icmp:[2001:db8:f::10]")
                .start();
            assert_eq!(c.devices(), "eth0 lo");
            c.reaches("tcp", OUTSIDE, 7777);
            c.reaches("udp", OUTSIDE, 7777);
            c.reaches("icmp", OUTSIDE_6, 0);
            let quiet = wire::cursor();
            c.is_kept_from("no-rule", "tcp", OUTSIDE, 80);
            c.is_kept_from("no-rule", "udp", ELSEWHERE, 7777);
            c.is_kept_from("no-rule", "icmp", OUTSIDE, 0);
            c.is_kept_from("no-rule", "tcp", OUTSIDE_6, 7777);
            quiet.assert_silence();
        }

        #[test]
        #[ignore = "needs the guest"]
        fn a_bundle_without_rules_reaches_nothing_and_is_reached_by_nobody() {
            host::start_clean();
            let c = container::bundle("closed")
                .address("198.51.100.9 2001:db8:2::9")
                .start();
            c.listen("tcp", 7777);
            c.listen("udp", 7777);
            let quiet = wire::cursor();
            for (protocol, outside, host_) in PROTOCOLS
                .iter()
                .flat_map(|p| [(p, OUTSIDE, HOST), (p, OUTSIDE_6, HOST_6)])
            {
                c.is_kept_from("no-rule", protocol, outside, 7777);
                c.is_kept_from("host", protocol, host_, 7777);
            }
            quiet.assert_silence();
            for to in ["198.51.100.9", "2001:db8:2::9"] {
                for protocol in ["tcp", "udp"] {
                    let asked = c.expect_drop("ingress", "no-rule", || {
                        wire::ask(protocol, to, 7777, "anybody?")
                    });
                    assert_eq!(asked, Err("timeout".into()));
                }
                assert!(!c.expect_drop("ingress", "no-rule", || wire::ping(to)));
            }
            assert_eq!(c.heard(0.0), Vec::<serde_json::Value>::new());
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn egress_passes_only_what_a_rule_says_in_both_families() {
        host::start_clean();
        let c = container::bundle("egress")
            .address("198.51.100.10 2001:db8:2::10")
            .egress(
                "tcp:203.0.113.10:7777 udp:203.0.113.10:7777 icmp:203.0.113.10 \
                 tcp:[2001:db8:f::10]:7777 udp:[2001:db8:f::10]:7777 icmp:[2001:db8:f::10]",
            )
            .start();
        let cursor = wire::cursor();
        for protocol in PROTOCOLS {
            c.reaches(protocol, OUTSIDE, 7777);
            c.reaches(protocol, OUTSIDE_6, 7777);
        }
        // They are its own packets, from the host's NIC: nobody translated or tunnelled them.
        let from_guest = cursor.sent_by_guest();
        assert!(from_guest.len() > 6, "{:?}", wire::summaries(&from_guest));
        for frame in &from_guest {
            assert_eq!(frame.source_mac(), wire::GUEST_MAC);
            let source = match frame.ethertype() {
                frames::IPV4 => frame.data[26..30] == [198, 51, 100, 10],
                frames::IPV6 => frame.data[22..38] == frames::v6("2001:db8:2::10").octets(),
                _ => false,
            };
            assert!(source, "{:?}", wire::summaries(&from_guest));
        }

        let quiet = wire::cursor();
        for (near, far) in [(OUTSIDE, ELSEWHERE), (OUTSIDE_6, ELSEWHERE_6)] {
            c.is_kept_from("no-rule", "tcp", near, 80);
            c.is_kept_from("no-rule", "udp", near, 7);
            for protocol in PROTOCOLS {
                c.is_kept_from("no-rule", protocol, far, 7777);
            }
        }
        quiet.assert_silence();
    }

    #[test]
    #[ignore = "needs the guest"]
    fn ingress_passes_only_what_a_rule_says_in_both_families() {
        host::start_clean();
        let c = container::bundle("ingress")
            .address("198.51.100.11 2001:db8:2::11")
            .ingress(
                "tcp:192.0.2.1:8080 udp:192.0.2.1:8080 icmp:192.0.2.1 \
                 tcp:[2001:db8:1::1]:8080 udp:[2001:db8:1::1]:8080 icmp:[2001:db8:1::1]",
            )
            .start();
        for port in [8080, 8081] {
            c.listen("tcp", port);
            c.listen("udp", port);
        }
        for to in ["198.51.100.11", "2001:db8:2::11"] {
            for protocol in ["tcp", "udp"] {
                assert_eq!(
                    wire::ask(protocol, to, 8080, "hello"),
                    Ok("hello".into()),
                    "{to}"
                );
                let other = c.expect_drop("ingress", "no-rule", || {
                    wire::ask(protocol, to, 8081, "hello")
                });
                assert_eq!(other, Err("timeout".into()));
            }
            assert!(wire::ping(to), "{to}");
        }
        let from: Vec<_> = c.heard(0.0).iter().map(|h| h["from"].clone()).collect();
        assert_eq!(from, [WIRE, WIRE, WIRE_6, WIRE_6]);
        // The rule is about who asks, not only about what.
        c.expect_drop("ingress", "no-rule", || {
            wire::send(&[from_wire(frames::udp_frame(
                ELSEWHERE,
                "198.51.100.11",
                8080,
                "hello",
            ))]);
        });
        assert!(c.heard(0.2).is_empty());
        // A rule for those who come in is none for going out.
        c.is_kept_from("no-rule", "tcp", WIRE, 7777);
    }

    #[test]
    #[ignore = "needs the guest"]
    fn replies_pass_and_unsolicited_packets_do_not() {
        host::start_clean();
        let c = container::bundle("replies")
            .address("198.51.100.12 2001:db8:2::12")
            .egress("tcp:any udp:any icmp:any")
            .raw_socket()
            .start();
        // A one-way exchange, to be answered too late at the end.
        assert_eq!(
            c.send_udp(5000, OUTSIDE, 9, "nobody listens"),
            Err("ECONNREFUSED".into())
        );
        let asked = Instant::now();
        // The refusal was an ICMP error about a live flow, and passed; in the other family too.
        assert_eq!(c.attempt("udp", OUTSIDE_6, 9), Err("ECONNREFUSED".into()));
        assert_eq!(c.attempt("tcp", OUTSIDE, 9), Err("ECONNREFUSED".into()));
        c.reaches("udp", OUTSIDE, 7777);

        c.sniff("eth0");
        let (own, own6) = ("198.51.100.12", "2001:db8:2::12");
        let tcp = |flags| {
            let segment = frames::tcp((OUTSIDE, 80), (own, 45000), flags, b"");
            frames::ip_frame(OUTSIDE, own, frames::TCP, segment)
        };
        let quoted = |port| {
            Ip4::new(
                own,
                OUTSIDE,
                frames::UDP,
                frames::udp(own, OUTSIDE, port, 9, b"?"),
            )
        };
        let error = |port| {
            let rest = [&[0; 4], &quoted(port).packet()[..28]].concat();
            let message = frames::icmp(OUTSIDE, own, 3, 3, &rest);
            frames::ip_frame(OUTSIDE, own, frames::ICMP, message)
        };
        let quoted6 = Ip6::new(
            own6,
            OUTSIDE_6,
            frames::UDP,
            frames::udp(own6, OUTSIDE_6, 5999, 9, b"?"),
        );
        let error6 = frames::icmp(
            OUTSIDE_6,
            own6,
            1,
            4,
            &[&[0; 4], &quoted6.packet()[..48]].concat(),
        );
        let cases = [
            ("a segment with ACK", "not-syn", tcp(frames::ACK)),
            ("SYN and ACK", "not-syn", tcp(frames::SYN | frames::ACK)),
            ("FIN", "not-syn", tcp(frames::FIN)),
            ("RST", "not-syn", tcp(frames::RST)),
            ("SYN", "no-rule", tcp(frames::SYN)),
            ("a datagram from a server's port", "no-rule", {
                let datagram = frames::udp(OUTSIDE, own, 53, 45000, b"unsolicited");
                frames::ip_frame(OUTSIDE, own, frames::UDP, datagram)
            }),
            ("the same in IPv6", "no-rule", {
                let datagram = frames::udp(OUTSIDE_6, own6, 53, 45000, b"unsolicited");
                frames::ip_frame(OUTSIDE_6, own6, frames::UDP, datagram)
            }),
            ("an error about no flow", "icmp-unrelated", error(5999)),
            ("an IPv6 error about no flow", "icmp-unrelated", {
                frames::ip_frame(OUTSIDE_6, own6, frames::ICMP6, error6)
            }),
            ("an echo nobody asked for", "no-rule", {
                let message = frames::icmp(OUTSIDE, own, 8, 0, &[0, 1, 0, 1]);
                frames::ip_frame(OUTSIDE, own, frames::ICMP, message)
            }),
            ("a redirect", "icmp-type", {
                let rest = [&[192, 0, 2, 1], &quoted(5000).packet()[..28]].concat();
                frames::ip_frame(
                    WIRE,
                    own,
                    frames::ICMP,
                    frames::icmp(WIRE, own, 5, 1, &rest),
                )
            }),
        ];
        for (what, reason, frame) in cases {
            eprintln!("from the wire: {what}");
            c.expect_drop("ingress", reason, || wire::send(&[from_wire(frame)]));
        }
        assert_eq!(c.heard_frames(0.2), Vec::<Vec<u8>>::new());

        // The same kind of frame about what it did ask passes: the sniffer works, and so does this.
        let late = || {
            let datagram = frames::udp(OUTSIDE, own, 9, 5000, b"an answer");
            from_wire(frames::ip_frame(OUTSIDE, own, frames::UDP, datagram))
        };
        if asked.elapsed() < Duration::from_secs(20) {
            wire::send(&[from_wire(error(5000))]);
            assert_eq!(c.heard_frames(2.0).len(), 1);
        }
        // A flow that was never answered lives for 30 seconds.
        std::thread::sleep(Duration::from_secs(33).saturating_sub(asked.elapsed()));
        c.expect_drop("ingress", "no-rule", || wire::send(&[late()]));
        assert_eq!(c.heard_frames(0.2), Vec::<Vec<u8>>::new());
    }

    #[test]
    #[ignore = "needs the guest"]
    fn two_containers_reach_each_other_only_if_both_rules_say_so() {
        host::start_clean();
        let rules = "tcp:containers:7777 udp:containers:7777 icmp:containers";
        let named = "tcp:198.51.100.23:7777 udp:[2001:db8:2::23]:7777";
        let start = |n: u8, egress: &str, ingress: &str| {
            let c = container::bundle("peer")
                .address(&format!("198.51.100.{n} 2001:db8:2::{n}"))
                .egress(egress)
                .ingress(ingress)
                .start();
            c.listen("tcp", 7777);
            c.listen("udp", 7777);
            c
        };
        let asking = start(21, rules, "");
        let wide = start(22, "tcp:any udp:any icmp:any", "tcp:any udp:any icmp:any");
        let open = start(23, "", rules);
        let exact = start(24, named, "tcp:198.51.100.21:7777");

        let cursor = wire::cursor();
        for protocol in PROTOCOLS {
            for to in ["198.51.100.23", "2001:db8:2::23"] {
                asking.reaches(protocol, to, 7777);
                // `any` is the outside world: it says nothing about containers.
                wide.is_kept_from("containers", protocol, to, 7777);
            }
            // What one side allows, the other still has to.
            for to in ["198.51.100.22", "2001:db8:2::22"] {
                let answer = wide.expect_drop("ingress", "containers", || {
                    asking.attempt(protocol, to, 7777)
                });
                assert_eq!(answer, Err("timeout".into()), "{protocol} to {to}");
            }
        }
        // A rule for exactly one container is enough on either side.
        exact.reaches("tcp", "198.51.100.23", 7777);
        exact.reaches("udp", "2001:db8:2::23", 7777);
        exact.is_kept_from("containers", "udp", "198.51.100.23", 7777);
        asking.reaches("tcp", "198.51.100.24", 7777);
        let _ = exact.expect_drop("ingress", "containers", || {
            asking.attempt("udp", "198.51.100.24", 7777)
        });
        // Another port, and the way back that nobody opened.
        asking.is_kept_from("containers", "tcp", "198.51.100.23", 7778);
        open.is_kept_from("containers", "tcp", "198.51.100.21", 7777);
        // All of it stayed on this host.
        cursor.assert_silence();
    }

    #[test]
    #[ignore = "needs the guest"]
    fn the_host_is_reached_only_by_its_keyword() {
        host::start_clean();
        let _other = host::OtherNetwork::new();
        let echo = host::Echo::new(9000);
        let wide = container::bundle("wide")
            .address("198.51.100.31 2001:db8:2::31")
            .egress("tcp:any udp:any icmp:any tcp:0.0.0.0/0:9000 tcp:192.0.2.0/24")
            .start();
        let friend = container::bundle("friend")
            .address("198.51.100.32 2001:db8:2::32")
            .egress("tcp:host:9000 udp:host:9000 icmp:host")
            .start();
        let quiet = wire::cursor();
        for to in [HOST, HOST_6, "172.31.0.1", "2001:db8:d::1"] {
            for protocol in PROTOCOLS {
                wide.is_kept_from("host", protocol, to, 9000);
            }
        }
        assert_eq!(echo.heard(), Vec::<String>::new());
        for to in [HOST, HOST_6, "172.31.0.1", "2001:db8:d::1"] {
            friend.reaches("tcp", to, 9000);
            friend.reaches("icmp", to, 0);
            friend.is_kept_from("host", "tcp", to, 9001);
        }
        // A datagram's answer has the address that the host prefers.
        friend.reaches("udp", HOST, 9000);
        friend.reaches("udp", HOST_6, 9000);
        assert_eq!(echo.heard().len(), 6);
        // What lies behind another interface of the host is neither the host nor the outside.
        for to in ["172.31.0.55", "2001:db8:d::55"] {
            wide.is_kept_from("other-network", "udp", to, 7777);
            friend.is_kept_from("other-network", "udp", to, 7777);
        }
        quiet.assert_silence();
    }

    #[test]
    #[ignore = "needs the guest"]
    fn the_host_reaches_a_container_only_if_its_ingress_says_so() {
        host::start_clean();
        let c = container::bundle("served")
            .address("198.51.100.33 2001:db8:2::33")
            .ingress("tcp:host:8080 udp:host:8080 icmp:host")
            .start();
        let closed = container::bundle("unserved")
            .address("198.51.100.34 2001:db8:2::34")
            .ingress("tcp:any udp:any icmp:any")
            .start();
        for c in [&c, &closed] {
            c.listen("tcp", 8080);
            c.listen("udp", 8080);
        }
        let cursor = wire::cursor();
        for (to, other) in [
            ("198.51.100.33", "198.51.100.34"),
            ("2001:db8:2::33", "2001:db8:2::34"),
        ] {
            for protocol in ["tcp", "udp"] {
                assert_eq!(
                    host::ask(protocol, to, 8080, "hi").as_deref(),
                    Ok("hi"),
                    "{to}"
                );
                c.expect_drop("ingress", "host", || host::ask(protocol, to, 8081, "hi"))
                    .expect_err("another port");
                closed
                    .expect_drop("ingress", "host", || host::ask(protocol, other, 8080, "hi"))
                    .expect_err("any is not the host");
            }
            assert!(host::ping(to));
            assert!(!closed.expect_drop("ingress", "host", || host::ping(other)));
        }
        cursor.assert_silence();
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_deny_rule_wins_over_every_allow() {
        host::start_clean();
        let c = container::bundle("deny")
            .address("198.51.100.41 2001:db8:2::41")
            .egress(
                "tcp:any udp:any icmp:any !tcp:203.0.113.10:80 !any:203.0.113.16/28 \
                 !udp:[2001:db8:f::/64] tcp:203.0.113.20:7777",
            )
            .ingress("tcp:192.0.2.0/24:7777-7778 !tcp:any:7778")
            .start();
        c.listen("tcp", 7777);
        c.listen("tcp", 7778);
        c.reaches("tcp", OUTSIDE, 7777);
        c.is_kept_from("deny-rule", "tcp", OUTSIDE, 80);
        for protocol in PROTOCOLS {
            c.is_kept_from("deny-rule", protocol, ELSEWHERE, 7777);
        }
        c.reaches("tcp", ELSEWHERE_6, 7777);
        c.is_kept_from("deny-rule", "udp", ELSEWHERE_6, 7777);
        assert_eq!(
            wire::ask("tcp", "198.51.100.41", 7777, "in"),
            Ok("in".into())
        );
        c.expect_drop("ingress", "deny-rule", || {
            wire::ask("tcp", "198.51.100.41", 7778, "in")
        })
        .expect_err("denied");
    }

    #[test]
    #[ignore = "needs the guest"]
    fn ports_ranges_prefixes_and_protocol_numbers_mean_what_they_say() {
        host::start_clean();
        let c = container::bundle("grammar")
            .address("198.51.100.42 2001:db8:2::42")
            .egress(
                "203.0.113.10:80-443 udp:203.0.113.0/28:7777 tcp:[2001:db8:f::/124]:7777 \
                 icmp:203.0.113.10:8 47:203.0.113.10",
            )
            .raw_socket()
            .start();
        for port in [80, 443] {
            let answer = c.http(OUTSIDE, port, "/hello").expect("an answer");
            assert!(answer.contains("client=198.51.100.42"), "{answer}");
        }
        c.is_kept_from("no-rule", "tcp", OUTSIDE, 8080);
        c.is_kept_from("no-rule", "tcp", OUTSIDE, 79);
        c.reaches("udp", OUTSIDE, 7777);
        c.is_kept_from("no-rule", "udp", ELSEWHERE, 7777);
        c.is_kept_from("no-rule", "tcp", OUTSIDE_6, 7777);
        c.reaches("icmp", OUTSIDE, 0);
        // Timestamp request, information request: other types than the one allowed.
        let gre = |marker: &str| {
            let payload = [&[0, 0, 8, 0], marker.as_bytes()].concat();
            Shot::new(Ip4::new("198.51.100.42", OUTSIDE, 47, payload).frame())
        };
        let cursor = wire::cursor();
        c.raw(&gre("a tunnel by its number")).expect("sent");
        assert_eq!(cursor.wait_for("a tunnel by its number").len(), 1);
        let other = Ip4::new("198.51.100.42", ELSEWHERE, 47, vec![0; 20]).frame();
        let _ = c.expect_drop("egress", "protocol", || c.raw(&Shot::new(other)));
    }

    #[test]
    #[ignore = "needs the guest"]
    fn each_special_place_needs_its_keyword() {
        host::start_clean();
        let wide = container::bundle("any")
            .address("198.51.100.43 2001:db8:2::43")
            .egress("tcp:any udp:any tcp:0.0.0.0/0 udp:[::/0]")
            .start();
        let named = container::bundle("named")
            .address("198.51.100.44 2001:db8:2::44")
            .egress("tcp:metadata:80 udp:link-local:7777 udp:multicast:5353 tcp:resolver:53")
            .start();
        let quiet = wire::cursor();
        wide.is_kept_from("metadata", "tcp", "169.254.169.254", 80);
        wide.is_kept_from("link-local", "udp", "169.254.1.1", 7777);
        wide.is_kept_from("multicast", "udp", "224.0.0.251", 5353);
        wide.is_kept_from("multicast", "udp", "ff05::fb", 5353);
        quiet.assert_silence();
        wide.reaches("tcp", OUTSIDE, 7777);

        let answer = named
            .http("169.254.169.254", 80, "/latest")
            .expect("an answer");
        assert!(answer.contains("server=169.254.169.254:80"), "{answer}");
        let cursor = wire::cursor();
        let _ = named.send_udp(5000, "169.254.1.1", 7777, "to a link-local address");
        assert_eq!(cursor.wait_for("to a link-local address").len(), 1);
        let _ = named.send_udp(5000, "224.0.0.251", 5353, "to a group");
        let group = cursor.wait_for("to a group");
        assert_eq!(group.len(), 1);
        assert_eq!(wire::hex(&group[0].data[..6]), "01005e0000fb");
        // The resolver is reached, and only there and on that port.
        let dns = named.ask(&serde_json::json!({"op": "tcp", "to": WIRE, "port": 53}));
        assert_eq!(dns["ok"], true, "{dns}");
        named.is_kept_from("no-rule", "tcp", WIRE, 80);
        named.is_kept_from("metadata", "tcp", "169.254.169.254", 443);
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_container_uses_each_of_its_addresses() {
        host::start_clean();
        let addresses = [
            "198.51.100.51",
            "198.51.100.52",
            "2001:db8:2::51",
            "2001:db8:2::52",
        ];
        let c = container::bundle("many")
            .address(&addresses.join(" "))
            .egress("tcp:203.0.113.10:80 tcp:[2001:db8:f::10]:80")
            .ingress("icmp:any")
            .start();
        for own in addresses {
            let to = if own.contains(':') {
                OUTSIDE_6
            } else {
                OUTSIDE
            };
            let answer = c
                .tcp_from(own, to, 80, "GET / HTTP/1.0\r\n\r\n")
                .expect("an answer");
            assert!(answer.contains(&format!("client={own} ")), "{answer}");
            assert!(wire::ping(own), "{own}");
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn bulk_transfers_arrive_whole_both_ways() {
        host::start_clean();
        let c = container::podman("bulk")
            .address("auto")
            .egress("tcp:203.0.113.10:80 tcp:[2001:db8:f::10]:80")
            .start();
        for to in [OUTSIDE, OUTSIDE_6] {
            let answer = c.upload(to, 80, 4 << 20).expect("an answer");
            assert!(answer.contains(&format!("body={}", 4 << 20)), "{answer}");
            assert_eq!(c.download(to, 80, 4 << 20), Ok((4 << 20).to_string()));
        }
        let drops = (c.drops("egress"), c.drops("ingress"));
        assert_eq!(drops, Default::default(), "nothing was lost to us");
    }

    #[test]
    #[ignore = "needs the guest"]
    fn traffic_is_counted_where_it_belongs() {
        host::start_clean();
        let one = container::bundle("one")
            .address("198.51.100.61")
            .egress("udp:203.0.113.10:7777")
            .start();
        let other = container::bundle("other").address("198.51.100.62").start();
        let traffic = |c: &Container, direction: &str, what: &str| {
            cli::show(&c.id)["traffic"][direction][what]
                .as_u64()
                .expect("a count")
        };
        for _ in 0..3 {
            one.reaches("udp", OUTSIDE, 7777);
        }
        assert_eq!(traffic(&one, "egress", "packets"), 3);
        assert_eq!(traffic(&one, "egress", "flows"), 3);
        assert_eq!(traffic(&one, "ingress", "packets"), 3);
        // 42 bytes of headers and the text.
        let bytes = 3 * (42 + format!("udp to {OUTSIDE} 7777").len() as u64);
        assert_eq!(traffic(&one, "egress", "bytes"), bytes);
        assert_eq!(traffic(&other, "egress", "packets"), 0);
        other.is_kept_from("no-rule", "udp", OUTSIDE, 7777);
        assert_eq!(traffic(&other, "egress", "packets"), 0);
        assert_eq!(one.drops("egress"), cli::Drops::new());
    }

    /// As the wire machine's own stack would send it to the guest.
    fn from_wire(frame: Vec<u8>) -> Vec<u8> {
        frames::addressed(&frame, wire::GUEST_MAC, wire::WIRE_MAC)
    }
}
