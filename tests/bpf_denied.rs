//! The record of refusals, and endpoints on trial: what passes, what does not, and what is noted.

mod common;

mod root {
    use oci_netkit::types::mode::Mode;

    use crate::common::datapath::{Datapath, MARK_JUDGED, Outcome};
    use crate::common::denied::{Note, refused};
    use crate::common::oracle;
    use crate::common::packet::{ACK, icmp, raw, tcp, udp};

    const EGRESS: u32 = 0;
    const INGRESS: u32 = 1;

    fn recording(entries: u32) -> Datapath {
        let d = Datapath::new();
        d.keep_denied(0, entries);
        d.keep_denied(1, entries);
        d
    }

    fn on_trial(egress: &str, ingress: &str) -> Datapath {
        let mut d = recording(64);
        let mut policy = oracle::policy(egress, ingress);
        policy.mode = Mode::Audit;
        d.policy(0, &policy);
        d
    }

    fn passed(remote: &str, protocol: u8, port: u16, reason: &'static str, count: u64) -> Note {
        Note {
            passed: true,
            ..refused(remote, protocol, port, reason, count)
        }
    }

    #[test]
    #[ignore = "root"]
    fn distinct_refusals_are_counted_each() {
        let mut d = recording(64);
        for port in [4000, 4001, 4002] {
            let from = format!("10.87.0.2:{port}");
            d.sends(0, &tcp(&from, "192.0.2.7:443"));
        }
        d.sends(0, &udp("10.87.0.2:4000", "192.0.2.7:443"));
        d.sends(0, &tcp("[2001:db8:87::2]:1", "[2001:db8:1::7]:443"));
        d.sends(0, &tcp("10.87.0.2:4000", "192.0.2.1:22"));
        d.sends(0, &tcp("10.87.0.2:4000", "169.254.169.254:80"));
        d.sends(0, &icmp("10.87.0.2", "192.0.2.7", 8));
        d.sends(0, &raw("10.87.0.2", "192.0.2.7", 47, &[0; 8]));
        assert_eq!(
            d.denied(0, EGRESS),
            [
                refused("192.0.2.7", 6, 443, "no-rule", 3),
                refused("192.0.2.7", 17, 443, "no-rule", 1),
                refused("2001:db8:1::7", 6, 443, "no-rule", 1),
                refused("192.0.2.1", 6, 22, "host", 1),
                refused("169.254.169.254", 6, 80, "metadata", 1),
                refused("192.0.2.7", 1, 8, "no-rule", 1),
                refused("192.0.2.7", 47, 0, "protocol", 1),
            ]
        );
        assert_eq!(d.denied(0, INGRESS), []);
        assert_eq!(d.denied(1, EGRESS), []);
    }

    #[test]
    #[ignore = "root"]
    fn refusals_of_others_are_noted_by_the_container_s_port() {
        let mut d = recording(64);
        for port in [50_000, 50_001] {
            d.arrives(0, &tcp(&format!("192.0.2.7:{port}"), "10.87.0.2:22"));
        }
        d.arrives(0, &tcp("192.0.2.7:1", "10.87.0.2:22").flags(ACK));
        d.delivers(0, &udp("10.87.0.3:5", "10.87.0.2:53"), MARK_JUDGED);
        d.delivers(0, &udp("10.87.0.3:5", "10.87.0.2:53"), 0);
        assert_eq!(
            d.denied(0, INGRESS),
            [
                refused("192.0.2.7", 6, 22, "no-rule", 2),
                refused("192.0.2.7", 6, 22, "not-syn", 1),
                refused("10.87.0.3", 17, 53, "containers", 1),
                refused("10.87.0.3", 17, 53, "unjudged", 1),
            ]
        );
        assert_eq!(d.denied(0, EGRESS), []);
    }

    #[test]
    #[ignore = "root"]
    fn what_is_not_understood_is_one_record_a_reason() {
        let mut d = recording(64);
        for header in [0x65, 0x44, 0x04] {
            d.sends(0, &tcp("10.87.0.2:1", "192.0.2.7:443").with(14, header));
        }
        d.sends(0, &udp("10.87.0.9:1", "192.0.2.7:53"));
        assert_eq!(
            d.denied(0, EGRESS),
            [
                refused("", 0, 0, "malformed", 3),
                refused("192.0.2.7", 17, 53, "spoofed-source", 1),
            ]
        );
    }

    #[test]
    #[ignore = "root"]
    fn a_flood_makes_room_for_itself_and_hides_nothing_of_the_other_direction() {
        let mut d = recording(256);
        d.sends(0, &tcp("10.87.0.2:1", "203.0.113.9:443"));
        for n in 0..2000u16 {
            let from = format!("198.51.{}.{}:1", 101 + n / 250, 1 + n % 250);
            d.arrives(1, &udp(&from, "10.87.0.2:9"));
        }
        let noted = d.denied(0, INGRESS);
        assert!((100..=256).contains(&noted.len()), "{}", noted.len());
        assert_eq!(noted.last().unwrap().remote, "198.51.108.250", "the newest");
        assert_eq!(
            d.denied(0, EGRESS),
            [refused("203.0.113.9", 6, 443, "no-rule", 1)]
        );
    }

    #[test]
    #[ignore = "root"]
    fn without_a_record_verdicts_are_the_same() {
        let mut d = Datapath::new();
        let answer = d.sends(0, &tcp("10.87.0.2:1", "192.0.2.7:443"));
        assert_eq!(answer.outcome, Outcome::Drop("no-rule"));
    }

    #[test]
    #[ignore = "root"]
    fn a_trial_passes_and_notes_what_no_rule_decides() {
        let mut d = on_trial("tcp:192.0.2.7:80 !tcp:203.0.113.9", "tcp:any:8080");
        let syn = |to: &str| tcp("10.87.0.2:4000", to);
        let ruled = d.sends(0, &syn("192.0.2.7:80"));
        assert_eq!((ruled.outcome, ruled.audited), (Outcome::Redirect, false));
        for to in ["192.0.2.7:443", "172.17.0.2:5432", "10.87.0.3:6379"] {
            let first = d.sends(0, &syn(to));
            assert!(!matches!(first.outcome, Outcome::Drop(_)), "{first:?}");
            assert!(first.audited && first.opened, "{to}");
            let again = d.sends(0, &syn(to).flags(ACK));
            assert!(!again.audited && !again.opened, "by its flow: {to}");
        }
        let reply = d.arrives(0, &tcp("192.0.2.7:443", "10.87.0.2:4000").flags(ACK));
        assert_eq!((reply.outcome, reply.audited), (Outcome::Redirect, false));
        let inbound = d.arrives(0, &tcp("192.0.2.7:50000", "10.87.0.2:22"));
        assert_eq!(
            (inbound.outcome, inbound.audited),
            (Outcome::Redirect, true)
        );
        for (to, reason) in [
            ("203.0.113.9:443", "deny-rule"),
            ("192.0.2.1:22", "host"),
            ("169.254.169.254:80", "metadata"),
            ("169.254.1.1:80", "link-local"),
            ("224.0.0.251:80", "multicast"),
        ] {
            assert_eq!(d.sends(0, &syn(to)).outcome, Outcome::Drop(reason), "{to}");
        }
        let spoofed = d.sends(0, &tcp("10.87.0.3:1", "192.0.2.7:443"));
        assert_eq!(spoofed.outcome, Outcome::Drop("spoofed-source"));
        let noted = d.denied(0, EGRESS);
        assert_eq!(
            noted[..4],
            [
                passed("192.0.2.7", 6, 443, "no-rule", 1),
                passed("172.17.0.2", 6, 5432, "other-network", 1),
                passed("10.87.0.3", 6, 6379, "containers", 1),
                refused("203.0.113.9", 6, 443, "deny-rule", 1),
            ]
        );
        assert!(noted[4..].iter().all(|n| !n.passed), "{noted:?}");
        assert_eq!(
            d.denied(0, INGRESS),
            [passed("192.0.2.7", 6, 22, "no-rule", 1)]
        );
    }

    #[test]
    #[ignore = "root"]
    fn the_end_of_a_trial_ends_what_it_let_through() {
        let mut d = on_trial("", "");
        let packet = udp("10.87.0.2:4000", "192.0.2.7:99");
        assert!(d.sends(0, &packet).audited);
        assert!(!d.sends(0, &packet).audited);
        // New rules, still on trial: the flow is judged anew and noted no second time.
        let mut policy = oracle::policy("tcp:any:443", "");
        policy.mode = Mode::Audit;
        d.policy(0, &policy);
        let again = d.sends(0, &packet);
        assert_eq!((again.outcome, again.audited), (Outcome::Redirect, false));
        d.rules(0, "tcp:any:443", "");
        assert_eq!(d.sends(0, &packet).outcome, Outcome::Drop("no-rule"));
    }
}
