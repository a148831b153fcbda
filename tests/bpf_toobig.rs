//! What a container hears about a packet that is larger than its path. The packet itself is dropped
//! and counted in every case.

mod common;

mod root {
    use std::time::Duration;

    use crate::common::checksum;
    use crate::common::datapath::{
        ADDRESSES, Answer, Datapath, MARK_REPLY, Outcome, ip as command, tick,
    };
    use crate::common::packet::{ACK, ETH, IPV4, IPV6, Packet, icmp, icmp_error, raw, tcp, udp};

    fn open() -> Datapath {
        let mut d = Datapath::new();
        d.rules(0, "any:any icmp:any", "any:any");
        d
    }

    /// A packet that is too large, at a time when the endpoint may have an answer.
    #[track_caller]
    fn sends(d: &mut Datapath, packet: &Packet) -> Answer {
        // By the programs' clock, which stands still for as long as a busy machine likes.
        let before = tick();
        while tick() == before {
            std::thread::sleep(Duration::from_millis(2));
        }
        let answer = d.sends(0, packet);
        assert_eq!(answer.outcome, Outcome::Drop("oversize"));
        assert_eq!(answer.endpoint, Some(0));
        assert!(!answer.opened);
        answer
    }

    /// The answer is sound in every byte, says `mtu`, and the container gets it.
    #[track_caller]
    fn answered(d: &mut Datapath, packet: &Packet, mtu: u32) {
        let answer = sends(d, packet);
        assert!(answer.answered);
        assert_eq!(answer.mark, MARK_REPLY);
        let (ethernet, message) = answer.frame.split_at(ETH);
        assert_eq!(ethernet[..12], [0; 12]);
        assert_eq!(ethernet[12..], packet.bytes()[12..ETH]);
        assert_eq!(checksum::fault(message), None, "{message:02x?}");
        let (header, most) = if packet.source.is_ipv4() {
            assert_eq!(message[..2], [0x45, 0xc0]);
            assert_eq!(message[8..10], [64, 1]);
            assert_eq!(message[12..16], packet.bytes()[ETH + 16..ETH + 20]);
            assert_eq!(message[16..20], [10, 87, 0, 2]);
            assert_eq!(message[IPV4..IPV4 + 2], [3, 4]);
            let field = &message[IPV4 + 4..IPV4 + 8];
            assert_eq!(
                field,
                [[0, 0], u16::try_from(mtu).expect("sound").to_be_bytes()].concat()
            );
            (IPV4, 576)
        } else {
            let own = ADDRESSES[0][1]
                .parse::<std::net::Ipv6Addr>()
                .expect("sound");
            assert_eq!(message[6..8], [58, 64]);
            assert_eq!(message[8..24], packet.bytes()[ETH + 24..ETH + 40]);
            assert_eq!(message[24..40], own.octets());
            assert_eq!(message[IPV6..IPV6 + 2], [2, 0]);
            assert_eq!(message[IPV6 + 4..IPV6 + 8], mtu.to_be_bytes());
            (IPV6, 1280)
        };
        let quote = &message[header + 8..];
        let whole = &packet.bytes()[ETH..];
        assert_eq!(quote, &whole[..quote.len()]);
        assert!(message.len() <= most, "{} bytes", message.len());
        assert!(
            message.len() + 16 > whole.len().min(most),
            "as much as fits"
        );
        let back = d.run(
            crate::common::datapath::Hook::ToContainer,
            d.ifindex.peer[0],
            &answer.frame,
            answer.mark,
            0,
        );
        assert_eq!(back.outcome, Outcome::Pass);
        assert_eq!(back.mark, 0);
        assert_eq!(back.frame, answer.frame);
    }

    #[test]
    #[ignore = "root"]
    fn the_container_hears_the_mtu_of_the_path_in_both_families_and_every_protocol() {
        let mut d = open();
        for packet in [
            tcp("10.87.0.2:4000", "192.0.2.7:443"),
            tcp("10.87.0.2:4000", "192.0.2.7:443").flags(ACK),
            udp("10.87.0.2:4000", "192.0.2.7:53"),
            icmp("10.87.0.2", "192.0.2.7", 8),
            raw("10.87.0.2", "192.0.2.7", 132, &[0; 12]),
            raw("10.87.0.2", "192.0.2.7", 47, &[0; 12]),
            tcp("[2001:db8:87::2]:4000", "[2001:db8:1::7]:443"),
            udp("[2001:db8:87::2]:4000", "[2001:db8:1::7]:53"),
            icmp("2001:db8:87::2", "2001:db8:1::7", 128),
        ] {
            answered(&mut d, &packet.payload(1500).summed(), 1500);
        }
        // By an uplink with an MTU of 1400; one byte too large, and much.
        for (packet, header) in [
            (udp("10.87.0.2:4000", "203.0.113.9:53"), IPV4),
            (udp("[2001:db8:87::2]:4000", "[2001:db8:113::9]:53"), IPV6),
        ] {
            let fits = packet.clone().payload(1400 - header - 12);
            assert_eq!(d.sends(0, &fits).outcome, Outcome::Redirect);
            answered(&mut d, &fits.payload(1), 1400);
            answered(&mut d, &packet.clone().payload(1500 - header - 12), 1400);
            answered(&mut d, &packet.payload(3500), 1400);
        }
    }

    #[test]
    #[ignore = "root"]
    fn routes_and_live_flows_have_their_own_limits() {
        let mut d = open();
        // Without `lock` the kernel takes no notice of it for what it forwards (ip_forward_use_pmtu).
        command("route add 192.0.2.66/32 dev up0 mtu lock 1300");
        command("route add 2001:db8:1::66/128 dev up0 mtu lock 1300");
        command("route add 192.0.2.70/32 via 192.0.2.7 dev up0 mtu lock 600");
        // The first two have no neighbour.
        for (packet, mtu) in [
            (udp("10.87.0.2:4000", "192.0.2.66:53"), 1300),
            (udp("[2001:db8:87::2]:4000", "[2001:db8:1::66]:53"), 1300),
            (udp("10.87.0.2:4000", "192.0.2.70:53"), 600),
        ] {
            assert_eq!(d.sends(0, &packet).outcome, Outcome::Redirect);
            answered(&mut d, &packet.clone().payload(1400), mtu);
            d.new_flow_table(0, 0, 1024);
            answered(&mut d, &packet.payload(1400), mtu);
        }
        let packet = tcp("10.87.0.2:4000", "192.0.2.7:443");
        assert_eq!(d.sends(0, &packet).outcome, Outcome::Redirect);
        d.edit_flows(0, 0, |f| f.mtu_bytes = 700);
        answered(&mut d, &packet.payload(700).flags(ACK), 700);
    }

    #[test]
    #[ignore = "root"]
    fn answers_by_the_uplink_the_question_came_by_fit_that_uplink() {
        let mut d = open();
        for (n, from, fits, mtu) in [
            (1, "192.0.2.7:4000", 1400, 1400), // the routes say up0, with 1500
            (0, "203.0.113.9:4000", 1500, 1500), // and up1, with 1400
        ] {
            let question = udp(from, "10.87.0.2:53");
            assert_eq!(d.arrives(n, &question).outcome, Outcome::Redirect);
            let fitting = question.reply().payload(fits - IPV4 - 12);
            assert_eq!(d.sends(0, &fitting).outcome, Outcome::Redirect);
            answered(&mut d, &fitting.payload(1), mtu);
        }
    }

    #[test]
    #[ignore = "root"]
    fn what_it_sent_to_is_quoted_untranslated() {
        let mut d = open();
        d.masquerade(0, 16384, 64);
        for packet in [
            udp("10.87.0.2:4000", "203.0.113.9:53"),
            tcp("[2001:db8:87::2]:4000", "[2001:db8:113::9]:53"),
        ] {
            answered(&mut d, &packet.clone().payload(1440), 1400);
            assert_eq!(d.sends(0, &packet).outcome, Outcome::Redirect);
            answered(&mut d, &packet.payload(1440), 1400);
        }
    }

    #[test]
    #[ignore = "root"]
    fn rules_speak_before_the_size_of_the_path() {
        let mut d = open();
        d.rules(0, "udp:203.0.113.9:53", "");
        let allowed = udp("10.87.0.2:4000", "203.0.113.9:53").payload(1440);
        answered(&mut d, &allowed, 1400);
        let other = udp("10.87.0.2:4000", "203.0.113.9:54").payload(1440);
        let answer = d.sends(0, &other);
        assert_eq!(answer.outcome, Outcome::Drop("no-rule"));
        assert!(!answer.answered);
    }

    #[test]
    #[ignore = "root"]
    fn some_packets_get_no_answer() {
        let mut d = open();
        let near = udp("10.87.0.2:4000", "192.0.2.7:53");
        assert_eq!(d.sends(0, &near).outcome, Outcome::Redirect);
        let near6 = udp("[2001:db8:87::2]:4000", "[2001:db8:1::7]:53");
        assert_eq!(d.sends(0, &near6).outcome, Outcome::Redirect);
        let error = |from, to, kind, about: &Packet| {
            icmp_error(from, to, kind, &about.reply()).payload(1500)
        };
        for packet in [
            // Without "don't fragment" a router would fragment it.
            near.clone().payload(1500).with(ETH + 6, 0),
            // An error about an error.
            error("10.87.0.2", "192.0.2.7", 3, &near),
            error("2001:db8:87::2", "2001:db8:1::7", 1, &near6),
            // To many.
            udp("10.87.0.2:4000", "224.0.0.251:5353").payload(1500),
            udp("[2001:db8:87::2]:4000", "[ff0e::fb]:5353").payload(1500),
        ] {
            assert!(!sends(&mut d, &packet).answered);
        }
        // IPv6 has no smaller MTU than 1280 to offer.
        d.edit_flows(0, 0, |f| f.mtu_bytes = 1000);
        assert!(!sends(&mut d, &near6.clone().payload(1000)).answered);
        answered(&mut d, &near6.payload(1400), 1280);
        answered(&mut d, &near.payload(1400), 1000);
    }

    #[test]
    #[ignore = "root"]
    fn a_flood_is_answered_once_in_a_tick() {
        let mut d = open();
        let packet = udp("10.87.0.2:4000", "192.0.2.7:53").payload(1500);
        let start = tick();
        let answers = (0..500).filter(|_| d.sends(0, &packet).answered).count();
        let ticks = tick() - start + 1;
        assert!(answers >= 1);
        assert!(
            answers <= ticks as usize,
            "{answers} answers in {ticks} ticks"
        );
        assert!(answers < 400, "{answers} answers");
    }
}
