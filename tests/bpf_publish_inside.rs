//! Published ports as other containers reach them, at an address of the host. Endpoint 1 is the client.

mod common;

mod root {
    use std::net::TcpListener;

    use crate::common::datapath::{Datapath, MARK_JUDGED, Outcome};
    use crate::common::nat::dropped;
    use crate::common::packet::{ACK, ETH, IPV4, IPV6, Packet, addr, icmp_error, read, tcp};
    use crate::common::publish::{inside, ports, published, samples};

    /// Endpoint 1 is the client.
    fn between_containers(egress: &str, ingress: &str) -> Datapath {
        let mut d = published();
        d.host_addresses(&["192.0.2.1", "2001:db8:1::1"]);
        d.rules(0, "", ingress);
        d.rules(1, egress, "");
        d
    }

    /// Clients' first packets, each as an endpoint's.
    fn from_container() -> Vec<Packet> {
        let mut packets = samples();
        for packet in &mut packets {
            packet.source = addr(if packet.source.is_ipv4() {
                "10.87.0.3"
            } else {
                "2001:db8:87::3"
            });
        }
        packets
    }

    /// The same to the container itself.
    fn directly(packet: &Packet) -> Packet {
        let mut direct = packet.clone();
        direct.destination = addr(inside(packet));
        direct.transport[2..4].copy_from_slice(&80u16.to_be_bytes());
        direct
    }

    /// What one container's packet becomes, and what the other one gets of it.
    #[track_caller]
    fn crosses(d: &mut Datapath, from: usize, to: usize, packet: &Packet) -> Packet {
        let answer = d.sends(from, &packet.clone().summed());
        assert_eq!(answer.outcome, Outcome::Redirect, "{packet:?}");
        assert_eq!(answer.mark, MARK_JUDGED);
        let answer = d.delivers(to, &read(&answer.frame), MARK_JUDGED);
        assert_eq!(answer.outcome, Outcome::Pass, "{packet:?}");
        read(&answer.frame)
    }

    #[test]
    #[ignore = "root"]
    fn other_containers_get_there_and_hear_from_the_port_they_asked() {
        let rules = "containers:80 udp:containers:80";
        let mut d = between_containers(rules, rules);
        for packet in from_container() {
            for _ in 0..2 {
                let got = crosses(&mut d, 1, 0, &packet);
                assert_eq!(got.source, packet.source, "the real client");
                assert_eq!(got.destination, addr(inside(&packet)));
                assert_eq!(ports(&got), (5000, 80));
                let back = crosses(&mut d, 0, 1, &got.reply());
                assert_eq!(back.source, packet.destination, "as it was asked");
                assert_eq!(ports(&back), (8080, 5000));
            }
            // Directly all the same, under its own address then.
            let direct = directly(&packet);
            let got = crosses(&mut d, 1, 0, &direct);
            let back = crosses(&mut d, 0, 1, &got.reply());
            assert_eq!(back.source, direct.destination);
            assert_eq!(ports(&back), (80, 5000));
        }
    }

    /// As often as one jiffy has room for: each is remembered under the name it goes by.
    #[test]
    #[ignore = "root"]
    fn directly_and_by_the_port_answers_come_from_where_the_last_packet_went() {
        let rules = "containers:80 udp:containers:80";
        let mut d = between_containers(rules, rules);
        for packet in from_container() {
            let direct = directly(&packet);
            for _ in 0..20 {
                for asked in [&direct, &direct, &packet, &packet] {
                    let got = crosses(&mut d, 1, 0, asked);
                    for _ in 0..2 {
                        let back = crosses(&mut d, 0, 1, &got.reply());
                        assert_eq!(back.source, asked.destination, "{asked:?}");
                    }
                }
            }
        }
    }

    #[test]
    #[ignore = "root"]
    fn errors_of_the_other_container_are_about_the_packet_that_was_sent() {
        let rules = "containers:80 udp:containers:80";
        let mut d = between_containers(rules, rules);
        for packet in from_container() {
            let got = crosses(&mut d, 1, 0, &packet);
            let (kind, header) = if packet.source.is_ipv4() {
                (3, IPV4)
            } else {
                (1, IPV6)
            };
            let source = got.destination.to_string();
            let error = icmp_error(&source, &got.source.to_string(), kind, &got);
            let back = crosses(&mut d, 0, 1, &error);
            assert_eq!(back.source, packet.destination);
            let original = &packet.summed().bytes()[ETH..ETH + header + 8];
            assert_eq!(back.transport[8..], *original);
        }
    }

    #[test]
    #[ignore = "root"]
    fn between_containers_the_rules_of_both_decide() {
        let asked = from_container()[0].clone().summed();
        let mut d = between_containers("host:8080 any:any containers:8080", "containers:80");
        let answer = d.sends(1, &asked);
        assert_eq!(answer.outcome, Outcome::Drop("containers"));
        assert_eq!(answer.endpoint, Some(1));
        let mut d = between_containers("containers:80", "any:80 host:80");
        let answer = d.sends(1, &asked);
        assert_eq!(answer.outcome, Outcome::Redirect);
        dropped(
            &d.delivers(0, &read(&answer.frame), MARK_JUDGED),
            "containers",
        );
        // A revoked rule cuts what is under way.
        let mut d = between_containers("containers:80", "containers:80");
        let got = crosses(&mut d, 1, 0, &asked);
        crosses(&mut d, 0, 1, &got.reply());
        d.rules(1, "", "");
        let answer = d.sends(1, &asked.flags(ACK));
        assert_eq!(answer.outcome, Outcome::Drop("containers"));
    }

    #[test]
    #[ignore = "root"]
    fn what_is_not_another_containers_is_the_hosts() {
        let asked = from_container()[0].clone().summed();
        let rules = "containers:80";
        // A socket of the host, which came later than the first connection.
        let mut d = between_containers(rules, rules);
        let got = crosses(&mut d, 1, 0, &asked);
        let listener = TcpListener::bind(("0.0.0.0", 8080)).unwrap();
        let other = tcp("10.87.0.3:5001", "192.0.2.1:8080").summed();
        assert_eq!(d.sends(1, &other).outcome, Outcome::Drop("host"));
        crosses(&mut d, 0, 1, &got.reply());
        crosses(&mut d, 1, 0, &asked.flags(ACK));
        drop(listener);
        // Another address, another port, and the container itself.
        for to in ["172.17.0.1:8080", "192.0.2.1:8081"] {
            let answer = d.sends(1, &tcp("10.87.0.3:5002", to).summed());
            assert_eq!(answer.outcome, Outcome::Drop("host"), "{to}");
        }
        let answer = d.sends(1, &tcp("10.87.0.3:5002", "203.0.113.9:8080").summed());
        assert_eq!(answer.outcome, Outcome::Drop("no-rule"));
        let answer = d.sends(0, &tcp("10.87.0.2:5002", "192.0.2.1:8080").summed());
        assert_eq!(answer.outcome, Outcome::Drop("host"));
    }
}
