//! from_wire as a neighbour: which questions for a container's address it answers, and how.

mod common;

mod root {
    use crate::common::checksum::{fault, fill};
    use crate::common::datapath::{Answer, Datapath, HOST7_MAC, Hook, Outcome, UP0_MAC};
    use crate::common::packet::{Packet, addr, ip, tcp};

    const LAN4: &str = "192.0.2.50";
    const LAN6: &str = "2001:db8:1::50";
    const BROADCAST: [u8; 6] = [0xff; 6];
    /// Of LAN6's solicited-node group.
    const GROUP_MAC: [u8; 6] = [0x33, 0x33, 0xff, 0, 0, 0x50];
    const GROUP: &str = "ff02::1:ff00:50";
    const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

    fn lan() -> Datapath {
        let d = Datapath::new();
        d.lan(0, LAN4, 0);
        d.lan(0, LAN6, 0);
        d
    }

    fn octets(text: &str) -> Vec<u8> {
        match addr(text) {
            std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
            std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
        }
    }

    /// From host 7; `op` 1 asks, 2 answers.
    fn arp(to: [u8; 6], op: u8, sender: &str, target: &str) -> Vec<u8> {
        let mut frame = [to, HOST7_MAC].concat();
        frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, op]);
        frame.extend(HOST7_MAC);
        frame.extend(octets(sender));
        frame.extend([0; 6]);
        frame.extend(octets(target));
        frame.resize(60, 0); // as short frames come off the wire
        frame
    }

    fn arp_answer(sender: &str) -> Vec<u8> {
        let mut frame = [HOST7_MAC, UP0_MAC].concat();
        frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
        frame.extend(UP0_MAC);
        frame.extend(octets(LAN4));
        frame.extend(HOST7_MAC);
        frame.extend(octets(sender));
        frame.resize(60, 0);
        frame
    }

    /// From host 7, with right checksums. `options` follow the target.
    fn nd(kind: u8, to_mac: [u8; 6], from: &str, to: &str, target: &str, options: &[u8]) -> Packet {
        let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
        message.extend(octets(target));
        message.extend(options);
        ip(addr(from), addr(to), 58, message)
            .to_mac(to_mac)
            .with(14 + 7, 255)
    }

    fn source_option() -> Vec<u8> {
        [&[1, 1][..], &HOST7_MAC].concat()
    }

    fn question() -> Packet {
        nd(
            135,
            GROUP_MAC,
            "2001:db8:1::7",
            GROUP,
            LAN6,
            &source_option(),
        )
    }

    fn probe() -> Packet {
        nd(135, GROUP_MAC, "::", GROUP, LAN6, &[])
    }

    /// `Packet` leaves the source MAC and the checksum to us.
    fn frame(packet: &Packet) -> Vec<u8> {
        let mut frame = packet.bytes();
        frame[6..12].copy_from_slice(&HOST7_MAC);
        if fault(&frame[14..]).is_some() {
            fill(&mut frame[14..]);
        }
        frame
    }

    fn nd_answer(to_mac: [u8; 6], to: &str, flags: u8) -> Vec<u8> {
        let mut message = vec![136, 0, 0, 0, flags, 0, 0, 0];
        message.extend(octets(LAN6));
        message.extend([2, 1]);
        message.extend(UP0_MAC);
        let packet = ip(addr(LAN6), addr(to), 58, message)
            .to_mac(to_mac)
            .with(14 + 7, 255);
        let mut frame = packet.bytes();
        frame[6..12].copy_from_slice(&UP0_MAC);
        fill(&mut frame[14..]);
        frame
    }

    fn asks(d: &mut Datapath, frame: &[u8]) -> Answer {
        d.run(Hook::FromWire, d.ifindex.up[0], frame, 0, 0)
    }

    #[track_caller]
    fn answered(d: &mut Datapath, question: &[u8], want: &[u8]) {
        for complete in [false, true] {
            d.checksum_complete = complete;
            let answer = asks(d, question);
            assert_eq!(answer.outcome, Outcome::Answer);
            assert_eq!(answer.frame, want, "{:02x?}", answer.frame);
        }
        d.checksum_complete = false;
    }

    #[track_caller]
    fn untouched(d: &mut Datapath, frame: &[u8]) {
        let answer = asks(d, frame);
        assert_eq!(answer.outcome, Outcome::Next, "{frame:02x?}");
        assert_eq!(answer.frame, frame);
    }

    #[track_caller]
    fn noted(d: &mut Datapath, frame: &[u8]) {
        let answer = asks(d, frame);
        assert_eq!(answer.outcome, Outcome::Noted("address-conflict"));
        assert_eq!(answer.endpoint, Some(0));
        assert_eq!(answer.frame, frame);
    }

    #[test]
    #[ignore = "root"]
    fn arp_questions_for_a_lan_address_are_answered() {
        let mut d = lan();
        let want = arp_answer("192.0.2.7");
        answered(&mut d, &arp(BROADCAST, 1, "192.0.2.7", LAN4), &want);
        answered(&mut d, &arp(UP0_MAC, 1, "192.0.2.7", LAN4), &want);
        let mut short = arp(BROADCAST, 1, "192.0.2.7", LAN4);
        short.truncate(42);
        answered(&mut d, &short, &want[..42]);
    }

    #[test]
    #[ignore = "root"]
    fn arp_probes_are_answered() {
        let mut d = lan();
        let want = arp_answer("0.0.0.0");
        answered(&mut d, &arp(BROADCAST, 1, "0.0.0.0", LAN4), &want);
    }

    #[test]
    #[ignore = "root"]
    fn arp_that_is_no_question_for_a_lan_address_goes_on() {
        let mut d = lan();
        d.lan(0, "198.51.100.50", 1);
        for target in ["192.0.2.1", "192.0.2.51", "10.87.0.2", "198.51.100.50"] {
            untouched(&mut d, &arp(BROADCAST, 1, "192.0.2.7", target));
        }
        untouched(&mut d, &arp(UP0_MAC, 2, "192.0.2.7", LAN4));
        untouched(&mut d, &arp([2, 0, 0, 0, 9, 9], 1, "192.0.2.7", LAN4));
        let good = arp(BROADCAST, 1, "192.0.2.7", LAN4);
        // Hardware, protocol and their lengths, operation, a group as sender, no sender.
        for (offset, value) in [
            (15, 6),
            (16, 9),
            (18, 8),
            (19, 16),
            (21, 3),
            (22, 3),
            (12, 0x88),
        ] {
            let mut bent = good.clone();
            bent[offset] = value;
            untouched(&mut d, &bent);
        }
        let mut nobody = good.clone();
        nobody[22..28].fill(0);
        untouched(&mut d, &nobody);
        untouched(&mut d, &good[..41]);
        let tagged = [&good[..12], &[0x81, 0, 0, 5], &good[12..]].concat();
        let answer = asks(&mut d, &tagged);
        assert_eq!(answer.outcome, Outcome::Next);
    }

    #[test]
    #[ignore = "root"]
    fn another_machine_with_the_address_is_counted_and_left_to_the_host() {
        let mut d = lan();
        noted(&mut d, &arp(BROADCAST, 1, LAN4, LAN4));
        noted(&mut d, &arp(BROADCAST, 2, LAN4, LAN4));
        noted(&mut d, &arp(UP0_MAC, 1, LAN4, "192.0.2.1"));
        let option = [&[2, 1][..], &HOST7_MAC].concat();
        let unsolicited = nd(136, ALL_NODES_MAC, LAN6, "ff02::1", LAN6, &option);
        noted(&mut d, &frame(&unsolicited));
        noted(
            &mut d,
            &frame(&nd(135, GROUP_MAC, LAN6, GROUP, LAN6, &source_option())),
        );
        // Our own announcement, sent back by a switch.
        let mut own = arp(BROADCAST, 1, LAN4, LAN4);
        own[6..12].copy_from_slice(&UP0_MAC);
        own[22..28].copy_from_slice(&UP0_MAC);
        untouched(&mut d, &own);
    }

    #[test]
    #[ignore = "root"]
    fn solicitations_for_a_lan_address_are_answered() {
        let mut d = lan();
        let want = nd_answer(HOST7_MAC, "2001:db8:1::7", 0x60);
        answered(&mut d, &frame(&question()), &want);
        let unicast = nd(135, UP0_MAC, "2001:db8:1::7", LAN6, LAN6, &[]);
        answered(&mut d, &frame(&unicast), &want);
        let long = [source_option(), vec![14, 1, 1, 2, 3, 4, 5, 6]].concat();
        let packet = nd(135, GROUP_MAC, "2001:db8:1::7", GROUP, LAN6, &long);
        answered(&mut d, &frame(&packet), &want);
        let from_link_local = nd(135, GROUP_MAC, "fe80::7", GROUP, LAN6, &source_option());
        let want = nd_answer(HOST7_MAC, "fe80::7", 0x60);
        answered(&mut d, &frame(&from_link_local), &want);
    }

    #[test]
    #[ignore = "root"]
    fn duplicate_detection_by_others_is_answered_to_everybody() {
        let mut d = lan();
        let want = nd_answer(ALL_NODES_MAC, "ff02::1", 0x20);
        answered(&mut d, &frame(&probe()), &want);
        let nonce = nd(
            135,
            GROUP_MAC,
            "::",
            GROUP,
            LAN6,
            &[14, 1, 1, 2, 3, 4, 5, 6],
        );
        answered(&mut d, &frame(&nonce), &want);
    }

    #[test]
    #[ignore = "root"]
    fn icmpv6_that_is_no_question_for_a_lan_address_goes_on() {
        let mut d = lan();
        let from = "2001:db8:1::7";
        for packet in [
            nd(
                135,
                GROUP_MAC,
                from,
                GROUP,
                "2001:db8:1::51",
                &source_option(),
            ),
            nd(
                135,
                GROUP_MAC,
                from,
                "ff02::1:ff00:51",
                LAN6,
                &source_option(),
            ),
            nd(135, GROUP_MAC, "ff02::7", GROUP, LAN6, &source_option()),
            nd(135, ALL_NODES_MAC, from, "ff02::1", LAN6, &source_option()),
            nd(135, [2, 0, 0, 0, 9, 9], from, LAN6, LAN6, &source_option()),
            nd(136, ALL_NODES_MAC, from, "ff02::1", "2001:db8:1::7", &[]),
            nd(128, GROUP_MAC, from, GROUP, LAN6, &[]),
            question().with(14 + 7, 254),
            question().with(14 + 5, 23),
            question().with(14 + 5, 60),
            question().with(14 + 40 + 1, 1),
            question().with(14, 0x40),
            question().cut(14 + 63),
        ] {
            let mut frame = packet.bytes();
            frame[6..12].copy_from_slice(&HOST7_MAC);
            untouched(&mut d, &frame);
        }
        let mut group = frame(&question());
        group[6] = 3;
        untouched(&mut d, &group);
        d.lan(0, LAN6, 1);
        untouched(&mut d, &frame(&question()));
    }

    #[test]
    #[ignore = "root"]
    fn traffic_to_a_lan_address_is_judged_as_any() {
        let mut d = lan();
        let packet = tcp("192.0.2.7:4000", "192.0.2.50:80");
        assert_eq!(d.arrives(0, &packet).outcome, Outcome::Drop("no-rule"));
        d.rules(0, "", "any:80");
        for packet in [packet, tcp("[2001:db8:1::7]:4000", "[2001:db8:1::50]:80")] {
            assert_eq!(d.arrives(0, &packet).outcome, Outcome::Redirect);
        }
        // Only a question is answered; to a container, discovery is closed as ever.
        let echo = nd(135, UP0_MAC, "::", LAN6, LAN6, &[]);
        let answer = asks(&mut d, &frame(&echo));
        assert_eq!(answer.outcome, Outcome::Drop("icmp-type"));
    }
}
