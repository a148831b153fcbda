//! Containers with private addresses reach the wire under the host's, in both families; nobody reaches
//! them from there, and the host's own connections are left alone. Real runtimes.
//!
//! ```text
//!  containers 10.87.128.N, fd00:87::N ── host 192.0.2.2 ── wire 192.0.2.1 ── 203.0.113.10, .20
//!                                        2001:db8:1::2     2001:db8:1::1     2001:db8:f::10, ::20
//!  echo (TCP and UDP) on 7 and 7777 of every address of the wire, HTTP on 80
//! ```

mod rig;

mod guest {
    use std::collections::BTreeSet;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use serde_json::{Value, json};

    use crate::rig::container::{self, Container};
    use crate::rig::probe::seen_as;
    use crate::rig::{
        ELSEWHERE, HOST, HOST_6, OUTSIDE, OUTSIDE_6, WIRE, WIRE_6, cli, frames, host, wire,
    };

    const POOLS: &str = r#"
[[pool]]
prefix = "10.87.128.0/17"
reach = "masquerade"
[[pool]]
prefix = "fd00:87::/64"
reach = "masquerade"
"#;

    fn private(name: &str, n: u8) -> container::Spec {
        container::bundle(name)
            .address(&format!("10.87.128.{n} fd00:87::{n}"))
            .egress("any:any")
    }

    /// Every IP frame that the guest sent has one of the host's own addresses.
    #[track_caller]
    fn assert_only_the_hosts(cursor: wire::Cursor) {
        let sent = cursor.sent_by_guest();
        assert!(!sent.is_empty());
        for frame in &sent {
            let source = match frame.ethertype() {
                frames::IPV4 => frame.data[26..30] == [192, 0, 2, 2],
                frames::IPV6 => frame.data[22..38] == frames::v6(HOST_6).octets(),
                _ => false,
            };
            assert!(source, "{:?}", wire::summaries(&sent));
        }
    }

    fn reserved() -> String {
        let path = "/proc/sys/net/ipv4/ip_local_reserved_ports";
        std::fs::read_to_string(path)
            .expect("read it")
            .trim()
            .into()
    }

    mod smoke {
        use super::*;

        #[test]
        #[ignore = "needs the guest"]
        fn a_private_address_reaches_the_wire_under_the_hosts_in_both_families() {
            host::start_clean();
            let _config = host::OtherConfig::with(POOLS);
            let cursor = wire::cursor();
            let c = container::podman("private")
                .address("auto")
                .egress("any:any")
                .start();
            for to in [OUTSIDE, OUTSIDE_6, WIRE, WIRE_6] {
                for protocol in ["tcp", "udp", "icmp"] {
                    c.reaches(protocol, to, 7777);
                }
            }
            assert_eq!(seen_as(&c, OUTSIDE), HOST);
            assert_eq!(seen_as(&c, OUTSIDE_6), HOST_6);
            assert_only_the_hosts(cursor);
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn large_transfers_pass_both_ways_and_the_first_and_last_leave_no_trace() {
        host::start_clean();
        let _config = host::OtherConfig::with(POOLS);
        // The programs stay loaded once they are.
        private("warm", 9).start().stop();
        let before = host::Snapshot::take();
        assert_eq!(reserved(), "");
        let c = private("bulk", 10).start();
        assert_eq!(reserved(), "4096-29999");
        for to in [OUTSIDE, OUTSIDE_6] {
            let bytes = 8 << 20;
            assert_eq!(c.download(to, 80, bytes), Ok(bytes.to_string()));
            let sent = c.upload(to, 80, bytes).expect("an answer");
            assert!(sent.contains(&format!("body={bytes}")), "{sent}");
        }
        c.stop();
        before.assert_same();
    }

    #[test]
    #[ignore = "needs the guest"]
    fn the_wire_reaches_no_private_address_and_no_port_of_the_share() {
        host::start_clean();
        let _config = host::OtherConfig::with(POOLS);
        let c = private("hidden", 11).ingress("any:any").start();
        c.listen("tcp", 7777);
        let routes = [
            ["ip", "route", "replace", "10.87.128.0/17", "via", HOST],
            ["ip", "route", "replace", "fd00:87::/64", "via", HOST_6],
        ];
        for route in routes {
            wire::exec(&route).success();
        }
        for to in ["10.87.128.11", "fd00:87::11"] {
            let asked = c.expect_drop("ingress", "nat-direct", || wire::ping(to));
            assert!(!asked);
        }
        for route in routes {
            let delete = [route[0], route[1], "delete", route[3]];
            wire::exec(&delete).success();
        }
        // The host itself answers for a port of the share that nobody uses.
        let share = cli::show("hidden")["nat_ports"].clone();
        let share = share.as_str().expect("a share").to_owned();
        let first = share
            .split('-')
            .next()
            .expect("a port")
            .parse()
            .expect("a number");
        let asked = wire::ask("tcp", HOST, first, "anybody?");
        assert_eq!(asked, Err("ECONNREFUSED".into()), "{share}");
        assert_eq!(c.heard(0.0), Vec::<Value>::new());
    }

    #[test]
    #[ignore = "needs the guest"]
    fn errors_of_the_wire_reach_the_socket_they_are_about() {
        host::start_clean();
        let _config = host::OtherConfig::with(POOLS);
        let c = private("errors", 12).start();
        for to in [OUTSIDE, OUTSIDE_6] {
            // Nothing listens there, and the wire's kernel says so.
            for protocol in ["udp", "tcp"] {
                let answer = c.exchange(protocol, to, 9);
                assert_eq!(answer, Err("ECONNREFUSED".into()), "{protocol} {to}");
            }
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn host_containers_and_wire_are_kept_apart() {
        host::start_clean();
        let _config = host::OtherConfig::with(POOLS);
        let a = private("a", 13)
            .egress("any:any any:containers any:host")
            .start();
        let b = private("b", 14).ingress("any:containers any:host").start();
        b.listen("tcp", 7777);
        let server = host::Echo::new(7780);
        // Among containers, and with the host, addresses are what they are.
        for to in ["10.87.128.14", "fd00:87::14"] {
            a.reaches("tcp", to, 7777);
        }
        let who: BTreeSet<String> = b
            .heard(2.0)
            .iter()
            .filter_map(|h| h["from"].as_str().map(str::to_owned))
            .collect();
        assert_eq!(
            who,
            ["10.87.128.13", "fd00:87::13"].map(String::from).into()
        );
        a.reaches("tcp", HOST, server.port());
        for to in ["10.87.128.14", "fd00:87::14"] {
            assert_eq!(host::ask("tcp", to, 7777, "hello"), Ok("hello".into()));
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_share_that_is_used_up_is_a_drop_with_its_reason_and_hurts_nobody_else() {
        host::start_clean();
        let lines = format!("nat_ports = \"20000-20063\"\n{POOLS}");
        let _config = host::OtherConfig::with(&lines);
        let greedy = private("greedy", 15).start();
        let modest = private("modest", 16).start();
        private("third", 17).refused();
        let error = cli::last_error();
        assert_eq!(error["exit_code"], cli::CONFLICT, "{error}");
        for (key, says) in [("error", "20000-20063"), ("hint", "nat_ports")] {
            let text = error[key].as_str().expect("a text");
            assert!(text.contains(says), "{error}");
        }
        let flows = json!({"op": "flows", "remotes": [[OUTSIDE, 7777]], "count": 40, "timeout": 1});
        let before = greedy.drops("egress");
        let answer = greedy.ask(&flows);
        assert_eq!(answer["wrong"], 0, "{answer}");
        assert_eq!(answer["answered"], 32, "{answer}");
        let added = cli::added(&before, &greedy.drops("egress"));
        assert_eq!(added.keys().collect::<Vec<_>>(), ["nat-ports"], "{added:?}");
        // Another remote side, and the other container.
        greedy.reaches("udp", ELSEWHERE, 7777);
        modest.reaches("udp", OUTSIDE, 7777);
    }

    #[test]
    #[ignore = "needs the guest"]
    fn ten_thousand_flows_of_eight_containers_and_the_hosts_own_find_back() {
        host::start_clean();
        let _config = host::OtherConfig::with(POOLS);
        let containers: Vec<Container> = (0..8)
            .map(|n| private(&format!("many{n}"), 20 + n).start())
            .collect();
        let remotes = json!([
            [OUTSIDE, 7777],
            [OUTSIDE, 7],
            [ELSEWHERE, 7777],
            [ELSEWHERE, 7],
            [WIRE, 7777],
            [WIRE, 7],
        ]);
        let request = json!({"op": "flows", "remotes": remotes, "count": 1250, "timeout": 120});
        // The host opens sockets of its own at the same time, by the same program.
        let mut hosts = Command::new(container::INSIDE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start it");
        let mut input = hosts.stdin.take().expect("a pipe");
        let own = json!({"op": "flows", "remotes": remotes, "count": 20_000, "timeout": 120});
        std::io::Write::write_all(&mut input, format!("{own}\n").as_bytes()).expect("ask it");
        let answers: Vec<Value> = std::thread::scope(|scope| {
            let asked: Vec<_> = containers
                .into_iter()
                .map(|c| {
                    let request = &request;
                    // Back with its answer, so that all live until all have answered.
                    scope.spawn(move || (c.ask(request), c))
                })
                .collect();
            let answered: Vec<(Value, Container)> = asked
                .into_iter()
                .map(|a| a.join().expect("an answer"))
                .collect();
            answered.into_iter().map(|(answer, _)| answer).collect()
        });
        drop(input);
        let out = hosts.wait_with_output().expect("it ends").stdout;
        let last = String::from_utf8_lossy(&out);
        let host_answer: Value =
            serde_json::from_str(last.lines().last().expect("an answer")).expect("JSON");
        for answer in answers {
            assert_eq!(
                (&answer["wrong"], &answer["answered"]),
                (&json!(0), &json!(1250)),
                "{answer}"
            );
        }
        assert_eq!(
            (&host_answer["wrong"], &host_answer["answered"]),
            (&json!(0), &json!(20_000)),
            "{host_answer}"
        );
    }

    /// The host has another IPv4 address for a while, as after a new lease of DHCP.
    struct OtherAddress;

    impl OtherAddress {
        const NEW: &str = "192.0.2.3";

        fn new() -> Self {
            Self::replace(HOST, Self::NEW);
            Self
        }

        fn replace(old: &str, new: &str) {
            let with_length = |address: &str| format!("{address}/24");
            host::run(&["ip", "addr", "del", &with_length(old), "dev", "eth0"]);
            host::run(&["ip", "addr", "add", &with_length(new), "dev", "eth0"]);
            host::run(&["ip", "route", "replace", "default", "via", WIRE]);
        }
    }

    impl Drop for OtherAddress {
        fn drop(&mut self) {
            Self::replace(Self::NEW, HOST);
        }
    }

    /// Until one exchange succeeds; how long that took.
    #[track_caller]
    fn recovers(c: &Container, protocol: &str, to: &str) -> Duration {
        let begun = Instant::now();
        while c.attempt(protocol, to, 7777).is_err() {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "{protocol} to {to}"
            );
        }
        begun.elapsed()
    }

    #[test]
    #[ignore = "needs the guest"]
    fn flows_follow_an_address_that_changes() {
        host::start_clean();
        let _config = host::OtherConfig::with(POOLS);
        let c = private("moving", 30).start();
        let fixed =
            json!({"op": "udp", "to": OUTSIDE, "port": 7777, "source_port": 5555, "timeout": 0.5});
        assert_eq!(c.ask(&fixed)["ok"], true);
        let (flow, other) = {
            let _moved = OtherAddress::new();
            let begun = Instant::now();
            while c.ask(&fixed)["ok"] != true {
                assert!(
                    begun.elapsed() < Duration::from_secs(20),
                    "UDP never recovers"
                );
            }
            let flow = begun.elapsed();
            let fresh = recovers(&c, "tcp", OUTSIDE);
            assert_eq!(seen_as(&c, OUTSIDE), OtherAddress::NEW);
            (flow, fresh)
        };
        recovers(&c, "udp", OUTSIDE);
        assert_eq!(seen_as(&c, OUTSIDE), HOST);
        println!("the same UDP socket again after {flow:?}, TCP after {other:?}");
        assert!(flow < Duration::from_secs(5), "{flow:?}");
    }
}
