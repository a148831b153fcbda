//! What from_container and to_container make of frames, sound and unsound. BPF_PROG_TEST_RUN
//! derives skb->protocol from the frame, has no VLAN metadata, no CHECKSUM_PARTIAL and no gso_type,
//! and refuses frames without a whole IP header: packets that lie there are sent from real
//! containers, in the guest.

mod common;

mod root {
    use crate::common::datapath::{ADDRESSES, Answer, Datapath, Hook, Outcome};
    use crate::common::packet::{ETH, Packet, SYN, icmp, raw, tcp, udp};

    const V4: &str = "10.87.0.2";
    const V6: &str = "2001:db8:87::2";

    /// Everything is allowed, so that only the frame can be at fault.
    fn open() -> Datapath {
        let mut d = Datapath::new();
        let all = "any:any any:host any:containers any:multicast any:metadata any:link-local";
        d.rules(0, all, all);
        d.rules(1, all, all);
        d
    }

    fn tcp4() -> Packet {
        tcp("10.87.0.2:4000", "192.0.2.7:443")
    }

    fn tcp6() -> Packet {
        tcp("[2001:db8:87::2]:4000", "[2001:db8:1::7]:443")
    }

    #[track_caller]
    fn dropped(answer: &Answer, reason: &'static str) {
        assert_eq!(answer.outcome, Outcome::Drop(reason));
        assert_eq!(answer.endpoint, Some(0), "counted to the sender");
    }

    #[test]
    #[ignore = "root"]
    fn sound_packets_of_every_protocol_leave() {
        let mut d = open();
        for packet in [
            tcp4(),
            tcp6(),
            udp("10.87.0.2:4000", "192.0.2.7:53"),
            udp("[2001:db8:87::2]:4000", "[2001:db8:1::7]:53"),
            icmp(V4, "192.0.2.7", 8),
            icmp(V6, "2001:db8:1::7", 128),
            raw(V4, "192.0.2.7", 132, &[0; 12]),
            raw(V4, "192.0.2.7", 47, &[]),
            tcp4().payload(1460),
            tcp4().trailer(6), // a short frame, padded to 60
        ] {
            let answer = d.sends(0, &packet);
            assert_eq!(answer.outcome, Outcome::Redirect, "{packet:?}");
            assert_eq!(answer.endpoint, Some(0));
        }
    }

    #[test]
    #[ignore = "root"]
    fn frames_that_are_not_plain_ip_drop() {
        let mut d = open();
        for (ethertype, reason) in [
            (0x8100, "vlan"),
            (0x88a8, "vlan"),
            (0x0806, "arp"),
            (0x88cc, "ethertype"),
            (0x0026, "ethertype"), // an 802.3 length
        ] {
            dropped(&d.sends(0, &tcp4().ethertype(ethertype)), reason);
        }
        // The other family's EtherType: the version says otherwise.
        dropped(&d.sends(0, &tcp4().ethertype(0x86dd)), "malformed");
        dropped(&d.sends(0, &tcp6().ethertype(0x0800)), "malformed");
    }

    #[test]
    #[ignore = "root"]
    fn ipv4_headers_that_lie_drop() {
        let mut d = open();
        for (packet, reason) in [
            (tcp4().with(ETH, 0x65), "malformed"),
            (tcp4().with(ETH, 0x44), "malformed"),
            (tcp4().payload(4).with(ETH, 0x46), "ip-options"),
            (tcp4().with(ETH + 3, 41), "malformed"),
            (tcp4().payload(60).with(ETH + 3, 40), "malformed"),
            (tcp4().trailer(60), "malformed"),
            (tcp4().with(ETH + 3, 0), "malformed"),
            (tcp4().with(ETH + 3, 19), "malformed"),
            (tcp4().with(ETH + 6, 0x20), "fragment"),
            (tcp4().with(ETH + 7, 1), "fragment"),
            (tcp4().with(ETH + 6, 0x1f), "fragment"),
            (tcp4().cut(ETH + 39), "malformed"),
        ] {
            dropped(&d.sends(0, &packet), reason);
        }
    }

    #[test]
    #[ignore = "root"]
    fn ipv6_headers_that_lie_drop() {
        let mut d = open();
        for next in [0, 43, 51, 59, 60, 135, 139, 140] {
            dropped(&d.sends(0, &tcp6().with(ETH + 6, next)), "extension-header");
        }
        dropped(&d.sends(0, &tcp6().with(ETH + 6, 44)), "fragment");
        dropped(&d.sends(0, &tcp6().with(ETH, 0x40)), "malformed");
        dropped(&d.sends(0, &tcp6().with(ETH + 5, 21)), "malformed");
        dropped(&d.sends(0, &tcp6().with(ETH + 5, 19)), "malformed");
        dropped(&d.sends(0, &tcp6().with(ETH + 5, 0)), "malformed");
        dropped(&d.sends(0, &tcp6().cut(ETH + 59)), "malformed");
    }

    #[test]
    #[ignore = "root"]
    fn transport_headers_that_lie_drop() {
        let mut d = open();
        let u = udp("10.87.0.2:4000", "192.0.2.7:53");
        for packet in [
            tcp4().with(ETH + 20 + 12, 4 << 4),
            tcp4().with(ETH + 20 + 12, 6 << 4),
            raw(V4, "192.0.2.7", 6, &[0; 19]),
            u.clone().with(ETH + 20 + 5, 11),
            u.clone().with(ETH + 20 + 5, 13),
            u.with(ETH + 20 + 5, 7),
            raw(V4, "192.0.2.7", 17, &[0; 7]),
            raw(V4, "192.0.2.7", 1, &[8, 0, 0, 0, 0, 1, 0]),
            raw(V6, "2001:db8:1::7", 58, &[128, 0, 0, 0, 0, 1, 0]),
            raw(V4, "192.0.2.7", 132, &[0; 11]),
        ] {
            dropped(&d.sends(0, &packet), "malformed");
        }
    }

    #[test]
    #[ignore = "root"]
    fn sources_of_others_are_spoofed_and_counted_to_the_sender() {
        let mut d = open();
        for source in [
            "10.87.0.3",
            "192.0.2.1",
            "192.0.2.9",
            "127.0.0.1",
            "0.0.0.0",
        ] {
            dropped(
                &d.sends(0, &tcp(&format!("{source}:4000"), "192.0.2.7:443")),
                "spoofed-source",
            );
        }
        for source in ["2001:db8:87::3", "2001:db8:1::1", "fe80::1", "::"] {
            let packet = tcp(&format!("[{source}]:4000"), "[2001:db8:1::7]:443");
            dropped(&d.sends(0, &packet), "spoofed-source");
        }
    }

    #[test]
    #[ignore = "root"]
    fn an_ipv4_address_in_an_ipv6_header_is_nobodys() {
        let mut d = open();
        let packet = tcp("[::ffff:10.87.0.2]:4000", "[2001:db8:1::7]:443");
        dropped(&d.sends(0, &packet), "martian");
        let packet = tcp("[2001:db8:1::7]:443", "[::ffff:10.87.0.2]:4000");
        assert_eq!(d.arrives(0, &packet).outcome, Outcome::Next);
        assert_eq!(d.delivers(0, &packet, 0).outcome, Outcome::Drop("martian"));
    }

    #[test]
    #[ignore = "root"]
    fn an_unknown_primary_is_counted_to_nobody() {
        let mut d = open();
        let answer = d.run(Hook::FromContainer, d.ifindex.lan, &tcp4().bytes(), 0, 0);
        assert_eq!(answer.outcome, Outcome::Drop("spoofed-source"));
        assert_eq!(answer.endpoint, Some(u32::MAX));
    }

    #[test]
    #[ignore = "root"]
    fn segments_without_a_matching_type_drop() {
        let mut d = open();
        // BPF_PROG_TEST_RUN sets gso_size, but leaves gso_type 0.
        for packet in [
            tcp4().payload(100),
            udp("10.87.0.2:4000", "192.0.2.7:53").payload(100),
        ] {
            let answer = d.run(
                Hook::FromContainer,
                d.ifindex.primary[0],
                &packet.bytes(),
                0,
                40,
            );
            dropped(&answer, "segmentation");
        }
    }

    #[test]
    #[ignore = "root"]
    fn packets_larger_than_the_path_drop() {
        let mut d = open();
        dropped(&d.sends(0, &tcp4().payload(1461)), "oversize");
        dropped(&d.sends(0, &tcp6().payload(1441)), "oversize");
        // 203.0.113.0/24 lies behind an uplink with an MTU of 1400.
        let far = tcp("10.87.0.2:4000", "203.0.113.9:443");
        dropped(&d.sends(0, &far.clone().payload(1361)), "oversize");
        assert_eq!(
            d.sends(0, &far.clone().payload(1360)).outcome,
            Outcome::Redirect
        );
        dropped(&d.sends(0, &far.payload(1361)), "oversize");
    }

    #[test]
    #[ignore = "root"]
    fn icmp_types_that_steer_other_hosts_drop_whatever_the_rules_say() {
        let mut d = open();
        for kind in [4, 5, 9, 10] {
            dropped(&d.sends(0, &icmp(V4, "192.0.2.7", kind)), "icmp-type");
        }
        for kind in [130, 131, 132, 133, 134, 135, 136, 137, 143] {
            dropped(&d.sends(0, &icmp(V6, "2001:db8:1::7", kind)), "icmp-type");
            dropped(&d.sends(0, &icmp(V6, "ff02::1", kind)), "icmp-type");
        }
        // ICMPv6 in IPv4 is just a protocol nobody speaks.
        assert_eq!(
            d.sends(0, &raw(V4, "192.0.2.7", 58, &[134; 8])).outcome,
            Outcome::Redirect
        );
    }

    #[test]
    #[ignore = "root"]
    fn martians_drop_whatever_the_rules_say() {
        let mut d = open();
        for to in ["0.0.0.0", "127.0.0.1", "240.0.0.1", "255.255.255.255", V4] {
            dropped(
                &d.sends(0, &tcp("10.87.0.2:4000", &format!("{to}:443"))),
                "martian",
            );
        }
        for to in ["::", "::1", "::10.0.0.1", "::ffff:192.0.2.7", V6] {
            let packet = tcp("[2001:db8:87::2]:4000", &format!("[{to}]:443"));
            dropped(&d.sends(0, &packet), "martian");
        }
    }

    #[test]
    #[ignore = "root"]
    fn what_the_host_may_send_longer_than_its_header_says_reaches_the_container() {
        let mut d = open();
        let packet = tcp("192.0.2.1:4000", "10.87.0.2:80");
        assert_eq!(
            d.delivers(0, &packet.clone().trailer(60), 0).outcome,
            Outcome::Pass
        );
        let answer = d.delivers(0, &packet.clone().with(ETH + 6, 0x20), 0);
        dropped(&answer, "fragment");
        let answer = d.delivers(0, &packet.with(ETH + 3, 41), 0);
        dropped(&answer, "malformed");
    }

    #[test]
    #[ignore = "root"]
    fn packets_for_another_endpoint_have_gone_astray() {
        let mut d = open();
        let answer = d.delivers(0, &tcp("192.0.2.1:4000", "10.87.0.3:80"), 0);
        assert_eq!(answer.outcome, Outcome::Drop("no-endpoint"));
        let answer = d.delivers(0, &udp("192.0.2.1:5353", "224.0.0.251:5353"), 0);
        assert_eq!(answer.outcome, Outcome::Drop("no-endpoint"));
        assert_eq!(answer.endpoint, Some(u32::MAX));
    }

    #[test]
    #[ignore = "root"]
    fn what_leaves_carries_the_macs_of_its_next_hop() {
        use crate::common::datapath::{GATEWAY0_MAC, GATEWAY1_MAC, HOST7_MAC, UP0_MAC, UP1_MAC};
        let mut d = open();
        for (to, hop, from) in [
            ("192.0.2.7", HOST7_MAC, UP0_MAC),
            ("8.8.8.8", GATEWAY0_MAC, UP0_MAC),
            ("203.0.113.9", GATEWAY1_MAC, UP1_MAC),
            ("224.0.0.251", [1, 0, 0x5e, 0, 0, 251], UP0_MAC),
            ("239.129.2.3", [1, 0, 0x5e, 1, 2, 3], UP0_MAC),
        ] {
            let packet = udp("10.87.0.2:4000", &format!("{to}:53"));
            for _ in 0..2 {
                let answer = d.sends(0, &packet);
                assert_eq!(answer.outcome, Outcome::Redirect);
                assert_eq!(
                    (&answer.frame[..6], &answer.frame[6..12]),
                    (&hop[..], &from[..]),
                    "{to}"
                );
                assert_eq!(
                    answer.frame[12..],
                    packet.bytes()[12..],
                    "nothing else changes"
                );
            }
        }
        let answer = d.sends(0, &udp("[2001:db8:87::2]:4000", "[ff02::fb]:5353"));
        assert_eq!(answer.frame[..6], [0x33, 0x33, 0, 0, 0, 0xfb]);
        // No neighbour yet: the kernel's code writes them, once it knows.
        let answer = d.sends(0, &udp("10.87.0.2:4000", "192.0.2.66:53"));
        assert_eq!(answer.outcome, Outcome::Redirect);
        assert_eq!(answer.frame[..12], [0; 12]);
    }

    #[test]
    #[ignore = "root"]
    fn every_address_of_an_endpoint_may_send() {
        let mut d = open();
        for (id, addresses) in ADDRESSES.iter().enumerate() {
            let packet = tcp(&format!("{}:4000", addresses[0]), "192.0.2.7:443").flags(SYN);
            assert_eq!(d.sends(id, &packet).outcome, Outcome::Redirect);
        }
    }
}
