//! Names: where what was learned leads, and for how long.

mod common;

mod root {
    use oci_netkit::types::mode::Mode;

    use crate::common::datapath::{Datapath, Outcome, tick};
    use crate::common::dns::{CONTAINER, ask, asked, connects, datagram, reply, resolve, with};
    use crate::common::dns_message::{A, Record, TXT, answer, query};
    use crate::common::oracle;
    use crate::common::packet::{ACK, tcp, udp};

    #[test]
    #[ignore = "root"]
    fn a_name_leads_to_its_addresses_and_ports_and_nowhere_else() {
        let mut d = with("tcp:github.com:443 tcp:*.example.org:80");
        assert!(!connects(&mut d, "203.0.113.9:443"), "nobody asked yet");
        resolve(&mut d, "GitHub.com", &[Record::address("203.0.113.9", 300)]);
        assert!(connects(&mut d, "203.0.113.9:443"));
        assert!(!connects(&mut d, "203.0.113.9:80"));
        assert!(!connects(&mut d, "203.0.113.10:443"));
        let quic = d.sends(0, &udp(CONTAINER, "203.0.113.9:443"));
        assert_eq!(quic.outcome, Outcome::Drop("no-rule"));
        resolve(
            &mut d,
            "a.example.org",
            &[Record::address("203.0.113.20", 300)],
        );
        assert!(connects(&mut d, "203.0.113.20:80"));
        assert!(!connects(&mut d, "203.0.113.20:443"));
        // Two names, one address: both their ports.
        resolve(
            &mut d,
            "b.example.org",
            &[Record::address("203.0.113.9", 300)],
        );
        assert!(connects(&mut d, "203.0.113.9:443") && connects(&mut d, "203.0.113.9:80"));
        let other = d.sends(1, &tcp("10.87.0.3:5000", "203.0.113.9:443"));
        assert_eq!(
            other.outcome,
            Outcome::Drop("no-rule"),
            "another container learned nothing"
        );
    }

    #[test]
    #[ignore = "root"]
    fn both_families_and_chains_of_names() {
        let mut d = with("tcp:www.example.com:443");
        resolve(
            &mut d,
            "www.example.com",
            &[
                Record::cname("a.cdn.example"),
                Record::cname("b.cdn.example"),
                Record::address("2001:db8:113::9", 60),
                Record::address("2001:db8:113::a", 60),
            ],
        );
        assert!(connects(&mut d, "[2001:db8:113::9]:443"));
        assert!(connects(&mut d, "[2001:db8:113::a]:443"));
        let sixty: Vec<Record> = (1..=60)
            .map(|n| Record::address(&format!("203.0.113.{n}"), 1))
            .collect();
        resolve(&mut d, "www.example.com", &sixty);
        for n in [1, 16, 60] {
            assert!(connects(&mut d, &format!("203.0.113.{n}:443")), "{n}");
        }
        assert_eq!(d.learned(0).len(), 62);
        // Over IPv6 to the resolver nothing is different; this one is no resolver.
        let elsewhere = datagram(
            "[2001:db8:87::2]:4000",
            "[2001:db8:1::7]:53",
            &query(1, "www.example.com", A),
        );
        assert_eq!(d.sends(0, &elsewhere).outcome, Outcome::Drop("no-rule"));
    }

    #[test]
    #[ignore = "root"]
    fn names_do_not_lead_to_private_places() {
        const PRIVATE: [&str; 11] = [
            "127.0.0.1",
            "10.1.2.3",
            "172.17.0.2",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "192.0.0.192",
        ];
        let mut d = with("tcp:rebind.example:1-65535");
        let records: Vec<Record> = PRIVATE.iter().map(|a| Record::address(a, 60)).collect();
        resolve(&mut d, "rebind.example", &records);
        let records: Vec<Record> = [
            "::1",
            "::",
            "fd00:ec2::254",
            "fe80::1",
            "ff02::1",
            "::ffff:203.0.113.9",
            "64:ff9b::a00:1",
            "64:ff9b:1::a9fe:a9fe",
            "64:ff9b:1:a00:0:100::",
        ]
        .iter()
        .map(|a| Record::address(a, 60))
        .collect();
        resolve(&mut d, "rebind.example", &records);
        assert!(d.learned(0).is_empty(), "{:?}", d.learned(0));
        resolve(
            &mut d,
            "rebind.example",
            &[Record::address("64:ff9b::cb00:7109", 60)],
        );
        assert_eq!(d.learned(0).len(), 1, "NAT64 of a public one");

        let mut d = with("tcp:db.example:5432+private-ok tcp:db.example:80");
        resolve(
            &mut d,
            "db.example",
            &[
                Record::address("172.17.0.2", 60),
                Record::address("203.0.113.9", 60),
            ],
        );
        let behind = d.sends(0, &tcp(CONTAINER, "172.17.0.2:5432"));
        assert_eq!(behind.outcome, Outcome::Pass, "a network behind the host");
        assert!(!connects(&mut d, "172.17.0.2:80"), "not by the other rule");
        assert!(connects(&mut d, "203.0.113.9:80") && connects(&mut d, "203.0.113.9:5432"));
        resolve(&mut d, "db.example", &[Record::address("192.0.2.1", 60)]);
        assert!(
            !connects(&mut d, "192.0.2.1:5432"),
            "the host itself, by whatever name"
        );
    }

    #[test]
    #[ignore = "root"]
    fn a_deny_rule_wins_over_what_was_learned() {
        let mut d = with("tcp:**.example.com:443 !203.0.113.9");
        resolve(
            &mut d,
            "a.example.com",
            &[
                Record::address("203.0.113.9", 60),
                Record::address("203.0.113.10", 60),
            ],
        );
        let sent = d.sends(0, &tcp(CONTAINER, "203.0.113.9:443"));
        assert_eq!(sent.outcome, Outcome::Drop("deny-rule"));
        assert!(connects(&mut d, "203.0.113.10:443"));
    }

    #[test]
    #[ignore = "root"]
    fn time_ends_for_new_flows_only() {
        let mut d = with("tcp:github.com:443");
        resolve(&mut d, "github.com", &[Record::address("203.0.113.9", 1)]);
        let now = tick();
        let expires = d.learned(0).values().next().unwrap()[0].expires;
        let seconds = u64::from(expires - now) << 24;
        assert!(
            (58..=61).contains(&(seconds / 1_000_000_000)),
            "a floor of a minute: {seconds}"
        );
        assert!(connects(&mut d, "203.0.113.9:443"));
        d.forget_in_time(0, "203.0.113.9");
        let live = d.sends(0, &tcp("10.87.0.2:5000", "203.0.113.9:443").flags(ACK));
        assert_eq!(live.outcome, Outcome::Redirect);
        let new = d.sends(0, &tcp("10.87.0.2:5001", "203.0.113.9:443"));
        assert_eq!(new.outcome, Outcome::Drop("no-rule"));
        // Judged anew, it lives on; and a fresh answer brings the address back.
        d.names(
            0,
            &oracle::policy("tcp:github.com:443 tcp:other.example:1", ""),
        );
        let live = d.sends(0, &tcp("10.87.0.2:5000", "203.0.113.9:443").flags(ACK));
        assert_eq!(live.outcome, Outcome::Redirect);
        resolve(&mut d, "github.com", &[Record::address("203.0.113.9", 1)]);
        let new = d.sends(0, &tcp("10.87.0.2:5001", "203.0.113.9:443"));
        assert_eq!(new.outcome, Outcome::Redirect);
    }

    #[test]
    #[ignore = "root"]
    fn a_change_of_rules_counts_for_what_was_learned_before() {
        let mut d = with("tcp:**.example.com:443 tcp:github.com:443");
        resolve(
            &mut d,
            "a.example.com",
            &[Record::address("203.0.113.9", 600)],
        );
        resolve(
            &mut d,
            "github.com",
            &[Record::address("203.0.113.10", 600)],
        );
        assert!(connects(&mut d, "203.0.113.9:443") && connects(&mut d, "203.0.113.10:443"));
        d.names(
            0,
            &oracle::policy("tcp:github.com:443 tcp:a.example.com:80", ""),
        );
        let cut = d.sends(0, &tcp("10.87.0.2:5000", "203.0.113.9:443").flags(ACK));
        assert_eq!(cut.outcome, Outcome::Drop("no-rule"), "revoked");
        assert!(
            connects(&mut d, "203.0.113.9:80"),
            "allowed since, without another query"
        );
        assert!(connects(&mut d, "203.0.113.10:443"), "untouched");
        // Without names nothing of it counts.
        d.names(0, &oracle::policy("tcp:203.0.113.10:1", ""));
        assert!(!connects(&mut d, "203.0.113.10:443"));
        d.names(0, &oracle::policy("tcp:github.com:443", ""));
        assert!(connects(&mut d, "203.0.113.10:443"));
    }

    #[test]
    #[ignore = "root"]
    fn a_flood_of_names_makes_room_for_itself() {
        let mut d = with("tcp:**.example.com:443");
        for n in 0..6000 {
            let question = query(1, &format!("n{n}.example.com"), A);
            let left = asked(&mut d, &question);
            let address = format!("203.{}.{}.{}", n / 62500, n / 250 % 250, n % 250);
            let back = reply(&left, &answer(&question, &[Record::address(&address, 60)]));
            assert_eq!(d.arrives(0, &back).outcome, Outcome::Redirect);
        }
        assert!(
            (2000..=4096).contains(&d.learned(0).len()),
            "{}",
            d.learned(0).len()
        );
        assert!(connects(&mut d, "203.0.23.249:443"), "the newest");
    }

    #[test]
    #[ignore = "root"]
    fn on_trial_every_name_may_be_asked_for_and_is_known_afterwards() {
        let mut d = Datapath::new();
        d.keep_denied(0, 64);
        let mut policy = oracle::policy("tcp:github.com:443", "");
        policy.mode = Mode::Audit;
        d.names(0, &policy);
        resolve(&mut d, "github.com", &[Record::address("203.0.113.9", 60)]);
        resolve(
            &mut d,
            "tracker.example",
            &[Record::address("203.0.113.10", 60)],
        );
        let known = d.sends(0, &tcp(CONTAINER, "203.0.113.9:443"));
        assert_eq!((known.outcome, known.audited), (Outcome::Redirect, false));
        let tried = d.sends(0, &tcp(CONTAINER, "203.0.113.10:443"));
        assert_eq!((tried.outcome, tried.audited), (Outcome::Redirect, true));
        assert_eq!(
            d.learned(0).len(),
            2,
            "so that the record can tell its name"
        );
        let kind = ask(&mut d, &query(1, "tracker.example", TXT));
        assert_eq!(kind.outcome, Outcome::Drop("dns-type"), "never relaxed");
    }
}
