//! What rules mean for the first packet of a flow, in both directions, and for policies that are
//! missing.

mod common;

mod root {
    use crate::common::datapath::{Answer, Datapath, MARK_JUDGED, MARK_REPLY, Outcome};
    use crate::common::packet::{Packet, icmp, raw, tcp, udp};
    use crate::common::tables::put;

    #[track_caller]
    fn dropped(answer: &Answer, reason: &'static str) {
        assert_eq!(answer.outcome, Outcome::Drop(reason));
    }

    #[track_caller]
    fn redirected(answer: &Answer) {
        assert_eq!(answer.outcome, Outcome::Redirect);
    }

    fn tcp_to(to: &str) -> Packet {
        let from = if to.starts_with('[') {
            "[2001:db8:87::2]"
        } else {
            "10.87.0.2"
        };
        tcp(&format!("{from}:4000"), to)
    }

    fn with_egress(rules: &str) -> Datapath {
        let mut d = Datapath::new();
        d.rules(0, rules, "");
        d
    }

    #[test]
    #[ignore = "root"]
    fn without_rules_everything_drops_by_its_scope() {
        let mut d = Datapath::new();
        for (to, reason) in [
            ("192.0.2.7:443", "no-rule"),
            ("203.0.113.9:443", "no-rule"),
            ("192.0.2.1:443", "host"),
            ("198.51.100.1:443", "host"),
            ("172.17.0.1:443", "host"),
            ("172.17.0.2:443", "other-network"),
            ("10.87.0.3:443", "containers"),
            ("169.254.169.254:80", "metadata"),
            ("169.254.170.2:80", "metadata"),
            ("169.254.170.23:80", "metadata"),
            ("100.100.100.200:80", "metadata"),
            ("168.63.129.16:80", "metadata"),
            ("192.0.0.192:80", "metadata"),
            ("169.254.1.1:80", "link-local"),
            ("224.0.0.251:80", "multicast"),
            ("[2001:db8:1::7]:443", "no-rule"),
            ("[2001:db8:1::1]:443", "host"),
            ("[2001:db8:17::2]:443", "other-network"),
            ("[2001:db8:87::3]:443", "containers"),
            ("[fd00:ec2::254]:80", "metadata"),
            ("[fd00:ec2::23]:80", "metadata"),
            ("[fd20:ce::254]:80", "metadata"),
            ("[fe80::1]:80", "link-local"),
            ("[ff02::fb]:80", "multicast"),
            ("10.66.0.1:80", "no-route"),
            ("10.67.0.1:80", "no-route"),
            ("10.68.0.1:80", "no-route"),
            ("[2001:db8:66::1]:80", "no-route"),
            ("[2001:db8:67::1]:80", "no-route"),
        ] {
            let answer = d.sends(0, &tcp_to(to));
            assert_eq!(answer.outcome, Outcome::Drop(reason), "{to}");
            assert_eq!(answer.endpoint, Some(0));
        }
        dropped(
            &d.sends(0, &raw("10.87.0.2", "192.0.2.7", 47, &[])),
            "protocol",
        );
        dropped(
            &d.sends(0, &raw("10.87.0.2", "192.0.2.7", 132, &[0; 12])),
            "no-rule",
        );
    }

    #[test]
    #[ignore = "root"]
    fn any_means_the_outside_and_nothing_else() {
        let mut d = with_egress("any:any");
        redirected(&d.sends(0, &tcp_to("192.0.2.7:443")));
        redirected(&d.sends(0, &tcp_to("[2001:db8:113::9]:443")));
        redirected(&d.sends(0, &raw("10.87.0.2", "192.0.2.7", 47, &[])));
        for (to, reason) in [
            ("192.0.2.1:443", "host"),
            ("172.17.0.2:443", "other-network"),
            ("10.87.0.3:443", "containers"),
            ("169.254.169.254:80", "metadata"),
            ("169.254.1.1:80", "link-local"),
            ("224.0.0.251:80", "multicast"),
        ] {
            dropped(&d.sends(0, &tcp_to(to)), reason);
        }
    }

    #[test]
    #[ignore = "root"]
    fn each_scope_has_its_word_and_its_way() {
        let rules = "any:host any:containers any:metadata any:link-local any:multicast \
                     tcp:172.17.0.2:443";
        let mut d = with_egress(rules);
        assert_eq!(d.sends(0, &tcp_to("192.0.2.1:22")).outcome, Outcome::Pass);
        assert_eq!(d.sends(0, &tcp_to("172.17.0.2:443")).outcome, Outcome::Pass);
        dropped(&d.sends(0, &tcp_to("172.17.0.2:444")), "other-network");
        let answer = d.sends(0, &tcp_to("10.87.0.3:80"));
        redirected(&answer);
        assert_eq!(answer.mark, MARK_JUDGED);
        for to in ["169.254.169.254:80", "169.254.1.1:80", "224.0.0.251:80"] {
            redirected(&d.sends(0, &tcp_to(to)));
        }
        dropped(&d.sends(0, &tcp_to("192.0.2.7:443")), "no-rule");
    }

    #[test]
    #[ignore = "root"]
    fn the_host_sees_no_mark_unless_a_guard_waits_for_it() {
        let mut d = with_egress("host:22");
        assert_eq!(d.sends(0, &tcp_to("192.0.2.1:22")).mark, 0);
        d.guard_endpoint(0);
        assert_eq!(d.sends(0, &tcp_to("192.0.2.1:22")).mark, MARK_JUDGED);
    }

    #[test]
    #[ignore = "root"]
    fn protocol_and_port_are_exact() {
        let mut d =
            with_egress("tcp:192.0.2.7:443 udp:192.0.2.0/24:53 icmp:192.0.2.7:8 sctp:192.0.2.7:5");
        redirected(&d.sends(0, &tcp_to("192.0.2.7:443")));
        dropped(&d.sends(0, &tcp_to("192.0.2.7:442")), "no-rule");
        dropped(&d.sends(0, &tcp_to("192.0.2.8:443")), "no-rule");
        dropped(
            &d.sends(0, &udp("10.87.0.2:4000", "192.0.2.7:443")),
            "no-rule",
        );
        redirected(&d.sends(0, &udp("10.87.0.2:4000", "192.0.2.9:53")));
        redirected(&d.sends(0, &icmp("10.87.0.2", "192.0.2.7", 8)));
        dropped(&d.sends(0, &icmp("10.87.0.2", "192.0.2.7", 13)), "no-rule");
        dropped(&d.sends(0, &icmp("10.87.0.2", "192.0.2.7", 0)), "no-rule");
        let sctp = [0, 4, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0];
        redirected(&d.sends(0, &raw("10.87.0.2", "192.0.2.7", 132, &sctp)));
    }

    #[test]
    #[ignore = "root"]
    fn deny_wins_over_every_allow() {
        let mut d = with_egress("any:any any:host !192.0.2.0/28 !any:25");
        dropped(&d.sends(0, &tcp_to("192.0.2.7:443")), "deny-rule");
        dropped(&d.sends(0, &tcp_to("192.0.2.1:22")), "deny-rule");
        dropped(&d.sends(0, &tcp_to("192.0.2.99:25")), "deny-rule");
        redirected(&d.sends(0, &tcp_to("192.0.2.99:26")));
        redirected(&d.sends(0, &tcp_to("[2001:db8:1::7]:443")));
        dropped(&d.sends(0, &tcp_to("[2001:db8:1::7]:25")), "deny-rule");
    }

    #[test]
    #[ignore = "root"]
    fn rules_of_one_endpoint_say_nothing_about_another() {
        let mut d = with_egress("any:any");
        dropped(
            &d.sends(1, &tcp("10.87.0.3:4000", "192.0.2.7:443")),
            "no-rule",
        );
    }

    #[test]
    #[ignore = "root"]
    fn a_policy_that_is_not_loaded_allows_nothing() {
        let mut d = with_egress("any:any");
        redirected(&d.sends(0, &tcp_to("192.0.2.7:443")));
        for word in [0, 77 << 32 | 5, 1 << 62 | 5] {
            d.policy_word(0, word);
            dropped(&d.sends(0, &tcp_to("192.0.2.7:443")), "no-policy");
            dropped(
                &d.delivers(0, &tcp("192.0.2.1:1", "10.87.0.2:80"), 0),
                "no-policy",
            );
            dropped(
                &d.arrives(0, &tcp("192.0.2.7:1", "10.87.0.2:80")),
                "no-policy",
            );
        }
    }

    #[test]
    #[ignore = "root"]
    fn the_host_needs_an_ingress_rule_and_ports_are_the_containers() {
        let mut d = Datapath::new();
        d.rules(0, "", "host:80 containers:81");
        let from_host = |port| tcp("192.0.2.1:4000", &format!("10.87.0.2:{port}"));
        assert_eq!(d.delivers(0, &from_host(80), 0).outcome, Outcome::Pass);
        dropped(&d.delivers(0, &from_host(81), 0), "host");
        let other = |port| tcp("10.87.0.3:4000", &format!("10.87.0.2:{port}"));
        let answer = d.delivers(0, &other(81), MARK_JUDGED);
        assert_eq!(
            (answer.outcome, answer.mark),
            (Outcome::Pass, 0),
            "the mark stays outside"
        );
        dropped(&d.delivers(0, &other(80), MARK_JUDGED), "containers");
    }

    #[test]
    #[ignore = "root"]
    fn packets_of_an_endpoint_that_nobody_judged_drop() {
        let mut d = Datapath::new();
        d.rules(0, "", "any:containers any:host any:any");
        let packet = tcp("10.87.0.3:4000", "10.87.0.2:80");
        for mark in [0, 1, MARK_JUDGED + 1] {
            dropped(&d.delivers(0, &packet, mark), "unjudged");
        }
        assert_eq!(d.delivers(0, &packet, MARK_JUDGED).outcome, Outcome::Pass);
    }

    #[test]
    #[ignore = "root"]
    fn a_mark_of_zero_proves_nothing() {
        let mut d = Datapath::new();
        d.rules(0, "", "any:containers any:any");
        put(&d.skel.maps.nk_settings, &0u32, &[0u32; 16]);
        let packet = tcp("10.87.0.3:4000", "10.87.0.2:80");
        dropped(&d.delivers(0, &packet, 0), "unjudged");
    }

    #[test]
    #[ignore = "root"]
    fn our_own_answers_pass_and_lose_their_mark() {
        let mut d = Datapath::new();
        let answer = d.delivers(0, &tcp("192.0.2.7:443", "10.87.0.2:4000"), MARK_REPLY);
        assert_eq!((answer.outcome, answer.mark), (Outcome::Pass, 0));
    }

    #[test]
    #[ignore = "root"]
    fn martian_sources_drop_at_both_ingress_hooks() {
        let mut d = Datapath::new();
        d.rules(0, "", "any:any any:host any:multicast");
        for from in [
            "127.0.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "240.1.1.1",
        ] {
            let packet = udp(&format!("{from}:53"), "10.87.0.2:4000");
            dropped(&d.delivers(0, &packet, 0), "martian");
            dropped(&d.arrives(0, &packet), "martian");
        }
        for from in ["::1", "::", "ff02::1", "::ffff:192.0.2.7"] {
            let packet = udp(&format!("[{from}]:53"), "[2001:db8:87::2]:4000");
            dropped(&d.delivers(0, &packet, 0), "martian");
            dropped(&d.arrives(0, &packet), "martian");
        }
    }

    #[test]
    #[ignore = "root"]
    fn forwarding_that_is_off_is_an_internal_fault_not_a_pass() {
        let mut d = with_egress("any:any any:host");
        std::fs::write("/proc/sys/net/ipv4/conf/nk0/forwarding", "0").expect("sysctl");
        dropped(&d.sends(0, &tcp_to("192.0.2.7:443")), "internal");
    }

    #[test]
    #[ignore = "root"]
    fn multicast_without_an_uplink_has_no_route() {
        let mut d = with_egress("any:multicast");
        let mut settings = [0u32; 16];
        settings[..2].copy_from_slice(&[MARK_JUDGED, MARK_REPLY]);
        put(&d.skel.maps.nk_settings, &0u32, &settings);
        dropped(
            &d.sends(0, &udp("10.87.0.2:1", "224.0.0.251:5353")),
            "no-route",
        );
    }
}
