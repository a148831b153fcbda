//! What is allowed takes the short way: redirected to and from the NIC, past the backlog of the
//! primary and past netfilter.
//!
//! ```text
//!   container ── eth0 ═ primary │ netif_rx? nft? │ eth0 ── wire
//!                         └────── redirect ────────┘
//! ```

mod rig;

mod guest {
    use crate::rig::{HOST, OUTSIDE, OUTSIDE_6, container, host, wire};

    const MIB: u64 = 1 << 20;

    mod smoke {
        use super::*;

        #[test]
        #[ignore = "needs the guest"]
        fn a_bulk_transfer_enqueues_nothing_on_the_primary_and_meets_no_netfilter() {
            host::start_clean();
            let own = ["198.51.100.80", "2001:db8:2::80"];
            let c = container::podman("bulk")
                .address(&own.join(" "))
                .egress("tcp:203.0.113.10:80 tcp:[2001:db8:f::10]:80 tcp:host:9000")
                .start();
            let primary = c.primary();
            let netfilter = host::Netfilter::watch(&own);
            // Inside it is eth0 too; the host's eth0 receives without netif_rx.
            let enqueues = host::Enqueues::of(&[&primary, "eth0"]);
            for to in [OUTSIDE, OUTSIDE_6] {
                let answer = c.upload(to, 80, 8 * MIB).expect("an answer");
                assert!(answer.contains(&format!("body={}", 8 * MIB)), "{answer}");
                assert_eq!(c.download(to, 80, 8 * MIB), Ok((8 * MIB).to_string()));
            }
            assert_eq!(enqueues.count(), 0, "packets through the backlog");
            assert_eq!(netfilter.packets(), 0, "packets that netfilter saw");

            // Both would have seen it: the way to the host goes through both.
            let echo = host::Echo::new(9000);
            c.reaches("tcp", HOST, echo.port());
            assert!(enqueues.count() > 0);
            assert!(netfilter.packets() > 0);
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn iperf3_takes_the_short_way_too() {
        host::start_clean();
        let c = container::bundle("iperf3")
            .address("198.51.100.81")
            .egress("tcp:203.0.113.10:5201")
            .start();
        let enqueues = host::Enqueues::of(&[&c.primary()]);
        let report = c.run(&["iperf3", "--client", OUTSIDE, "--bytes", "16M", "--json"]);
        let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
        let sent = report["end"]["sum_received"]["bytes"]
            .as_u64()
            .expect("a count");
        assert!(sent >= 15 * MIB, "{sent}");
        assert_eq!(enqueues.count(), 0);
    }

    /// IPv6 without an address is off (CVE-2024-32473).
    #[test]
    #[ignore = "needs the guest"]
    fn both_ends_pass_on_what_they_must_and_believe_no_redirects() {
        host::start_clean();
        let show = |device: &str, files: &[&str], run: &dyn Fn(&[&str]) -> String| {
            let path = |file: &&str| {
                let (family, name) = file.split_once('/').expect("a family");
                format!("/proc/sys/net/{family}/conf/{device}/{name}")
            };
            let paths: Vec<String> = files.iter().map(path).collect();
            let mut command = vec!["cat"];
            command.extend(paths.iter().map(String::as_str));
            run(&command).replace('\n', " ")
        };
        let ipv4 = [
            "ipv4/forwarding",
            "ipv4/accept_redirects",
            "ipv4/send_redirects",
        ];
        let ipv6 = ["ipv6/forwarding", "ipv6/accept_redirects", "ipv6/accept_ra"];
        let off = ["ipv6/disable_ipv6"];
        let both = container::bundle("settings")
            .address("198.51.100.83 2001:db8:2::83")
            .start();
        let one = container::bundle("settings4")
            .address("198.51.100.84")
            .start();
        for (c, files, outside, inside) in [
            (&both, &ipv4[..], "1 0 0 ", "0 0 0 "),
            (&both, &ipv6[..], "1 0 0 ", "0 0 0 "),
            (&both, &off[..], "0 ", "0 "),
            (&one, &ipv4[..], "1 0 0 ", "0 0 0 "),
            (&one, &off[..], "1 ", "1 "),
        ] {
            assert_eq!(show(&c.primary(), files, &host::run), outside, "{files:?}");
            assert_eq!(show("eth0", files, &|w| c.run(w)), inside, "{files:?}");
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn what_comes_in_skips_the_backlog_and_netfilter_as_well() {
        host::start_clean();
        let own = ["198.51.100.82", "2001:db8:2::82"];
        let c = container::bundle("inbound")
            .address(&own.join(" "))
            .ingress("tcp:any:8080 udp:any:8080 icmp:any")
            .start();
        c.listen("tcp", 8080);
        c.listen("udp", 8080);
        let primary = c.primary();
        let netfilter = host::Netfilter::watch(&own);
        let enqueues = host::Enqueues::of(&[&primary, "eth0"]);
        for to in own {
            for protocol in ["tcp", "udp"] {
                assert_eq!(wire::ask(protocol, to, 8080, "in"), Ok("in".into()));
            }
            assert!(wire::ping(to));
        }
        assert_eq!(enqueues.count(), 0);
        assert_eq!(netfilter.packets(), 0);
    }

    #[test]
    #[ignore = "needs the guest"]
    fn containers_on_one_host_meet_without_netfilter_in_one_pass() {
        host::start_clean();
        let one = container::bundle("one")
            .address("198.51.100.83")
            .egress("udp:containers:7777")
            .start();
        let other = container::bundle("other")
            .address("198.51.100.84")
            .ingress("udp:containers:7777")
            .start();
        other.listen("udp", 7777);
        let primaries = [one.primary(), other.primary()];
        let netfilter = host::Netfilter::watch(&["198.51.100.83", "198.51.100.84"]);
        let on_primaries = host::Enqueues::of(&[&primaries[0], &primaries[1]]);
        let inside = host::Enqueues::of(&["eth0"]);
        for _ in 0..5 {
            one.reaches("udp", "198.51.100.84", 7777);
        }
        assert_eq!(on_primaries.count(), 0);
        // Five there, five back.
        assert_eq!(inside.count(), 10);
        assert_eq!(netfilter.packets(), 0);
    }
}
