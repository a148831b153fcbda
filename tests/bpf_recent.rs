//! What live flows let through a moment ago goes again without their tables (bpf/recent.h): the same
//! way, for the same packets only, and no longer than it may.

mod common;

mod root {
    use crate::common::datapath::{Answer, Datapath, Hook, MARK_JUDGED, Outcome, next_jiffy};
    use crate::common::packet::{ACK, FIN, Packet, RST, icmp_error, read, tcp, udp};

    const OUT: u32 = 0;
    const IN: u32 = 1;
    const CLOSING: u8 = 2;

    /// Each within the jiffy of the one before, unless the machine is slow.
    const TRIES: usize = 100;

    fn open() -> Datapath {
        let mut d = Datapath::new();
        d.rules(0, "any:any", "");
        d
    }

    fn datagram() -> Packet {
        udp("10.87.0.2:4000", "192.0.2.7:9000").payload(32).summed()
    }

    fn segment() -> Packet {
        tcp("10.87.0.2:4000", "192.0.2.7:9000").flags(ACK).summed()
    }

    fn datagram6() -> Packet {
        let (from, to) = ("[2001:db8:87::2]:4000", "[2001:db8:1::7]:9000");
        udp(from, to).payload(32).summed()
    }

    /// Both ways of a flow; what is done the second time is done without the flow itself, so that
    /// nothing but the memory of the first time lets it through.
    fn goes_again(d: &mut Datapath, packet: &Packet) {
        let mut remembered = [false; 2];
        let both = (0..TRIES).any(|_| {
            let opened = d.sends(0, packet);
            assert_eq!(opened.outcome, Outcome::Redirect);
            let mut back = read(&opened.frame).reply();
            if back.proto == 6 {
                back = back.flags(ACK).summed();
            }
            next_jiffy();
            let there = [d.sends(0, packet), d.arrives(0, &back)];
            for answer in &there {
                assert_eq!(answer.outcome, Outcome::Redirect);
            }
            d.end_flows(0, OUT);
            // The answer first, as a packet of the container would open the flow anew.
            let again = d.arrives(0, &back);
            if again.outcome == Outcome::Redirect {
                assert_eq!(again.frame, there[1].frame);
                remembered[1] = true;
            }
            let again = d.sends(0, packet);
            assert_eq!(again.outcome, Outcome::Redirect);
            if !again.opened {
                assert_eq!(again.frame, there[0].frame);
                remembered[0] = true;
            }
            remembered == [true; 2]
        });
        assert!(both, "never remembered {packet:?}: {remembered:?}");
    }

    #[test]
    #[ignore = "root"]
    fn what_was_let_through_goes_the_same_way_again() {
        for complete in [false, true] {
            for packet in [datagram(), segment(), datagram6()] {
                let mut d = open();
                d.checksum_complete = complete;
                goes_again(&mut d, &packet);
                let mut d = open();
                d.checksum_complete = complete;
                d.masquerade(0, 16_384, 1024);
                goes_again(&mut d, &packet);
            }
        }
    }

    /// Endpoint 1 asks endpoint 0.
    fn between() -> Datapath {
        let mut d = Datapath::new();
        d.rules(1, "udp:containers:9000 tcp:containers:9000", "");
        d.rules(0, "", "udp:containers:9000 tcp:containers:9000");
        d
    }

    fn question() -> Packet {
        udp("10.87.0.3:4000", "10.87.0.2:9000").payload(8).summed()
    }

    /// Out of one container and into the other.
    fn crosses(d: &mut Datapath, from: usize, packet: &Packet) -> [Answer; 2] {
        let out = d.sends(from, packet);
        let into = d.delivers(1 - from, packet, MARK_JUDGED);
        [out, into]
    }

    #[test]
    #[ignore = "root"]
    fn what_goes_from_one_container_to_another_goes_again() {
        let segment = tcp("10.87.0.3:4000", "10.87.0.2:9000");
        let question6 = udp("[2001:db8:87::3]:4000", "[2001:db8:87::2]:9000");
        for first in [question(), segment, question6] {
            let mut d = between();
            let further = |packet: Packet| match first.proto {
                6 => packet.flags(ACK).summed(),
                _ => packet.summed(),
            };
            let (packet, back) = (further(first.clone()), further(first.reply()));
            let mut remembered = [false; 4];
            let all = (0..TRIES).any(|_| {
                crosses(&mut d, 1, &first.clone().summed());
                next_jiffy();
                for (from, packet) in [(1, &packet), (0, &back)] {
                    let [out, into] = crosses(&mut d, from, packet);
                    assert_eq!((out.outcome, out.mark), (Outcome::Redirect, MARK_JUDGED));
                    assert_eq!((into.outcome, into.mark), (Outcome::Pass, 0));
                }
                d.end_flows(1, OUT);
                d.end_flows(0, IN);
                // Answers first: a question would open the flow anew.
                let [out, into] = crosses(&mut d, 0, &back);
                remembered[0] |= (out.outcome, out.mark) == (Outcome::Redirect, MARK_JUDGED);
                remembered[1] |= (into.outcome, into.mark) == (Outcome::Pass, 0);
                let [out, into] = crosses(&mut d, 1, &packet);
                remembered[2] |= out.outcome == Outcome::Redirect && !out.opened;
                remembered[3] |= into.outcome == Outcome::Pass && !into.opened;
                remembered == [true; 4]
            });
            assert!(all, "never remembered {packet:?}: {remembered:?}");
        }
    }

    #[test]
    #[ignore = "root"]
    fn what_may_come_from_a_container_may_come_no_other_way() {
        let mut d = between();
        d.rules(0, "udp:192.0.2.7:9000", "udp:containers:9000");
        let answer = udp("192.0.2.7:9000", "10.87.0.2:4000").payload(8).summed();
        let spoofed = Outcome::Drop("spoofed-source");
        let unjudged = Outcome::Drop("unjudged");
        let again = |d: &mut Datapath| {
            for _ in 0..2 {
                crosses(d, 1, &question());
                crosses(d, 0, &question().reply());
                d.sends(0, &answer.reply());
                d.arrives(0, &answer);
            }
        };
        again(&mut d);
        assert_eq!(d.delivers(0, &question(), 0).outcome, unjudged);
        again(&mut d);
        assert_eq!(d.delivers(1, &question().reply(), 0).outcome, unjudged);
        again(&mut d);
        assert_eq!(d.arrives(0, &question()).outcome, spoofed);
        again(&mut d);
        assert_eq!(d.arrives(0, &question().reply()).outcome, spoofed);
        again(&mut d);
        assert_eq!(d.sends(0, &question()).outcome, spoofed);
        // Nor the reverse: what an uplink may bring.
        again(&mut d);
        let judged = d.delivers(0, &answer, MARK_JUDGED);
        assert_eq!(judged.outcome, Outcome::Drop("containers"));
    }

    #[test]
    #[ignore = "root"]
    fn new_rules_of_either_container_count_at_once() {
        let refused = Outcome::Drop("containers");
        let revoked = [
            (1, 0, [refused, Outcome::Pass]),
            (0, 1, [Outcome::Redirect, refused]),
        ];
        for (end, program, outcomes) in revoked {
            let mut d = between();
            for _ in 0..3 {
                crosses(&mut d, 1, &question());
            }
            d.rules(end, "", "");
            let [out, into] = crosses(&mut d, 1, &question());
            assert_eq!([out.outcome, into.outcome], outcomes, "{end}");
            d.policy_word(end, 0);
            let [out, into] = crosses(&mut d, 1, &question());
            let ended = [out.outcome, into.outcome][program];
            assert_eq!(ended, Outcome::Drop("no-policy"), "{end}");
        }
    }

    #[test]
    #[ignore = "root"]
    fn an_error_about_a_flow_vouches_for_no_packet_of_it() {
        let mut d = open();
        let packet = datagram();
        let error = icmp_error("198.51.100.77", "10.87.0.2", 3, &packet);
        for _ in 0..TRIES {
            assert_eq!(d.sends(0, &packet).outcome, Outcome::Redirect);
            next_jiffy();
            assert_eq!(d.arrives(0, &error).outcome, Outcome::Redirect);
            d.end_flows(0, OUT);
            let answer = d.arrives(0, &packet.reply());
            assert_eq!(answer.outcome, Outcome::Drop("no-rule"));
        }
    }

    #[test]
    #[ignore = "root"]
    fn what_is_published_goes_again() {
        let mut d = Datapath::new();
        d.rules(0, "", "udp:any:53 udp:any:9000");
        d.publish("192.0.2.1", 17, 8080, 0, 9000);
        let question = udp("192.0.2.7:4000", "192.0.2.1:8080").payload(8).summed();
        let mut remembered = [false; 2];
        let both = (0..TRIES).any(|_| {
            let opened = d.arrives(0, &question);
            assert_eq!(opened.outcome, Outcome::Redirect);
            let answer = read(&opened.frame).reply();
            next_jiffy();
            // The first answer asks for the route.
            let there = [
                d.arrives(0, &question),
                d.sends(0, &answer),
                d.sends(0, &answer),
            ];
            d.end_flows(0, 1);
            let out = d.sends(0, &answer);
            if out.outcome == Outcome::Redirect {
                assert_eq!(out.frame, there[2].frame);
                remembered[0] = true;
            }
            let inwards = d.arrives(0, &question);
            if !inwards.opened {
                assert_eq!(inwards.frame, there[0].frame);
                remembered[1] = true;
            }
            remembered == [true; 2]
        });
        assert!(both, "never remembered: {remembered:?}");
    }

    #[test]
    #[ignore = "root"]
    fn new_rules_count_at_once() {
        for _ in 0..3 {
            let mut d = open();
            for _ in 0..3 {
                assert_eq!(d.sends(0, &datagram()).outcome, Outcome::Redirect);
                assert_eq!(d.arrives(0, &datagram().reply()).outcome, Outcome::Redirect);
            }
            d.rules(0, "tcp:any", "");
            assert_eq!(d.arrives(0, &datagram().reply()).outcome, no_rule());
            assert_eq!(d.sends(0, &datagram()).outcome, no_rule());
        }
    }

    #[test]
    #[ignore = "root"]
    fn an_endpoint_that_ends_is_cut_off_at_once() {
        let mut d = open();
        for _ in 0..3 {
            d.sends(0, &datagram());
            d.arrives(0, &datagram().reply());
        }
        d.policy_word(0, 0);
        let none = Outcome::Drop("no-policy");
        assert_eq!(d.sends(0, &datagram()).outcome, none);
        assert_eq!(d.arrives(0, &datagram().reply()).outcome, none);
    }

    fn no_rule() -> Outcome {
        Outcome::Drop("no-rule")
    }

    /// After the datagram and its answer, which are remembered.
    fn after(d: &mut Datapath, run: impl FnOnce(&mut Datapath) -> Answer) -> Outcome {
        d.sends(0, &datagram());
        d.arrives(0, &datagram().reply());
        d.sends(0, &datagram());
        run(d).outcome
    }

    #[test]
    #[ignore = "root"]
    fn nobody_passes_for_the_one_before() {
        let mut d = Datapath::new();
        d.rules(0, "udp:192.0.2.7:9000", "");
        d.rules(1, "udp:192.0.2.7:9000", "");
        let spoofed = Outcome::Drop("spoofed-source");
        let cases = [
            (1, datagram(), spoofed),
            (0, udp("10.87.0.3:4000", "192.0.2.7:9000"), spoofed),
            (0, udp("10.87.0.2:4000", "192.0.2.7:9001"), no_rule()),
            (0, udp("10.87.0.2:4000", "192.0.2.8:9000"), no_rule()),
            (0, tcp("10.87.0.2:4000", "192.0.2.7:9000"), no_rule()),
        ];
        for (device, packet, expected) in &cases {
            let outcome = after(&mut d, |d| d.sends(*device, packet));
            assert_eq!(outcome, *expected, "{packet:?} from {device}");
        }
        let not_syn = Outcome::Drop("not-syn");
        let cases = [
            (udp("192.0.2.7:9000", "10.87.0.3:4000"), no_rule()),
            (udp("192.0.2.7:9001", "10.87.0.2:4000"), no_rule()),
            (udp("192.0.2.8:9000", "10.87.0.2:4000"), no_rule()),
            (udp("192.0.2.7:9000", "10.87.0.2:4001"), no_rule()),
            (tcp("192.0.2.7:9000", "10.87.0.2:4000").flags(ACK), not_syn),
        ];
        for (packet, expected) in &cases {
            let outcome = after(&mut d, |d| d.arrives(0, packet));
            assert_eq!(outcome, *expected, "{packet:?}");
        }
    }

    #[test]
    #[ignore = "root"]
    fn each_packet_is_looked_at_by_itself() {
        let mut d = open();
        let (out, frame) = (d.ifindex.primary[0], datagram().bytes());
        let run = |frame: &[u8], gso: u32| {
            let frame = frame.to_vec();
            move |d: &mut Datapath| d.run(Hook::FromContainer, out, &frame, 0, gso)
        };
        let segmentation = after(&mut d, run(&frame, 4));
        assert_eq!(segmentation, Outcome::Drop("segmentation"));
        let mut short = frame.clone();
        short[38] = 0xff; // the length of UDP
        assert_eq!(after(&mut d, run(&short, 0)), Outcome::Drop("malformed"));
        let large = udp("10.87.0.2:4000", "192.0.2.7:9000").payload(1473);
        let outcome = after(&mut d, |d| d.sends(0, &large));
        assert_eq!(outcome, Outcome::Drop("oversize"));
    }

    #[test]
    #[ignore = "root"]
    fn segments_that_end_a_connection_are_never_missed() {
        for flags in [RST, FIN | ACK] {
            let mut d = open();
            d.sends(0, &tcp("10.87.0.2:4000", "192.0.2.7:9000"));
            for _ in 0..3 {
                d.arrives(0, &segment().reply().flags(ACK));
                d.sends(0, &segment());
            }
            d.sends(0, &segment().flags(flags));
            d.arrives(0, &segment().reply().flags(flags));
            let seen = std::cell::Cell::new(0);
            d.edit_flows(0, OUT, |flow| seen.set(flow.state));
            assert_eq!(seen.get(), CLOSING, "{flags}");
        }
    }

    #[test]
    #[ignore = "root"]
    fn an_address_becomes_a_containers_a_jiffy_later() {
        let mut d = Datapath::new();
        d.rules(0, "", "udp:any:9000");
        let packet = udp("192.0.2.7:4000", "10.87.0.9:9000");
        for _ in 0..3 {
            assert_eq!(d.arrives(0, &packet).outcome, Outcome::Next);
        }
        d.lan(0, "10.87.0.9", 0); // and waits
        assert_eq!(d.arrives(0, &packet).outcome, Outcome::Redirect);
    }

    #[test]
    #[ignore = "root"]
    fn an_address_is_nobodys_or_anothers_a_jiffy_later() {
        let mut d = Datapath::new();
        d.rules(0, "", "udp:any:9000");
        d.rules(1, "", "");
        let packet = udp("192.0.2.7:4000", "10.87.0.2:9000");
        for _ in 0..3 {
            assert_eq!(d.arrives(0, &packet).outcome, Outcome::Redirect);
        }
        d.disown("10.87.0.2");
        assert_eq!(d.arrives(0, &packet).outcome, Outcome::Next);
        d.lan(1, "10.87.0.2", 0);
        assert_eq!(d.arrives(0, &packet).outcome, no_rule());
    }

    #[test]
    #[ignore = "root"]
    fn addresses_that_share_a_slot_are_told_apart() {
        let mut d = Datapath::new();
        d.rules(0, "", "udp:any:9000");
        let to = |address: &str| udp("192.0.2.7:4000", &format!("{address}:9000"));
        for _ in 0..2 {
            for last in 3..=40 {
                let outcome = d.arrives(0, &to(&format!("10.87.0.{last}"))).outcome;
                assert_ne!(outcome, Outcome::Redirect, "{last}");
                assert_eq!(d.arrives(0, &to("10.87.0.2")).outcome, Outcome::Redirect);
            }
        }
    }

    #[test]
    #[ignore = "root"]
    fn a_jiffy_later_the_flow_is_asked_again() {
        let mut d = open();
        for _ in 0..3 {
            d.sends(0, &datagram());
        }
        d.end_flows(0, OUT);
        next_jiffy();
        assert_eq!(d.arrives(0, &datagram().reply()).outcome, no_rule());
        assert!(d.sends(0, &datagram()).opened);
    }
}
