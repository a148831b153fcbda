//! Which later packets a flow lets through, for how long, and what cuts it.

mod common;

mod root {
    use crate::common::datapath::{
        Answer, Datapath, GATEWAY0_MAC, HOST7_MAC, MARK_JUDGED, Outcome, UP1_MAC,
    };
    use crate::common::packet::{ACK, FIN, Packet, RST, SYN, icmp, icmp_error, tcp, udp};

    const OUT: u32 = 0;
    const IN: u32 = 1;

    #[track_caller]
    fn dropped(answer: &Answer, reason: &'static str) {
        assert_eq!(answer.outcome, Outcome::Drop(reason));
    }

    #[track_caller]
    fn redirected(answer: &Answer) {
        assert_eq!(answer.outcome, Outcome::Redirect);
    }

    fn with(egress: &str, ingress: &str) -> Datapath {
        let mut d = Datapath::new();
        d.rules(0, egress, ingress);
        d
    }

    fn out_tcp() -> Packet {
        tcp("10.87.0.2:4000", "192.0.2.7:443")
    }

    fn in_tcp() -> Packet {
        tcp("192.0.2.7:4000", "10.87.0.2:80")
    }

    #[test]
    #[ignore = "root"]
    fn answers_come_back_and_count_no_second_flow() {
        let mut d = with("any:192.0.2.0/24", "");
        for (packet, arrives) in [
            (out_tcp(), 0),
            (udp("10.87.0.2:4000", "192.0.2.7:53"), 0),
            (icmp("10.87.0.2", "192.0.2.7", 8), 1), // by another uplink: the routes' matter
        ] {
            let first = d.sends(0, &packet);
            redirected(&first);
            assert!(first.opened);
            let back = d.arrives(arrives, &packet.reply());
            redirected(&back);
            assert!(!back.opened);
            assert!(!d.sends(0, &packet).opened);
        }
    }

    #[test]
    #[ignore = "root"]
    fn nothing_but_the_exact_answer_comes_back() {
        let mut d = with("any:any", "");
        redirected(&d.sends(0, &udp("10.87.0.2:4000", "192.0.2.7:53")));
        for from in ["192.0.2.7:54", "192.0.2.8:53"] {
            dropped(&d.arrives(0, &udp(from, "10.87.0.2:4000")), "no-rule");
        }
        dropped(
            &d.arrives(0, &udp("192.0.2.7:53", "10.87.0.2:4001")),
            "no-rule",
        );
        dropped(
            &d.arrives(0, &tcp("192.0.2.7:53", "10.87.0.2:4000").flags(ACK)),
            "not-syn",
        );
        redirected(&d.sends(0, &icmp("10.87.0.2", "192.0.2.7", 8)));
        dropped(
            &d.arrives(0, &icmp("192.0.2.7", "10.87.0.2", 0).id(8)),
            "no-rule",
        );
    }

    #[test]
    #[ignore = "root"]
    fn an_allowed_connection_opens_none_back() {
        let mut d = with("any:any", "icmp:any");
        redirected(&d.sends(0, &out_tcp()));
        let back = out_tcp().reply();
        dropped(&d.arrives(0, &back.clone().flags(SYN)), "no-rule");
        redirected(&d.arrives(0, &back));
        // Nor does an echo request count as an answer to one.
        redirected(&d.sends(0, &icmp("10.87.0.2", "192.0.2.7", 8)));
        d.rules(0, "any:any", "");
        dropped(&d.arrives(0, &icmp("192.0.2.7", "10.87.0.2", 8)), "no-rule");
        // The other way round.
        let mut d = with("", "tcp:any:80");
        redirected(&d.arrives(0, &in_tcp()));
        dropped(&d.sends(0, &in_tcp().reply().flags(SYN)), "no-rule");
        redirected(&d.sends(0, &in_tcp().reply()));
    }

    #[test]
    #[ignore = "root"]
    fn inbound_tcp_starts_with_a_syn() {
        let mut d = with("", "tcp:any:80");
        for flags in [ACK, SYN | ACK, RST, FIN | ACK, SYN | RST, SYN | FIN, 0] {
            dropped(&d.arrives(0, &in_tcp().flags(flags)), "not-syn");
        }
        redirected(&d.arrives(0, &in_tcp()));
        redirected(&d.arrives(0, &in_tcp().flags(ACK)));
    }

    #[test]
    #[ignore = "root"]
    fn outbound_tcp_is_picked_up_in_the_middle() {
        let mut d = with("tcp:any:443", "");
        redirected(&d.sends(0, &out_tcp().flags(ACK)));
        redirected(&d.arrives(0, &out_tcp().reply().flags(ACK)));
    }

    #[test]
    #[ignore = "root"]
    fn revoked_rules_cut_live_flows_in_both_directions() {
        let mut d = with("tcp:any:443", "tcp:any:80");
        redirected(&d.sends(0, &out_tcp()));
        redirected(&d.arrives(0, &in_tcp()));
        d.rules(0, "tcp:192.0.2.0/24", "tcp:any:80-90"); // other rules, same meaning here
        redirected(&d.arrives(0, &out_tcp().reply().flags(ACK)));
        redirected(&d.sends(0, &in_tcp().reply()));
        d.rules(0, "tcp:any:444", "!192.0.2.7 tcp:any:80");
        dropped(&d.arrives(0, &out_tcp().reply().flags(ACK)), "no-rule");
        dropped(&d.sends(0, &in_tcp().reply()), "deny-rule");
        // They are gone, not asleep.
        d.rules(0, "", "tcp:any:80");
        dropped(&d.sends(0, &in_tcp().reply()), "no-rule");
        dropped(&d.arrives(0, &in_tcp().flags(ACK)), "not-syn");
    }

    #[test]
    #[ignore = "root"]
    fn silence_ends_flows() {
        let mut d = with("any:any", "");
        let u = udp("10.87.0.2:4000", "192.0.2.7:53");
        for (packet, answered, alive, dead, reason) in [
            (u.clone(), false, 29, 31, "no-rule"),
            (u.clone(), true, 179, 181, "no-rule"),
            (icmp("10.87.0.2", "192.0.2.7", 8), true, 29, 31, "no-rule"),
            (out_tcp(), false, 59, 61, "not-syn"),
            (out_tcp(), true, 6 * 3600 - 1, 6 * 3600 + 1, "not-syn"),
        ] {
            d.new_flow_table(0, OUT, 1024);
            redirected(&d.sends(0, &packet));
            if answered {
                redirected(&d.arrives(0, &packet.reply()));
            }
            if !answered {
                // An answer would change the timeout: look with the opener's own packet.
                assert_eq!(d.age_flows(0, OUT, alive), 1);
                assert!(!d.sends(0, &packet).opened, "alive after {alive} s");
                d.age_flows(0, OUT, dead);
                assert!(d.sends(0, &packet).opened, "dead after {dead} s");
                continue;
            }
            d.age_flows(0, OUT, alive);
            redirected(&d.arrives(0, &packet.reply()));
            d.age_flows(0, OUT, dead);
            dropped(&d.arrives(0, &packet.reply()), reason);
        }
    }

    #[test]
    #[ignore = "root"]
    fn closed_tcp_lives_ten_seconds_more() {
        for closing in [
            vec![(true, FIN | ACK), (false, FIN | ACK)],
            vec![(false, RST)],
        ] {
            let mut d = with("", "tcp:any:80");
            redirected(&d.arrives(0, &in_tcp()));
            redirected(&d.sends(0, &in_tcp().reply()));
            for (outwards, flags) in closing {
                if outwards {
                    redirected(&d.sends(0, &in_tcp().reply().flags(flags)));
                } else {
                    redirected(&d.arrives(0, &in_tcp().flags(flags)));
                }
            }
            d.age_flows(0, IN, 9);
            redirected(&d.arrives(0, &in_tcp().flags(ACK)));
            d.age_flows(0, IN, 11);
            dropped(&d.arrives(0, &in_tcp().flags(ACK)), "not-syn");
            assert!(d.arrives(0, &in_tcp()).opened, "a SYN opens it again");
        }
    }

    #[test]
    #[ignore = "root"]
    fn a_connection_ends_as_well_by_segments_that_new_rules_let_through() {
        let mut d = with("", "tcp:any:80");
        redirected(&d.arrives(0, &in_tcp()));
        redirected(&d.sends(0, &in_tcp().reply()));
        d.rules(0, "", "tcp:any:80-90");
        redirected(&d.sends(0, &in_tcp().reply().flags(FIN | ACK)));
        d.rules(0, "", "tcp:any:80");
        redirected(&d.arrives(0, &in_tcp().flags(FIN | ACK)));
        d.age_flows(0, IN, 11);
        dropped(&d.arrives(0, &in_tcp().flags(ACK)), "not-syn");
    }

    #[test]
    #[ignore = "root"]
    fn a_syn_after_the_end_is_judged_by_the_rules() {
        let mut d = with("", "tcp:any:80");
        redirected(&d.arrives(0, &in_tcp()));
        redirected(&d.arrives(0, &in_tcp().flags(RST)));
        assert!(d.arrives(0, &in_tcp()).opened);
    }

    #[test]
    #[ignore = "root"]
    fn a_forged_reset_does_not_end_a_living_connection() {
        let mut d = with("", "tcp:any:80");
        redirected(&d.arrives(0, &in_tcp()));
        redirected(&d.sends(0, &in_tcp().reply()));
        redirected(&d.arrives(0, &in_tcp().flags(RST)));
        redirected(&d.sends(0, &in_tcp().reply().flags(ACK))); // its socket lives
        d.age_flows(0, IN, 60);
        redirected(&d.arrives(0, &in_tcp().flags(ACK)));
    }

    #[test]
    #[ignore = "root"]
    fn icmp_errors_pass_with_the_flow_they_are_about() {
        let mut d = with("tcp:any:443 [::/0]", "tcp:any:80");
        let router = "198.51.100.77";
        let about = |p: &Packet| icmp_error(router, "10.87.0.2", 3, p);
        dropped(&d.arrives(0, &about(&out_tcp())), "icmp-unrelated");
        redirected(&d.sends(0, &out_tcp()));
        for kind in [3, 11, 12] {
            redirected(&d.arrives(0, &icmp_error(router, "10.87.0.2", kind, &out_tcp())));
        }
        // The host may report on it, other endpoints may not.
        assert_eq!(d.delivers(0, &about(&out_tcp()), 0).outcome, Outcome::Pass);
        let forged = icmp_error("10.87.0.3", "10.87.0.2", 3, &out_tcp());
        dropped(&d.delivers(0, &forged, MARK_JUDGED), "icmp-unrelated");
        // What it did not send: another port, the wrong direction, another source, a fragment.
        dropped(
            &d.arrives(0, &about(&tcp("10.87.0.2:4001", "192.0.2.7:443"))),
            "icmp-unrelated",
        );
        dropped(&d.arrives(0, &about(&out_tcp().reply())), "icmp-unrelated");
        dropped(
            &d.arrives(0, &about(&tcp("10.87.0.3:4000", "192.0.2.7:443"))),
            "icmp-unrelated",
        );
        let fragment = about(&out_tcp().with(14 + 7, 1));
        dropped(&d.arrives(0, &fragment), "icmp-unrelated");
        // IPv6: too big.
        let six = tcp("[2001:db8:87::2]:4000", "[2001:db8:1::7]:443");
        redirected(&d.sends(0, &six));
        redirected(&d.arrives(0, &icmp_error("2001:db8:1::fe", "2001:db8:87::2", 2, &six)));
    }

    #[test]
    #[ignore = "root"]
    fn a_container_reports_errors_to_its_peer_and_nobody_else() {
        let mut d = with("udp:any:53", "tcp:any:80");
        let query = udp("10.87.0.2:4000", "192.0.2.7:53");
        redirected(&d.sends(0, &query));
        redirected(&d.sends(0, &icmp_error("10.87.0.2", "192.0.2.7", 3, &query.reply())));
        let elsewhere = icmp_error("10.87.0.2", "192.0.2.8", 3, &query.reply());
        dropped(&d.sends(0, &elsewhere), "icmp-unrelated");
        let invented = icmp_error(
            "10.87.0.2",
            "192.0.2.8",
            3,
            &udp("192.0.2.8:1", "10.87.0.2:2"),
        );
        dropped(&d.sends(0, &invented), "icmp-unrelated");
        redirected(&d.arrives(0, &in_tcp()));
        redirected(&d.sends(0, &icmp_error("10.87.0.2", "192.0.2.7", 3, &in_tcp())));
        assert!(
            !d.sends(0, &icmp_error("10.87.0.2", "192.0.2.7", 3, &in_tcp()))
                .opened
        );
    }

    #[test]
    #[ignore = "root"]
    fn errors_do_not_keep_a_flow_alive() {
        let mut d = with("udp:any:53", "");
        let query = udp("10.87.0.2:4000", "192.0.2.7:53");
        redirected(&d.sends(0, &query));
        let error = icmp_error("192.0.2.7", "10.87.0.2", 3, &query);
        d.age_flows(0, OUT, 20);
        redirected(&d.arrives(0, &error));
        d.age_flows(0, OUT, 20);
        dropped(&d.arrives(0, &error), "icmp-unrelated");
    }

    #[test]
    #[ignore = "root"]
    fn flows_keep_their_way() {
        let mut d = with("any:any any:containers any:host any:172.17.0.2", "");
        d.rules(1, "any:containers", "any:containers");
        // Another endpoint: there and back.
        let c2c = tcp("10.87.0.2:4000", "10.87.0.3:80");
        redirected(&d.sends(0, &c2c));
        assert_eq!(d.delivers(1, &c2c, MARK_JUDGED).outcome, Outcome::Pass);
        redirected(&d.sends(1, &c2c.reply()));
        assert_eq!(
            d.delivers(0, &c2c.reply(), MARK_JUDGED).outcome,
            Outcome::Pass
        );
        // Its answer neither from the wire nor from the host's stack.
        dropped(&d.arrives(0, &c2c.reply()), "spoofed-source");
        dropped(&d.delivers(0, &c2c.reply(), 0), "unjudged");
        // The wire's answer not from the stack, the stack's not from the wire.
        redirected(&d.sends(0, &out_tcp()));
        dropped(&d.delivers(0, &out_tcp().reply(), 0), "not-syn");
        let to_host = udp("10.87.0.2:4000", "192.0.2.1:53");
        assert_eq!(d.sends(0, &to_host).outcome, Outcome::Pass);
        assert_eq!(d.delivers(0, &to_host.reply(), 0).outcome, Outcome::Pass);
        dropped(&d.arrives(0, &to_host.reply()), "spoofed-source");
        let to_lan = udp("10.87.0.2:4000", "172.17.0.2:53");
        assert_eq!(d.sends(0, &to_lan).outcome, Outcome::Pass);
        dropped(&d.arrives(0, &to_lan.reply()), "spoofed-source");
    }

    #[test]
    #[ignore = "root"]
    fn answers_leave_by_the_uplink_the_question_came_by() {
        let mut d = with("", "udp:any:53");
        // 192.0.2.7 is routed by up0, but asks by up1.
        let query = udp("192.0.2.7:4000", "10.87.0.2:53");
        redirected(&d.arrives(1, &query));
        let answer = d.sends(0, &query.reply());
        redirected(&answer);
        assert_eq!(
            answer.frame[..12],
            [0; 12],
            "the kernel routes it out of up1"
        );
        // The usual way: the MACs of the route.
        let far = udp("203.0.113.9:4000", "10.87.0.2:53");
        redirected(&d.arrives(1, &far));
        assert_eq!(d.sends(0, &far.reply()).frame[6..12], UP1_MAC);
    }

    #[test]
    #[ignore = "root"]
    fn neighbours_are_probed_by_new_flows_and_by_old_ones() {
        let mut d = with("any:any", "");
        let query = |port| udp(&format!("10.87.0.2:{port}"), "192.0.2.7:53");
        d.probe_soon(0);
        assert_eq!(
            d.sends(0, &query(1)).frame[..12],
            [0; 12],
            "the kernel's code writes them"
        );
        assert_eq!(d.sends(0, &query(2)).frame[..6], HOST7_MAC);
        assert_eq!(d.sends(0, &query(1)).frame[..6], HOST7_MAC);
        d.edit_flows(0, OUT, |f| {
            f.routed = f.routed.wrapping_sub(62);
            f.probed = f.probed.wrapping_sub(310);
        });
        assert_eq!(d.sends(0, &query(2)).frame[..12], [0; 12]);
        assert_eq!(d.sends(0, &query(2)).frame[..6], HOST7_MAC);
    }

    #[test]
    #[ignore = "root"]
    fn routes_are_asked_again_each_second() {
        let mut d = with("any:any", "");
        let packet = udp("10.87.0.2:4000", "203.0.113.9:53");
        assert_eq!(d.sends(0, &packet).frame[6..12], UP1_MAC);
        crate::common::datapath::ip("route del 203.0.113.0/24\n");
        assert_eq!(
            d.sends(0, &packet).frame[6..12],
            UP1_MAC,
            "within the second"
        );
        let old = |f: &mut oci_netkit::kernel::bpf::skel::types::nk_flow| {
            f.routed = f.routed.wrapping_sub(62)
        };
        d.edit_flows(0, OUT, old);
        assert_eq!(d.sends(0, &packet).frame[..6], GATEWAY0_MAC);
        // No longer outside: the rules do not cover it.
        crate::common::datapath::ip("route add 203.0.113.0/24 via 172.17.0.2\n");
        d.edit_flows(0, OUT, old);
        dropped(&d.sends(0, &packet), "other-network");
        crate::common::datapath::ip("route replace blackhole 203.0.113.0/24\n");
        d.edit_flows(0, OUT, old);
        dropped(&d.sends(0, &packet), "no-route");
    }

    #[test]
    #[ignore = "root"]
    fn a_missing_flow_table_drops_what_would_open() {
        let mut d = with("any:any", "any:any");
        for slot in 0..2u32 {
            use libbpf_rs::MapCore;
            d.skel
                .maps
                .nk_flows
                .delete(&slot.to_ne_bytes())
                .expect("empty the slot");
        }
        dropped(&d.sends(0, &out_tcp()), "flow-table");
        dropped(&d.arrives(0, &in_tcp()), "flow-table");
        // No flow is needed for a message that stands alone.
        redirected(&d.sends(0, &icmp("10.87.0.2", "192.0.2.7", 13)));
    }

    #[test]
    #[ignore = "root"]
    fn a_flood_of_one_direction_leaves_the_other_alone() {
        let mut d = with("tcp:any:443", "udp:any");
        d.new_flow_table(0, IN, 512);
        redirected(&d.sends(0, &out_tcp()));
        redirected(&d.arrives(0, &out_tcp().reply()));
        for port in 1..3000 {
            redirected(&d.arrives(0, &udp(&format!("192.0.2.7:{port}"), "10.87.0.2:53")));
        }
        redirected(&d.arrives(0, &out_tcp().reply().flags(ACK)));
    }
}
