//! Masquerading: what the wire sees of a container, what comes back, and what does not. Every frame
//! that leaves a program has its checksums verified.
//!
//! Endpoint 0 has the addresses of tests/common/datapath.rs and the ports 16384 to 16447; the host
//! is 192.0.2.1 and 2001:db8:1::1 on up0.

mod common;

mod root {
    use crate::common::datapath::{Datapath, GATEWAY0_MAC, Outcome, ip as command};
    use crate::common::nat::{
        COUNT, FIRST, dropped, enters, is_the_hosts, leaves, masqueraded, port, samples,
    };
    use crate::common::packet::{
        ACK, ETH, IPV4, IPV6, Packet, SYN, addr, icmp, icmp_error, ip, raw, read, tcp, udp,
    };

    /// The same but for what is translated.
    #[track_caller]
    fn same_payload(a: &Packet, b: &Packet) {
        let (from, sum) = match a.proto {
            6 => (4, 16),
            17 => (8, 6),
            _ => (6, 2),
        };
        let rest = |p: &Packet| {
            let mut bytes = p.transport[from..].to_vec();
            if sum >= from {
                bytes[sum - from..sum - from + 2].fill(0);
            }
            bytes
        };
        assert_eq!(rest(a), rest(b));
        assert_eq!((a.proto, a.transport.len()), (b.proto, b.transport.len()));
    }

    fn there_and_back(d: &mut Datapath) {
        for packet in samples() {
            let out = leaves(d, &packet);
            same_payload(&out, &packet);
            let is_echo = matches!(packet.proto, 1 | 58);
            let at = if is_echo { 4 } else { 0 };
            let share = FIRST..FIRST + COUNT;
            assert!(share.contains(&port(&out, at)), "{}", port(&out, at));
            let back = enters(d, &out.reply());
            same_payload(&back, &packet.reply());
            assert_eq!(back.source, packet.destination);
            assert_eq!(back.destination, packet.source);
            let at = if is_echo { 4 } else { 2 };
            assert_eq!(
                port(&back, at),
                port(&packet, at - if is_echo { 0 } else { 2 })
            );
            // Live now: the same way once more, with the same port.
            let again = leaves(d, &packet);
            assert_eq!(again.transport, out.transport);
        }
    }

    #[test]
    #[ignore = "root"]
    fn packets_leave_under_the_uplinks_address_and_answers_find_back() {
        there_and_back(&mut masqueraded());
    }

    #[test]
    #[ignore = "root"]
    fn a_sum_of_the_whole_packet_stays_right() {
        let mut d = masqueraded();
        d.checksum_complete = true;
        there_and_back(&mut d);
        let sent = udp("10.87.0.2:4001", "192.0.2.7:53");
        let out = leaves(&mut d, &sent);
        let mut without = out.reply();
        without.transport[6..8].fill(0);
        let answer = d.arrives(0, &with_header_sum(&without));
        assert_eq!(answer.outcome, Outcome::Redirect);
        for quoted in samples() {
            let out = leaves(&mut d, &quoted);
            enters(&mut d, &unreachable(&out));
        }
    }

    /// UDP of IPv4 may have no checksum; the header always has one.
    fn with_header_sum(packet: &Packet) -> Packet {
        let sum = packet.clone().summed().bytes();
        let packet = ip(
            packet.source,
            packet.destination,
            packet.proto,
            packet.transport.clone(),
        );
        packet
            .with(ETH + 10, sum[ETH + 10])
            .with(ETH + 11, sum[ETH + 11])
    }

    #[test]
    #[ignore = "root"]
    fn udp_without_a_checksum_gets_none() {
        let mut d = masqueraded();
        let sent = with_header_sum(&udp("10.87.0.2:4000", "192.0.2.7:53"));
        let answer = d.sends(0, &sent);
        assert_eq!(answer.outcome, Outcome::Redirect);
        let out = read(&answer.frame);
        assert_eq!(out.transport[6..8], [0, 0]);
    }

    #[test]
    #[ignore = "root"]
    fn udp_whose_sum_comes_to_zero_says_all_ones() {
        let mut d = masqueraded();
        let packet = udp("10.87.0.2:4000", "192.0.2.7:53");
        let out = leaves(&mut d, &packet);
        let check = port(&out, 6);
        // Growing a word by what is left to all ones makes the sum all ones, hence the field zero.
        let mut packet = packet;
        let word = u32::from(port(&packet, 8)) + u32::from(check);
        let word = u16::try_from((word & 0xffff) + (word >> 16)).unwrap();
        packet.transport[8..10].copy_from_slice(&word.to_be_bytes());
        let out = leaves(&mut d, &packet);
        assert_eq!(out.transport[6..8], [0xff, 0xff]);
    }

    #[test]
    #[ignore = "root"]
    fn only_the_exact_answer_is_translated() {
        let mut d = masqueraded();
        let sent = udp("10.87.0.2:4000", "192.0.2.7:53");
        let p = port(&leaves(&mut d, &sent), 0);
        let other = if p == FIRST { p + 1 } else { p - 1 };
        for packet in [
            udp("192.0.2.7:54", &format!("192.0.2.1:{p}")),
            udp("192.0.2.8:53", &format!("192.0.2.1:{p}")),
            udp("192.0.2.7:53", &format!("192.0.2.1:{other}")),
            udp("192.0.2.7:53", &format!("198.51.100.1:{p}")), // the host's other address
            tcp("192.0.2.7:53", &format!("192.0.2.1:{p}")).flags(ACK),
            udp("192.0.2.7:53", "192.0.2.1:4000"),
            icmp("192.0.2.7", "192.0.2.1", 0).id(p),
            icmp("192.0.2.7", "192.0.2.1", 8),
        ] {
            is_the_hosts(&mut d, &packet);
        }
        enters(&mut d, &udp("192.0.2.7:53", &format!("192.0.2.1:{p}")));
        // A fragment of an answer, or one with options, is not certainly one.
        let answer = udp("192.0.2.7:53", &format!("192.0.2.1:{p}"));
        for packet in [
            answer.clone().with(ETH + 6, 0x20),
            answer.clone().with(ETH + 7, 1),
            answer.with(ETH, 0x46),
        ] {
            let answer = d.arrives(0, &packet);
            assert_eq!(answer.outcome, Outcome::Next);
        }
    }

    #[test]
    #[ignore = "root"]
    fn a_connection_from_the_wire_is_the_hosts() {
        let mut d = masqueraded();
        let out = leaves(&mut d, &tcp("10.87.0.2:4000", "192.0.2.7:443"));
        let p = port(&out, 0);
        is_the_hosts(&mut d, &tcp("192.0.2.7:443", &format!("192.0.2.1:{p}")));
        enters(&mut d, &out.reply());
    }

    #[test]
    #[ignore = "root"]
    fn the_wire_never_reaches_a_masqueraded_address() {
        let mut d = masqueraded();
        let sent = tcp("10.87.0.2:4000", "192.0.2.7:443");
        leaves(&mut d, &sent);
        dropped(&d.arrives(0, &sent.reply()), "nat-direct");
        for packet in [
            tcp("192.0.2.7:4000", "10.87.0.2:80"),
            icmp("2001:db8:1::7", "2001:db8:87::2", 128),
        ] {
            dropped(&d.arrives(0, &packet), "nat-direct");
        }
    }

    #[test]
    #[ignore = "root"]
    fn only_what_has_ports_is_translated() {
        let mut d = masqueraded();
        let sctp = raw(
            "10.87.0.2",
            "192.0.2.7",
            132,
            &[0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0],
        );
        d.rules(0, "any:any any:multicast", "");
        for packet in [
            sctp,
            raw("10.87.0.2", "192.0.2.7", 47, &[0; 8]),
            icmp("10.87.0.2", "192.0.2.7", 13), // timestamp
            icmp("10.87.0.2", "192.0.2.7", 0),
            udp("10.87.0.2:5353", "224.0.0.251:5353"),
        ] {
            dropped(&d.sends(0, &packet), "nat-protocol");
        }
    }

    #[test]
    #[ignore = "root"]
    fn an_uplink_without_an_address_masquerades_nothing() {
        let mut d = masqueraded();
        command(
            "address flush dev up0 scope global\nroute add default via 192.0.2.254 dev up0 onlink\naddress flush dev up1\naddress flush dev lan0\n",
        );
        let answer = d.sends(0, &udp("10.87.0.2:4000", "203.0.114.7:53"));
        dropped(&answer, "nat-address");
    }

    #[test]
    #[ignore = "root"]
    fn to_the_host_and_to_containers_nothing_is_translated() {
        let mut d = masqueraded();
        d.rules(0, "any:host any:containers", "");
        let sent = tcp("10.87.0.2:4000", "192.0.2.1:80").summed();
        let answer = d.sends(0, &sent);
        assert_eq!(
            (answer.outcome, &answer.frame),
            (Outcome::Pass, &sent.bytes())
        );
        let sent = tcp("10.87.0.2:4000", "10.87.0.3:80").summed();
        let answer = d.sends(0, &sent);
        assert_eq!(answer.outcome, Outcome::Redirect);
        assert_eq!(read(&answer.frame).source, addr("10.87.0.2"));
    }

    /// An error about a packet that the wire saw, from a router on the way.
    fn unreachable(seen: &Packet) -> Packet {
        if seen.source.is_ipv4() {
            icmp_error("203.0.113.254", &seen.source.to_string(), 3, seen)
        } else {
            icmp_error("2001:db8:113::fe", &seen.source.to_string(), 1, seen)
        }
    }

    #[test]
    #[ignore = "root"]
    fn errors_about_a_flow_come_back_with_the_packet_that_was_sent() {
        let mut d = masqueraded();
        for sent in samples() {
            let seen = leaves(&mut d, &sent);
            let got = enters(&mut d, &unreachable(&seen));
            assert_eq!(got.destination, sent.source);
            let header = if sent.source.is_ipv4() { IPV4 } else { IPV6 };
            // As sent, but for a checksum that the quote leaves out: TCP's.
            let original = sent.clone().summed().bytes()[ETH..ETH + header + 8].to_vec();
            assert_eq!(got.transport[8..], original, "{sent:?}");
        }
    }

    #[test]
    #[ignore = "root"]
    fn longer_quotes_have_their_tcp_checksum_mended() {
        let mut d = masqueraded();
        let sent = tcp("10.87.0.2:4000", "192.0.2.7:443").payload(8);
        let seen = leaves(&mut d, &sent);
        let mut error = icmp("203.0.113.254", "192.0.2.1", 3);
        error.transport[4..8].fill(0);
        error
            .transport
            .extend(&seen.clone().summed().bytes()[ETH..]);
        let got = enters(&mut d, &error);
        assert_eq!(got.transport[8..], sent.summed().bytes()[ETH..]);
    }

    #[test]
    #[ignore = "root"]
    fn errors_about_other_flows_are_the_hosts() {
        let mut d = masqueraded();
        let seen = leaves(&mut d, &udp("10.87.0.2:4000", "192.0.2.7:53"));
        let p = port(&seen, 0);
        let other = if p == FIRST { p + 1 } else { p - 1 };
        for quoted in [
            udp(&format!("192.0.2.1:{other}"), "192.0.2.7:53"),
            udp(&format!("192.0.2.1:{p}"), "192.0.2.7:54"),
            udp("192.0.2.1:4000", "192.0.2.7:53"),
            tcp(&format!("192.0.2.1:{p}"), "192.0.2.7:53"),
        ] {
            is_the_hosts(&mut d, &unreachable(&quoted));
        }
    }

    #[test]
    #[ignore = "root"]
    fn a_containers_own_error_leaves_translated() {
        let mut d = masqueraded();
        for sent in samples() {
            let seen = leaves(&mut d, &sent);
            let answer = enters(&mut d, &seen.reply());
            let kind = if sent.source.is_ipv4() { 3 } else { 1 };
            let error = icmp_error(
                &sent.source.to_string(),
                &sent.destination.to_string(),
                kind,
                &answer,
            );
            let out = leaves(&mut d, &error);
            let header = if sent.source.is_ipv4() { IPV4 } else { IPV6 };
            let original = seen.reply().summed().bytes()[ETH..ETH + header + 8].to_vec();
            assert_eq!(out.transport[8..], original, "{sent:?}");
        }
    }

    #[test]
    #[ignore = "root"]
    fn a_way_back_that_was_forgotten_is_written_again() {
        let mut d = masqueraded();
        for sent in samples() {
            let out = leaves(&mut d, &sent);
            d.new_nat_table(0, 1024);
            is_the_hosts(&mut d, &out.reply());
            d.edit_flows(0, 0, |f| f.routed = f.routed.wrapping_sub(1000));
            assert_eq!(leaves(&mut d, &sent).transport, out.transport);
            enters(&mut d, &out.reply());
        }
    }

    #[test]
    #[ignore = "root"]
    fn an_address_that_is_gone_is_given_up_and_one_that_is_only_older_is_kept() {
        let mut d = masqueraded();
        let sent = udp("10.87.0.2:4000", "203.0.114.7:53");
        let stale = |d: &Datapath| {
            assert_eq!(
                d.edit_flows(0, 0, |f| f.routed = f.routed.wrapping_sub(1000)),
                1
            );
        };
        leaves(&mut d, &sent);
        // Another one is preferred now.
        command(
            "address add 192.0.2.9/24 dev up0\nroute replace default via 192.0.2.254 src 192.0.2.9\n",
        );
        stale(&d);
        leaves(&mut d, &sent);
        command(
            "address delete 192.0.2.1/24 dev up0\naddress replace 192.0.2.9/24 dev up0\nroute replace default via 192.0.2.254 src 192.0.2.9\nneighbour replace 192.0.2.254 lladdr 02:00:00:00:01:fe dev up0\n",
        );
        stale(&d);
        let answer = d.sends(0, &sent.clone().summed());
        let out = read(&answer.frame);
        assert_eq!(out.source, addr("192.0.2.9"));
        assert_eq!(answer.frame[..6], GATEWAY0_MAC);
        let back = enters(&mut d, &out.reply());
        assert_eq!(back.destination, addr("10.87.0.2"));
    }

    #[test]
    #[ignore = "root"]
    fn a_route_that_moves_to_another_uplink_takes_its_address() {
        let mut d = masqueraded();
        let sent = udp("10.87.0.2:4000", "203.0.114.7:53");
        let first = leaves(&mut d, &sent);
        command("route replace default via 198.51.100.254\n");
        d.edit_flows(0, 0, |f| f.routed = f.routed.wrapping_sub(1000));
        let answer = d.sends(0, &sent.clone().summed());
        let out = read(&answer.frame);
        assert_eq!(out.source, addr("198.51.100.1"));
        assert_eq!(port(&out, 0), port(&first, 0), "it was free there");
        let answer = d.arrives(1, &out.reply().summed());
        assert_eq!(answer.outcome, Outcome::Redirect);
        is_the_hosts(&mut d, &first.reply());
    }

    #[test]
    #[ignore = "root"]
    fn a_revoked_rule_cuts_masqueraded_flows_from_both_sides() {
        let mut d = masqueraded();
        let sent = tcp("10.87.0.2:4000", "192.0.2.7:443");
        let out = leaves(&mut d, &sent);
        enters(&mut d, &out.reply());
        d.rules(0, "udp:any", "");
        dropped(&d.arrives(0, &out.reply()), "no-rule");
        dropped(&d.sends(0, &sent.flags(SYN)), "no-rule");
        is_the_hosts(&mut d, &out.reply());
    }
}
