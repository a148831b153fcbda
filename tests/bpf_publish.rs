//! Published ports: what comes from the wire to a port of the host, and what goes back. Every frame
//! that leaves a program has its checksums verified.
//!
//! Endpoint 0 has TCP and UDP 80 behind 8080 of any address of the host, both families; its addresses
//! are masqueraded ones. The host is 192.0.2.1 and 2001:db8:1::1 on up0, 198.51.100.1 on up1.

mod common;

mod root {
    use std::net::{TcpListener, UdpSocket};

    use crate::common::datapath::{Datapath, Outcome, ip as command, next_jiffy};
    use crate::common::nat::{dropped, enters, is_the_hosts};
    use crate::common::packet::{
        ACK, ETH, FIN, IPV4, IPV6, Packet, RST, addr, icmp, icmp_error, read, tcp, udp,
    };
    use crate::common::publish::{ANY, TCP, UDP, inside, ports, published, samples};

    /// What the wire sees of a packet of the container's.
    #[track_caller]
    fn leaves(d: &mut Datapath, packet: &Packet) -> Packet {
        let answer = d.sends(0, &packet.clone().summed());
        assert_eq!(answer.outcome, Outcome::Redirect, "{packet:?}");
        read(&answer.frame)
    }

    fn in_and_out(d: &mut Datapath) {
        for packet in samples() {
            let got = enters(d, &packet);
            assert_eq!(got.source, packet.source, "the real client");
            assert_eq!(got.destination, addr(inside(&packet)));
            assert_eq!(ports(&got), (5000, 80));
            // The first answer asks for the route, the second follows the flow.
            for _ in 0..2 {
                let out = leaves(d, &got.reply());
                assert_eq!(out.source, packet.destination);
                assert_eq!(out.destination, packet.source);
                assert_eq!(ports(&out), (8080, 5000));
            }
            let packet = if packet.proto == TCP {
                packet.flags(ACK).payload(33)
            } else {
                packet
            };
            let again = enters(d, &packet);
            assert_eq!(again.destination, addr(inside(&packet)));
            assert_eq!(again.transport.len(), packet.transport.len());
        }
    }

    #[test]
    #[ignore = "root"]
    fn clients_reach_the_container_and_hear_from_the_port_they_asked() {
        in_and_out(&mut published());
    }

    #[test]
    #[ignore = "root"]
    fn a_sum_of_the_whole_packet_stays_right() {
        let mut d = published();
        d.checksum_complete = true;
        in_and_out(&mut d);
    }

    #[test]
    #[ignore = "root"]
    fn routed_addresses_are_published_too() {
        let mut d = Datapath::new();
        for host in ANY {
            d.publish(host, TCP, 8080, 0, 80);
            d.publish(host, UDP, 8080, 0, 80);
        }
        d.rules(0, "", "any:80 udp:any:80");
        in_and_out(&mut d);
        // Directly all the same, under its own address then, also between the same ends.
        let direct = tcp("192.0.2.7:5000", "10.87.0.2:80");
        let got = enters(&mut d, &direct);
        assert_eq!(leaves(&mut d, &got.reply()).source, addr("10.87.0.2"));
    }

    #[test]
    #[ignore = "root"]
    fn a_connection_is_counted_as_one_opened_towards_the_container() {
        let mut d = published();
        let syn = tcp("192.0.2.7:5000", "192.0.2.1:8080").summed();
        let answer = d.arrives(0, &syn);
        assert!(answer.opened);
        let mut seen = 0;
        d.edit_flows(0, 1, |f| {
            assert_eq!(u16::from_be(f.nat_port), 8080);
            assert_eq!(u16::from_be(f.key.local_port), 80);
            assert_eq!(f.via, 0);
        });
        seen += d.edit_flows(0, 1, |_| {});
        assert_eq!(seen, 1);
        assert_eq!(d.edit_flows(0, 0, |_| {}), 0);
        assert!(!d.arrives(0, &syn.flags(ACK)).opened);
    }

    #[test]
    #[ignore = "root"]
    fn what_is_not_published_is_the_hosts() {
        let mut d = published();
        d.publish("192.0.2.1", TCP, 9090, 0, 90);
        d.rules(0, "", "any:any");
        for packet in [
            tcp("192.0.2.7:5000", "192.0.2.1:80"),
            tcp("192.0.2.7:5000", "192.0.2.1:8081"),
            udp("192.0.2.7:5000", "192.0.2.1:9090"),
            tcp("192.0.2.7:5000", "198.51.100.1:9090"),
            tcp("[2001:db8:1::7]:5000", "[2001:db8:1::1]:9090"),
            icmp("192.0.2.7", "192.0.2.1", 8).id(8080),
            icmp("192.0.2.7", "192.0.2.1", 0).id(8080),
        ] {
            is_the_hosts(&mut d, &packet);
        }
        enters(&mut d, &tcp("192.0.2.7:5000", "192.0.2.1:9090"));
        // Not certainly for the port: the host's stack puts it together.
        for packet in [
            tcp("192.0.2.7:5001", "192.0.2.1:8080").with(ETH + 6, 0x20),
            tcp("192.0.2.7:5001", "192.0.2.1:8080").with(ETH, 0x46),
        ] {
            assert_eq!(d.arrives(0, &packet).outcome, Outcome::Next);
        }
    }

    #[test]
    #[ignore = "root"]
    fn an_address_of_the_host_goes_before_any() {
        let mut d = published();
        d.rules(1, "", "any:81");
        d.publish("198.51.100.1", TCP, 8080, 1, 81);
        let answer = d.arrives(0, &tcp("192.0.2.7:5000", "198.51.100.1:8080").summed());
        assert_eq!(answer.endpoint, Some(1));
        assert_eq!(ports(&read(&answer.frame)), (5000, 81));
        enters(&mut d, &tcp("192.0.2.7:5000", "192.0.2.1:8080"));
    }

    #[test]
    #[ignore = "root"]
    fn only_the_hosts_own_addresses_are_published() {
        let mut d = published();
        for to in [
            "203.0.113.9",
            "172.17.0.2",
            "127.0.0.1",
            "0.0.0.0",
            "224.0.0.1",
        ] {
            is_the_hosts(&mut d, &tcp("192.0.2.7:5000", &format!("{to}:8080")));
        }
        for to in ["2001:db8:113::9", "::1", "::", "ff02::1"] {
            is_the_hosts(
                &mut d,
                &tcp("[2001:db8:1::7]:5000", &format!("[{to}]:8080")),
            );
        }
        // Any of its own ones: the other uplink's, the inner network's.
        for to in ["198.51.100.1", "172.17.0.1"] {
            enters(&mut d, &tcp("192.0.2.7:5000", &format!("{to}:8080")));
        }
    }

    #[test]
    #[ignore = "root"]
    fn ingress_rules_judge_the_real_client_and_the_containers_port() {
        let mut d = published();
        d.rules(0, "", "192.0.2.7:80 [2001:db8:1::7]:80 any:8080");
        for packet in [
            tcp("192.0.2.8:5000", "192.0.2.1:8080"),
            udp("192.0.2.7:5000", "192.0.2.1:8080"),
            tcp("[2001:db8:1::8]:5000", "[2001:db8:1::1]:8080"),
        ] {
            dropped(&d.arrives(0, &packet), "no-rule");
        }
        enters(&mut d, &samples()[0]);
        enters(&mut d, &samples()[2]);
        d.rules(0, "", "any:80 !any:192.0.2.7");
        dropped(
            &d.arrives(0, &tcp("192.0.2.7:5001", "192.0.2.1:8080")),
            "deny-rule",
        );
        d.rules(0, "any:any udp:any", "");
        dropped(
            &d.arrives(0, &tcp("192.0.2.7:5002", "192.0.2.1:8080")),
            "no-rule",
        );
        d.policy_word(0, 0);
        dropped(
            &d.arrives(0, &tcp("192.0.2.7:5002", "192.0.2.1:8080")),
            "no-policy",
        );
    }

    #[test]
    #[ignore = "root"]
    fn a_source_that_does_not_fit_the_routes_is_dropped() {
        let mut d = published();
        for (from, reason) in [
            ("10.87.0.3", "spoofed-source"),
            ("172.17.0.2", "spoofed-source"),
            ("198.51.100.1", "spoofed-source"),
            ("127.0.0.1", "martian"),
            ("224.0.0.1", "martian"),
        ] {
            dropped(
                &d.arrives(0, &tcp(&format!("{from}:5000"), "192.0.2.1:8080")),
                reason,
            );
        }
        dropped(
            &d.arrives(0, &tcp("192.0.2.7:5000", "192.0.2.1:8080").flags(ACK)),
            "not-syn",
        );
        // From the metadata service's address, which `any` does not mean.
        dropped(
            &d.arrives(0, &tcp("169.254.169.254:5000", "192.0.2.1:8080")),
            "metadata",
        );
    }

    #[test]
    #[ignore = "root"]
    fn the_private_address_itself_stays_out_of_reach() {
        let mut d = published();
        let got = enters(&mut d, &samples()[0]);
        dropped(&d.arrives(0, &got), "nat-direct");
        // An answer to nobody's question leaves by no published port.
        d.rules(0, "", "any:80");
        dropped(
            &d.sends(0, &tcp("10.87.0.2:80", "192.0.2.9:5000").flags(ACK)),
            "no-rule",
        );
        dropped(
            &d.sends(0, &udp("10.87.0.2:80", "192.0.2.7:5000")),
            "no-rule",
        );
    }

    #[test]
    #[ignore = "root"]
    fn a_revoked_rule_cuts_live_connections_both_ways() {
        for take_away in ["", "udp:any:80", "any:80 !any:192.0.2.0/24"] {
            let mut d = published();
            let got = enters(&mut d, &samples()[0]);
            leaves(&mut d, &got.reply());
            d.rules(0, "", take_away);
            let sent = d.sends(0, &got.reply().flags(ACK));
            assert!(matches!(sent.outcome, Outcome::Drop(_)), "{take_away}");
            let came = d.arrives(0, &samples()[0].clone().flags(ACK));
            assert!(matches!(came.outcome, Outcome::Drop(_)), "{take_away}");
        }
    }

    #[test]
    #[ignore = "root"]
    fn what_the_port_is_taken_from_lives_on_until_it_ends() {
        let mut d = published();
        let got = enters(&mut d, &samples()[0]);
        d.publish("0.0.0.0", TCP, 8080, 1, 80);
        assert_eq!(leaves(&mut d, &got.reply()).source, addr("192.0.2.1"));
    }

    #[test]
    #[ignore = "root"]
    fn a_port_that_a_socket_of_the_host_has_is_the_hosts() {
        let mut d = published();
        let got = enters(&mut d, &samples()[0]);
        let listener = TcpListener::bind(("0.0.0.0", 8080)).unwrap();
        is_the_hosts(&mut d, &tcp("192.0.2.7:5001", "192.0.2.1:8080"));
        let datagrams = UdpSocket::bind(("::", 8080)).unwrap();
        for packet in &samples()[1..] {
            if packet.proto == UDP {
                is_the_hosts(&mut d, packet);
            }
        }
        // Connections that the container has already are its own.
        enters(&mut d, &samples()[0].clone().flags(ACK));
        leaves(&mut d, &got.reply());
        drop((listener, datagrams));
        enters(&mut d, &tcp("192.0.2.7:5001", "192.0.2.1:8080"));
    }

    #[test]
    #[ignore = "root"]
    fn errors_of_routers_come_with_the_packet_that_was_sent() {
        let mut d = published();
        for packet in samples() {
            let answer = enters(&mut d, &packet).reply();
            let seen = leaves(&mut d, &answer);
            let host = seen.source.to_string();
            let (router, kind, header) = if seen.source.is_ipv4() {
                ("203.0.113.254", 3, IPV4)
            } else {
                ("2001:db8:113::fe", 2, IPV6)
            };
            let got = enters(&mut d, &icmp_error(router, &host, kind, &seen));
            assert_eq!(got.source, addr(router));
            assert_eq!(got.destination, answer.source);
            let original = &answer.summed().bytes()[ETH..ETH + header + 8];
            assert_eq!(got.transport[8..], *original);
            // About nobody's connection: the host's.
            let other = tcp(&format!("{}:8080", bracketed(&host)), &far(&host));
            is_the_hosts(&mut d, &icmp_error(router, &host, kind, &other));
        }
    }

    fn bracketed(address: &str) -> String {
        if address.contains(':') {
            format!("[{address}]")
        } else {
            address.to_owned()
        }
    }

    fn far(near: &str) -> String {
        if near.contains(':') {
            "[2001:db8:1::9]:1".into()
        } else {
            "192.0.2.9:1".into()
        }
    }

    #[test]
    #[ignore = "root"]
    fn a_containers_error_leaves_about_the_packet_that_the_client_sent() {
        let mut d = published();
        for packet in samples() {
            let got = enters(&mut d, &packet);
            let kind = if packet.source.is_ipv4() { 3 } else { 1 };
            let error = icmp_error(
                &got.destination.to_string(),
                &got.source.to_string(),
                kind,
                &got,
            );
            let out = leaves(&mut d, &error);
            assert_eq!(out.source, packet.destination);
            let header = if packet.source.is_ipv4() { IPV4 } else { IPV6 };
            let original = &packet.summed().bytes()[ETH..ETH + header + 8];
            assert_eq!(out.transport[8..], *original);
        }
    }

    #[test]
    #[ignore = "root"]
    fn answers_leave_by_the_uplink_that_the_question_came_by() {
        let mut d = published();
        let asked = tcp("192.0.2.7:5000", "192.0.2.1:8080").summed();
        let answer = d.arrives(1, &asked);
        assert_eq!(answer.outcome, Outcome::Redirect);
        let got = read(&answer.frame);
        for _ in 0..2 {
            let out = leaves(&mut d, &got.reply());
            assert_eq!(out.source, addr("192.0.2.1"));
            assert_eq!(ports(&out), (8080, 5000));
        }
        d.edit_flows(0, 1, |f| {
            assert_eq!(f.flags & 4, 0, "up0's neighbour is not up1's")
        });
    }

    #[test]
    #[ignore = "root"]
    fn an_address_that_is_gone_is_not_used() {
        let mut d = published();
        let got = enters(&mut d, &samples()[0]);
        leaves(&mut d, &got.reply());
        command(
            "address add 192.0.2.9/24 dev up0\naddress delete 192.0.2.1/24 dev up0\naddress replace 192.0.2.9/24 dev up0\nroute replace default via 192.0.2.254\n",
        );
        d.edit_flows(0, 1, |f| f.routed = f.routed.wrapping_sub(1000));
        dropped(&d.sends(0, &got.reply().flags(ACK)), "nat-address");
        is_the_hosts(&mut d, &tcp("192.0.2.7:5001", "192.0.2.1:8080"));
        enters(&mut d, &tcp("192.0.2.7:5001", "192.0.2.9:8080"));
    }

    #[test]
    #[ignore = "root"]
    fn between_the_same_ends_the_newest_way_counts() {
        let mut d = published();
        d.publish("0.0.0.0", UDP, 8081, 0, 80);
        d.rules(0, "udp:any", "udp:any:80");
        let first = udp("192.0.2.7:5000", "192.0.2.1:8080");
        let second = udp("192.0.2.7:5000", "192.0.2.1:8081");
        // The container spoke first, from the very port that is published.
        let sent = udp("10.87.0.2:80", "192.0.2.7:5000");
        let masqueraded = leaves(&mut d, &sent);
        enters(&mut d, &masqueraded.reply());
        for (packet, port) in [(&first, 8080), (&second, 8081), (&first, 8080)] {
            enters(&mut d, packet);
            assert_eq!(ports(&leaves(&mut d, &sent)), (port, 5000));
        }
        next_jiffy();
        is_the_hosts(&mut d, &masqueraded.reply());
    }

    #[test]
    #[ignore = "root"]
    fn masquerading_leaves_published_ports_alone() {
        let mut d = published();
        d.masquerade(0, 16384, 32);
        d.rules(0, "any:any", "");
        d.publish("0.0.0.0", UDP, 16390, 0, 53);
        for n in 0..200u16 {
            let answer = d.sends(
                0,
                &tcp(&format!("10.87.0.2:{}", 20000 + n), "192.0.2.7:80").summed(),
            );
            if answer.outcome == Outcome::Redirect {
                assert_ne!(ports(&read(&answer.frame)).0, 16390);
            }
        }
    }

    #[test]
    #[ignore = "root"]
    fn a_closed_connection_may_be_opened_again() {
        let mut d = published();
        let syn = samples()[0].clone();
        let got = enters(&mut d, &syn);
        leaves(&mut d, &got.reply());
        enters(&mut d, &syn.clone().flags(FIN | ACK));
        leaves(&mut d, &got.reply().flags(FIN | ACK));
        enters(&mut d, &syn.clone().flags(RST));
        let answer = d.arrives(0, &syn.summed());
        assert!(answer.opened);
    }
}
