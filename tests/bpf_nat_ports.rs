//! Masquerading: which of its ports a flow gets, and when one is free again.

mod common;

mod root {
    use std::collections::HashSet;
    use std::net::{TcpListener, UdpSocket};

    use crate::common::datapath::{Datapath, Outcome};
    use crate::common::nat::{COUNT, FIRST, dropped, enters, leaves, masqueraded, port};
    use crate::common::packet::{ACK, FIN, Packet, RST, read, tcp, udp};
    use crate::common::random::Random;

    #[test]
    #[ignore = "root"]
    fn a_port_serves_many_remote_sides_but_each_only_once() {
        let mut d = masqueraded();
        let mut ports = HashSet::new();
        for n in 0..COUNT {
            let sent = udp(&format!("10.87.0.2:{}", 20000 + n), "192.0.2.7:53");
            assert!(ports.insert(port(&leaves(&mut d, &sent), 0)));
        }
        dropped(
            &d.sends(0, &udp("10.87.0.2:30000", "192.0.2.7:53")),
            "nat-ports",
        );
        // Nothing of that is in the way of another remote side, or another protocol.
        for n in 0..COUNT {
            let from = format!("10.87.0.2:{}", 20000 + n);
            leaves(&mut d, &udp(&from, "192.0.2.7:54"));
            leaves(&mut d, &tcp(&from, "192.0.2.7:53"));
        }
    }

    #[test]
    #[ignore = "root"]
    fn all_ports_of_a_share_are_found_and_answers_go_where_they_belong() {
        let mut d = masqueraded();
        d.masquerade(0, FIRST, 1024);
        let mut random = Random::new(11);
        let mut sent = Vec::new();
        for n in 0..2000u16 {
            let remote = format!("192.0.2.7:{}", 1 + random.below(4));
            let packet = udp(&format!("10.87.0.2:{}", 10000 + n), &remote);
            let out = leaves(&mut d, &packet);
            sent.push((packet, out));
        }
        for (packet, out) in &sent {
            let back = enters(&mut d, &out.reply());
            assert_eq!(back.transport[..4], packet.reply().transport[..4]);
        }
    }

    #[test]
    #[ignore = "root"]
    fn a_socket_keeps_its_port_towards_all_remote_sides() {
        let mut d = masqueraded();
        let p = port(&leaves(&mut d, &udp("10.87.0.2:4000", "192.0.2.7:53")), 0);
        for remote in ["192.0.2.7:54", "192.0.2.254:53", "192.0.2.7:9999"] {
            let out = leaves(&mut d, &udp("10.87.0.2:4000", remote));
            assert_eq!(port(&out, 0), p);
        }
    }

    #[test]
    #[ignore = "root"]
    fn ports_of_dead_flows_are_free_again() {
        let mut d = masqueraded();
        d.masquerade(0, FIRST, 32);
        let all = |d: &mut Datapath, from: u16| {
            for n in 0..32 {
                let sent = udp(&format!("10.87.0.2:{}", from + n), "192.0.2.7:53");
                leaves(d, &sent);
            }
        };
        all(&mut d, 20000);
        dropped(
            &d.sends(0, &udp("10.87.0.2:30000", "192.0.2.7:53")),
            "nat-ports",
        );
        // Expired.
        d.age_flows(0, 0, 31);
        all(&mut d, 21000);
        // Revoked.
        d.rules(0, "", "");
        for n in 0..32 {
            dropped(
                &d.sends(0, &udp(&format!("10.87.0.2:{}", 21000 + n), "192.0.2.7:53")),
                "no-rule",
            );
        }
        d.rules(0, "any:any", "");
        all(&mut d, 22000);
        // Forgotten by the flow table.
        d.new_flow_table(0, 0, 1 << 16);
        all(&mut d, 23000);
    }

    #[test]
    #[ignore = "root"]
    fn closing_connections_give_their_port_up_when_no_other_is_left() {
        let mut d = masqueraded();
        d.masquerade(0, FIRST, 32);
        let mut last = None;
        for n in 0..32 {
            let sent = tcp(&format!("10.87.0.2:{}", 20000 + n), "192.0.2.7:80");
            let out = leaves(&mut d, &sent);
            enters(&mut d, &out.reply());
            last = Some((sent, out));
        }
        let (sent, out) = last.unwrap();
        dropped(
            &d.sends(0, &tcp("10.87.0.2:30000", "192.0.2.7:80")),
            "nat-ports",
        );
        leaves(&mut d, &sent.clone().flags(FIN | ACK));
        enters(&mut d, &out.reply().flags(FIN | ACK));
        // Still known to the end of the closing.
        leaves(&mut d, &sent.flags(ACK));
        enters(&mut d, &out.reply().flags(RST));
        let mut tries = 0;
        let found = loop {
            let answer = d.sends(0, &tcp("10.87.0.2:30000", "192.0.2.7:80").summed());
            tries += 1;
            match answer.outcome {
                Outcome::Redirect => break read(&answer.frame),
                _ if tries < 100 => dropped(&answer, "nat-ports"),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(port(&found, 0), port(&out, 0));
        let back = enters(&mut d, &out.reply());
        assert_eq!(port(&back, 2), 30000, "the newer one's");
    }

    #[test]
    #[ignore = "root"]
    fn ports_that_a_socket_of_the_host_has_are_left_alone() {
        let mut d = masqueraded();
        d.masquerade(0, FIRST, 32);
        let udp_socket = UdpSocket::bind(("0.0.0.0", FIRST + 3)).unwrap();
        let listener = TcpListener::bind(("::", FIRST + 5)).unwrap();
        let taken = |d: &mut Datapath, make: &dyn Fn(u16) -> Packet| -> HashSet<u16> {
            let mut ports = HashSet::new();
            for n in 0..300 {
                let answer = d.sends(0, &make(20000 + n).summed());
                if answer.outcome == Outcome::Redirect {
                    ports.insert(port(&read(&answer.frame), 0));
                }
            }
            ports
        };
        let ports = taken(&mut d, &|n| udp(&format!("10.87.0.2:{n}"), "192.0.2.7:53"));
        assert!(!ports.contains(&(FIRST + 3)));
        assert!(ports.contains(&(FIRST + 5)));
        for (source, remote) in [
            ("10.87.0.2", "192.0.2.7:80"),
            ("[2001:db8:87::2]", "[2001:db8:1::7]:80"),
        ] {
            let ports = taken(&mut d, &|n| tcp(&format!("{source}:{n}"), remote));
            assert!(ports.contains(&(FIRST + 3)));
            assert!(!ports.contains(&(FIRST + 5)));
        }
        drop((udp_socket, listener));
    }
}
