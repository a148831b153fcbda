//! Rates: what is beyond the budget of a container goes nowhere, and what has a queue before it is
//! judged once and counted behind it.

mod common;

mod root {
    use std::time::Duration;

    use crate::common::datapath::{Datapath, MARK_REPLY, Outcome};
    use crate::common::packet::{Packet, tcp, udp};

    /// Long enough that no machine is so slow.
    const HOUR_NS: u64 = 3_600_000_000_000;

    fn datagram() -> Packet {
        udp("10.87.0.2:1000", "192.0.2.7:53")
    }

    #[test]
    #[ignore = "needs root"]
    fn what_is_sent_beyond_the_budget_is_dropped() {
        let mut d = Datapath::new();
        d.rules(0, "udp:any", "");
        let frames = 3;
        // An hour for a frame, and room for so many of them.
        let frame = datagram().bytes().len() as u64;
        d.rate_egress(0, (HOUR_NS << 20) / frame, frames * HOUR_NS + HOUR_NS / 2);
        for _ in 0..frames {
            assert_eq!(d.sends(0, &datagram()).outcome, Outcome::Redirect);
        }
        for _ in 0..2 {
            assert_eq!(d.sends(0, &datagram()).outcome, Outcome::Drop("rate"));
        }
        let other = udp("10.87.0.3:1000", "192.0.2.7:53");
        d.rules(1, "udp:any", "");
        assert_eq!(d.sends(1, &other).outcome, Outcome::Redirect, "no rate");
    }

    #[test]
    #[ignore = "needs root"]
    fn a_budget_grows_with_the_clock() {
        let mut d = Datapath::new();
        d.rules(0, "udp:any", "");
        let frame = datagram().bytes().len() as u64;
        let half_second = 500_000_000;
        d.rate_egress(
            0,
            (half_second << 20) / frame,
            half_second + half_second / 10,
        );
        assert_eq!(d.sends(0, &datagram()).outcome, Outcome::Redirect);
        assert_eq!(d.sends(0, &datagram()).outcome, Outcome::Drop("rate"));
        std::thread::sleep(Duration::from_millis(600));
        assert_eq!(d.sends(0, &datagram()).outcome, Outcome::Redirect);
    }

    #[test]
    #[ignore = "needs root"]
    fn what_the_rules_refuse_is_refused_however_much_may_be_sent() {
        let mut d = Datapath::new();
        d.rate_egress(0, 1, HOUR_NS);
        assert_eq!(d.sends(0, &datagram()).outcome, Outcome::Drop("no-rule"));
    }

    #[test]
    #[ignore = "needs root"]
    fn what_comes_from_the_wire_is_judged_there_and_counted_behind_the_queue() {
        let mut d = Datapath::new();
        d.rules(0, "", "tcp:any:80");
        d.rate_ingress(0);
        for (from, to) in [
            ("203.0.113.9:1000", "10.87.0.2:"),
            ("[2001:db8:9::9]:1000", "[2001:db8:87::2]:"),
        ] {
            let syn = tcp(from, &format!("{to}80"));
            let answer = d.arrives(0, &syn);
            assert_eq!(answer.outcome, Outcome::Queued);
            assert!(answer.opened);
            assert_eq!(answer.mark, MARK_REPLY);
            assert_eq!(
                answer.frame[..12],
                [0; 12],
                "MACs, as an L3 device has them"
            );
            let behind = d.delivers(0, &syn, answer.mark);
            assert_eq!((behind.outcome, behind.mark), (Outcome::Pass, 0));
            let refused = tcp(from, &format!("{to}81"));
            assert_eq!(d.arrives(0, &refused).outcome, Outcome::Drop("no-rule"));
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn without_the_mark_nothing_passes_by_the_queue_unjudged() {
        let mut d = Datapath::new();
        d.rules(0, "", "");
        d.rate_ingress(0);
        let syn = tcp("203.0.113.9:1000", "10.87.0.2:80");
        assert_eq!(d.delivers(0, &syn, 0).outcome, Outcome::Drop("host"));
        assert_eq!(
            d.delivers(0, &syn, MARK_REPLY + 1).outcome,
            Outcome::Drop("host")
        );
    }
}
