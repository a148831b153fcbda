//! from_wire: what it leaves alone, whom it believes; and the guard.

mod common;

mod root {
    use crate::common::datapath::{Answer, Datapath, Hook, MARK_JUDGED, Outcome, UP0_MAC};
    use crate::common::packet::{Packet, icmp, raw, tcp, udp};

    #[track_caller]
    fn dropped(answer: &Answer, reason: &'static str) {
        assert_eq!(answer.outcome, Outcome::Drop(reason));
        assert_eq!(answer.endpoint, Some(0));
    }

    fn open() -> Datapath {
        let mut d = Datapath::new();
        d.rules(0, "any:any", "any:any any:link-local any:metadata");
        d
    }

    fn to_container() -> Packet {
        tcp("192.0.2.7:4000", "10.87.0.2:80")
    }

    #[test]
    #[ignore = "root"]
    fn the_hosts_traffic_goes_on_untouched() {
        let mut d = open();
        for packet in [
            tcp("192.0.2.7:4000", "192.0.2.1:22"),
            tcp("[2001:db8:1::7]:4000", "[2001:db8:1::1]:22"),
            udp("192.0.2.7:5353", "224.0.0.251:5353"),
            tcp("10.87.0.2:4000", "192.0.2.1:22"), // even with an endpoint's source
            tcp("192.0.2.7:4000", "10.87.0.9:22"),
            to_container().ethertype(0x0806),
            to_container().ethertype(0x8100),
            to_container().ethertype(0x88cc),
            raw("192.0.2.7", "192.0.2.1", 47, &[]),
        ] {
            let answer = d.arrives(0, &packet);
            assert_eq!(answer.outcome, Outcome::Next, "{packet:?}");
            assert_eq!(answer.frame, packet.to_mac(UP0_MAC).bytes());
        }
    }

    #[test]
    #[ignore = "root"]
    fn frames_for_other_machines_go_on() {
        let mut d = open();
        for mac in [[2, 0, 0, 0, 9, 9], [0xff; 6], [1, 0, 0x5e, 0, 0, 1]] {
            let frame = to_container().to_mac(mac).bytes();
            let answer = d.run(Hook::FromWire, d.ifindex.up[0], &frame, 0, 0);
            assert_eq!(answer.outcome, Outcome::Next);
        }
    }

    #[test]
    #[ignore = "root"]
    fn an_allowed_packet_goes_straight_in() {
        let mut d = open();
        for packet in [
            to_container(),
            tcp("[2001:db8:1::7]:4000", "[2001:db8:87::2]:80"),
            icmp("192.0.2.7", "10.87.0.2", 8),
            udp("203.0.113.9:53", "10.87.0.2:4000"),
            udp("169.254.1.1:53", "10.87.0.2:4000"),
            udp("[fe80::1]:53", "[2001:db8:87::2]:4000"),
            to_container().trailer(100), // the receiver's stack trims it
        ] {
            let answer = d.arrives(0, &packet);
            assert_eq!(answer.outcome, Outcome::Redirect, "{packet:?}");
            assert_eq!(answer.frame, packet.to_mac(UP0_MAC).bytes());
        }
    }

    #[test]
    #[ignore = "root"]
    fn the_container_may_have_no_ingress_rules() {
        let mut d = Datapath::new();
        dropped(&d.arrives(0, &to_container()), "no-rule");
        dropped(
            &d.arrives(0, &udp("169.254.169.254:53", "10.87.0.2:4000")),
            "metadata",
        );
        dropped(
            &d.arrives(0, &udp("169.254.1.1:53", "10.87.0.2:4000")),
            "link-local",
        );
        dropped(
            &d.arrives(0, &raw("192.0.2.7", "10.87.0.2", 47, &[])),
            "protocol",
        );
    }

    #[test]
    #[ignore = "root"]
    fn sources_that_cannot_be_out_there_are_spoofed() {
        let mut d = open();
        for from in [
            "10.87.0.3",
            "10.87.0.2",
            "192.0.2.1",
            "172.17.0.1",
            "172.17.0.2",
        ] {
            dropped(
                &d.arrives(0, &udp(&format!("{from}:53"), "10.87.0.2:4000")),
                "spoofed-source",
            );
        }
        for from in ["2001:db8:87::3", "2001:db8:1::1", "2001:db8:17::2"] {
            let packet = udp(&format!("[{from}]:53"), "[2001:db8:87::2]:4000");
            dropped(&d.arrives(0, &packet), "spoofed-source");
        }
        dropped(
            &d.arrives(0, &udp("10.66.0.1:53", "10.87.0.2:4000")),
            "no-route",
        );
    }

    #[test]
    #[ignore = "root"]
    fn unsound_packets_for_an_endpoint_drop() {
        let mut d = open();
        for (packet, reason) in [
            (to_container().with(14, 0x46).payload(4), "ip-options"),
            (to_container().with(14 + 6, 0x20), "fragment"),
            (to_container().with(14 + 3, 41), "malformed"),
            (to_container().with(14, 0x55), "malformed"),
            (
                tcp("[2001:db8:1::7]:1", "[2001:db8:87::2]:80").with(14 + 6, 60),
                "extension-header",
            ),
            (icmp("2001:db8:1::7", "2001:db8:87::2", 135), "icmp-type"),
            (icmp("192.0.2.7", "10.87.0.2", 5), "icmp-type"),
        ] {
            dropped(&d.arrives(0, &packet), reason);
        }
    }

    #[test]
    #[ignore = "root"]
    fn the_guard_lets_only_judged_packets_on() {
        let mut d = open();
        let frame = tcp("10.87.0.2:4000", "192.0.2.1:22").bytes();
        let answer = d.run(Hook::Guard, d.ifindex.primary[0], &frame, MARK_JUDGED, 0);
        assert_eq!((answer.outcome, answer.mark), (Outcome::Next, 0));
        for mark in [0, 1] {
            let answer = d.run(Hook::Guard, d.ifindex.primary[0], &frame, mark, 0);
            dropped(&answer, "unjudged");
        }
    }
}
