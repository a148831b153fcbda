//! Names: which queries leave, what answers teach, where that leads, and what attackers get.
//!
//! The resolver is 192.0.2.7 on the wire; the container 10.87.0.2 or 2001:db8:87::2.

mod common;

mod root {
    use std::net::IpAddr;

    use oci_netkit::plan::policy::Policy;
    use oci_netkit::types::domain::Domain;
    use oci_netkit::types::mode::Mode;

    use crate::common::datapath::{Answer, Datapath, MARK_JUDGED, MARK_REPLY, Outcome};
    use crate::common::denied::refused;
    use crate::common::dns::{
        A, AAAA, ANY, HTTPS, Record, SRV, TXT, answer, datagram, framed, query, reference, segment,
        with_edns,
    };
    use crate::common::oracle;
    use crate::common::packet::{ACK, Packet, addr, read, tcp, udp};
    use crate::common::random::Random;

    const RESOLVER: &str = "192.0.2.7:53";
    const CONTAINER: &str = "10.87.0.2:4000";

    fn policy(egress: &str) -> Policy {
        oracle::policy(egress, "")
    }

    fn with(egress: &str) -> Datapath {
        let mut d = Datapath::new();
        d.keep_denied(0, 64);
        d.names(0, &policy(egress));
        d
    }

    fn ask(d: &mut Datapath, message: &[u8]) -> Answer {
        d.sends(0, &datagram(CONTAINER, RESOLVER, message))
    }

    /// A query as it left: its id and port, which are the resolver's to answer to.
    #[track_caller]
    fn asked(d: &mut Datapath, message: &[u8]) -> Packet {
        let sent = ask(d, message);
        assert_eq!(sent.outcome, Outcome::Redirect);
        read(&sent.frame)
    }

    /// The resolver's answer to what left.
    fn reply(left: &Packet, message: &[u8]) -> Packet {
        let mut back = left.reply();
        back.transport.truncate(8);
        back.transport.extend(&left.transport[8..10]);
        back.transport.extend(&message[2..]);
        let length = u16::try_from(back.transport.len()).expect("short");
        back.transport[4..6].copy_from_slice(&length.to_be_bytes());
        back.summed()
    }

    /// Asks and gets an answer with these records, which comes back as the container's own.
    #[track_caller]
    fn resolve(d: &mut Datapath, of: &str, records: &[Record]) {
        let kind = records
            .iter()
            .map(|r| r.kind)
            .find(|k| *k == AAAA)
            .unwrap_or(A);
        let question = query(0x1234, of, kind);
        let left = asked(d, &question);
        let message = answer(&question, records);
        let got = d.arrives(0, &reply(&left, &message));
        assert_eq!(got.outcome, Outcome::Redirect);
        let back = read(&got.frame);
        assert_eq!(back.transport[2..4], 4000u16.to_be_bytes(), "its own port");
        assert_eq!(
            back.transport[8..],
            message,
            "its own id, and nothing else changed"
        );
    }

    fn connects(d: &mut Datapath, to: &str) -> bool {
        let from = if to.starts_with('[') {
            "[2001:db8:87::2]:5000"
        } else {
            "10.87.0.2:5000"
        };
        let sent = d.sends(0, &tcp(from, to));
        assert!(
            matches!(
                sent.outcome,
                Outcome::Redirect
                    | Outcome::Drop(
                        "no-rule"
                            | "other-network"
                            | "containers"
                            | "host"
                            | "metadata"
                            | "deny-rule"
                    )
            ),
            "{to}: {sent:?}"
        );
        sent.outcome == Outcome::Redirect
    }

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
    fn a_resolver_of_ipv6_is_one_too() {
        let mut d = Datapath::new();
        let mut policy = policy("tcp:a.example:443");
        policy
            .places
            .resolvers
            .push("2001:db8:1::7".parse().unwrap());
        d.names(0, &policy);
        let question = query(7, "a.example", A);
        let sent = d.sends(
            0,
            &datagram("[2001:db8:87::2]:4000", "[2001:db8:1::7]:53", &question),
        );
        let left = read(&sent.frame);
        let back = reply(
            &left,
            &answer(&question, &[Record::address("203.0.113.9", 60)]),
        );
        let got = d.arrives(0, &back);
        assert_eq!(got.outcome, Outcome::Redirect);
        assert_eq!(read(&got.frame).transport[8..10], [0, 7]);
        assert!(connects(&mut d, "203.0.113.9:443"));
    }

    #[test]
    #[ignore = "root"]
    fn long_names_and_any_case() {
        let long = format!("{0}.{0}.{0}.{1}.example", "a".repeat(61), "b".repeat(52));
        assert_eq!(long.len(), 246);
        let mut d = with(&format!("tcp:{long}:443 tcp:**.deep.example:443"));
        resolve(&mut d, &long, &[Record::address("203.0.113.9", 60)]);
        assert!(connects(&mut d, "203.0.113.9:443"));
        let deep = format!("{}deep.example", "x.".repeat(115));
        resolve(&mut d, &deep, &[Record::address("203.0.113.10", 60)]);
        assert!(connects(&mut d, "203.0.113.10:443"));
        resolve(
            &mut d,
            "A.dEEp.ExAmPlE",
            &[Record::address("203.0.113.11", 60)],
        );
        assert!(connects(&mut d, "203.0.113.11:443"));
    }

    #[track_caller]
    fn answered(d: &mut Datapath, message: &[u8], reason: &'static str, flags: [u8; 2]) {
        let got = ask(d, message);
        assert_eq!(got.outcome, Outcome::Drop(reason));
        assert!(got.answered && got.mark == MARK_REPLY, "{got:?}");
        let back = read(&got.frame);
        assert_eq!(back.source, addr("192.0.2.7"));
        assert_eq!(back.transport[..4], [0, 53, 0x0f, 0xa0]);
        assert_eq!(back.transport[10..12], flags, "{:02x?}", back.transport);
        assert_eq!(back.transport[8..10], message[..2]);
        assert_eq!(back.transport[12..], message[4..], "the question as it was");
    }

    #[test]
    #[ignore = "root"]
    fn other_names_and_types_are_refused_at_once() {
        let mut d = with("tcp:github.com:443 tcp:**.example.org:443");
        for other in [
            "evil.com",
            "xgithub.com",
            "a.github.com",
            "github.com.evil.com",
            "com",
            "example.org",
        ] {
            answered(&mut d, &query(9, other, A), "dns-name", [0x81, 0x85]);
        }
        answered(
            &mut d,
            &with_edns(query(9, "evil.com", AAAA), 1232),
            "dns-name",
            [0x81, 0x85],
        );
        for kind in [TXT, ANY, 252, 10, 15, 12] {
            answered(
                &mut d,
                &query(9, "github.com", kind),
                "dns-type",
                [0x81, 0x85],
            );
        }
        // No data: nobody waits for it, and nobody uses hints that were not learned.
        answered(
            &mut d,
            &query(9, "github.com", HTTPS),
            "dns-type",
            [0x81, 0x80],
        );
        let sent = ask(&mut d, &query(9, "github.com", SRV));
        assert_eq!(sent.outcome, Outcome::Redirect);
        assert_eq!(
            d.denied(0, 0)[0],
            refused("192.0.2.7", 17, 53, "dns-name", 7)
        );
        // A label with a dot in it, and one that only ends alike.
        let mut dotted = query(9, "x", A);
        dotted.splice(12..15, *b"\x0agithub.com\x00");
        answered(&mut d, &dotted, "dns-name", [0x81, 0x85]);
    }

    #[test]
    #[ignore = "root"]
    fn the_config_may_say_nxdomain() {
        let mut d = with("tcp:github.com:443");
        d.answer_nxdomain(0);
        answered(&mut d, &query(9, "evil.com", A), "dns-name", [0x81, 0x83]);
    }

    #[test]
    #[ignore = "root"]
    fn what_is_not_one_plain_query_goes_nowhere() {
        let mut d = with("tcp:github.com:443");
        let plain = query(9, "github.com", A);
        let edit = |at: usize, value: u8| {
            let mut message = plain.clone();
            message[at] = value;
            message
        };
        let mut trailing = plain.clone();
        trailing.extend(b"tunnel");
        let mut two = plain.clone();
        two.extend(&plain[12..]);
        two[5] = 2;
        let mut pointed = query(9, "github.com", A);
        pointed.splice(12..24, [0xc0, 0x0c]);
        for (what, message) in [
            ("an answer", edit(2, 0x81)),
            ("another opcode", edit(2, 0x29)),
            ("a response code", edit(3, 5)),
            ("no question", edit(5, 0)),
            ("two questions", two),
            ("an answer record", edit(7, 1)),
            ("an authority record", edit(9, 1)),
            ("two additional records", edit(11, 2)),
            ("an additional record that is not there", edit(11, 1)),
            ("bytes behind", trailing),
            ("a compressed name", pointed),
            ("a reserved label", edit(12, 0x46)),
            ("a label that is too long", edit(12, 0x3f)),
            ("class CH", edit(plain.len() - 1, 3)),
            ("the root", query(9, "", A)),
            ("nothing", Vec::new()),
            ("a header alone", plain[..12].to_vec()),
            ("half a question", plain[..plain.len() - 3].to_vec()),
            ("far too long", [plain.clone(), vec![0; 600]].concat()),
        ] {
            let got = ask(&mut d, &message);
            assert_eq!(got.outcome, Outcome::Drop("dns-query"), "{what}");
            assert!(!got.answered, "{what}");
        }
        assert_eq!(d.waiting(0), 0);
    }

    #[test]
    #[ignore = "root"]
    fn ids_and_ports_are_not_the_containers_choice() {
        let mut d = with("tcp:github.com:443");
        let question = query(0x1234, "github.com", A);
        let (mut ids, mut ports) = (Vec::new(), Vec::new());
        for _ in 0..50 {
            let left = asked(&mut d, &question);
            ids.push([left.transport[8], left.transport[9]]);
            ports.push([left.transport[0], left.transport[1]]);
            assert_eq!(left.transport[10..], question[2..]);
        }
        assert!(u16::from_be_bytes(*ports.iter().min().unwrap()) >= 1024);
        for list in [&mut ids, &mut ports] {
            list.sort_unstable();
            list.dedup();
            assert!(list.len() > 45, "{list:02x?}");
        }
        // To the port that a query left by, a second query is judged like any other.
        let port = u16::from_be_bytes(ports[0]);
        let guess = datagram(
            &format!("10.87.0.2:{port}"),
            RESOLVER,
            &query(1, "evil.com", A),
        );
        assert_eq!(d.sends(0, &guess).outcome, Outcome::Drop("dns-name"));
    }

    #[test]
    #[ignore = "root"]
    fn large_answers_are_not_asked_for() {
        let mut d = with("tcp:github.com:443 tcp:githubs.com:443");
        for (of, bytes, wanted) in [
            ("github.com", 4096, 1232),
            ("githubs.com", 65535, 1232),
            ("github.com", 1232, 1232),
            ("githubs.com", 512, 512),
        ] {
            let left = asked(&mut d, &with_edns(query(1, of, A), bytes));
            let opt = left.transport.len() - 11;
            let there = u16::from_be_bytes([left.transport[opt + 3], left.transport[opt + 4]]);
            assert_eq!(there, wanted, "{of} {bytes}");
        }
    }

    #[test]
    #[ignore = "root"]
    fn only_the_answer_to_the_question_teaches() {
        let question = query(0x1234, "github.com", A);
        let records = [Record::address("203.0.113.9", 60)];
        let good = answer(&question, &records);
        let edit = |at: usize, value: u8| {
            let mut message = good.clone();
            message[at] = value;
            message
        };
        let longer = answer(&query(0x1234, "gitlab.com", A), &records);
        let mut lying = good.clone();
        let at = lying.len() - 5;
        lying[at] = 5;
        for (what, message) in [
            ("another name of the same length", longer),
            (
                "another type",
                answer(&query(0x1234, "github.com", AAAA), &records),
            ),
            ("a query", edit(2, 0x01)),
            ("another opcode", edit(2, 0xa1)),
            ("no question", edit(5, 0)),
            ("more records than there are", edit(7, 2)),
            ("a record that ends outside", lying),
            ("a cut record", good[..good.len() - 2].to_vec()),
            ("far too many records", edit(6, 1)),
        ] {
            let mut d = with("tcp:github.com:443 tcp:gitlab.com:80");
            let left = asked(&mut d, &question);
            let got = d.arrives(0, &reply(&left, &message));
            assert_eq!(got.outcome, Outcome::Drop("dns-answer"), "{what}");
            assert!(d.learned(0).is_empty(), "{what}");
        }
    }

    #[test]
    #[ignore = "root"]
    fn forgeries_and_replays_are_dropped() {
        let mut d = with("tcp:github.com:443");
        let question = query(0x1234, "github.com", A);
        let evil = answer(&question, &[Record::address("203.0.113.66", 60)]);
        let left = asked(&mut d, &question);
        let good = reply(
            &left,
            &answer(&question, &[Record::address("203.0.113.9", 60)]),
        );
        // The id and port that the container knows, which are not those of the query that left.
        let guessed = datagram(RESOLVER, CONTAINER, &evil);
        assert_eq!(d.arrives(0, &guessed).outcome, Outcome::Drop("no-rule"));
        let mut wrong_id = reply(&left, &evil);
        wrong_id.transport[9] ^= 1;
        assert_eq!(
            d.arrives(0, &wrong_id.summed()).outcome,
            Outcome::Drop("dns-answer")
        );
        let port = u16::from_be_bytes([left.transport[0], left.transport[1]]);
        let to = format!("10.87.0.2:{port}");
        let mut from_another = datagram("192.0.2.8:53", &to, &evil);
        from_another.transport[8..10].copy_from_slice(&left.transport[8..10]);
        assert_eq!(
            d.arrives(0, &from_another.summed()).outcome,
            Outcome::Drop("no-rule")
        );
        assert_eq!(d.arrives(0, &good).outcome, Outcome::Redirect);
        assert_eq!(
            d.arrives(0, &good).outcome,
            Outcome::Drop("dns-answer"),
            "once only"
        );
        assert!(!connects(&mut d, "203.0.113.66:443"));
        assert!(connects(&mut d, "203.0.113.9:443"));
    }

    #[test]
    #[ignore = "root"]
    fn failures_and_truncation_pass_and_teach_nothing() {
        for (flags, what) in [
            (0x0003, "NXDOMAIN"),
            (0x0002, "SERVFAIL"),
            (0x0200, "truncated"),
        ] {
            let mut d = with("tcp:github.com:443");
            let question = query(0x1234, "github.com", A);
            let left = asked(&mut d, &question);
            let mut message = answer(&question, &[Record::address("203.0.113.9", 60)]);
            let word = u16::from_be_bytes([message[2], message[3]]) | flags;
            message[2..4].copy_from_slice(&word.to_be_bytes());
            let got = d.arrives(0, &reply(&left, &message));
            assert_eq!(got.outcome, Outcome::Redirect, "{what}");
            assert!(d.learned(0).is_empty(), "{what}");
        }
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
        let now = crate::common::datapath::tick();
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
        d.names(0, &policy("tcp:github.com:443 tcp:other.example:1"));
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
        d.names(0, &policy("tcp:github.com:443 tcp:a.example.com:80"));
        let cut = d.sends(0, &tcp("10.87.0.2:5000", "203.0.113.9:443").flags(ACK));
        assert_eq!(cut.outcome, Outcome::Drop("no-rule"), "revoked");
        assert!(
            connects(&mut d, "203.0.113.9:80"),
            "allowed since, without another query"
        );
        assert!(connects(&mut d, "203.0.113.10:443"), "untouched");
        // Without names nothing of it counts.
        d.names(0, &policy("tcp:203.0.113.10:1"));
        assert!(!connects(&mut d, "203.0.113.10:443"));
        d.names(0, &policy("tcp:github.com:443"));
        assert!(connects(&mut d, "203.0.113.10:443"));
    }

    #[test]
    #[ignore = "root"]
    fn an_answer_from_a_container_or_the_host_teaches_too() {
        let mut d = Datapath::new();
        let mut policy = policy("tcp:github.com:443");
        policy.places.resolvers = vec!["10.87.0.3".parse().unwrap(), "192.0.2.1".parse().unwrap()];
        d.names(0, &policy);
        let question = query(5, "github.com", A);
        for (resolver, mark, address) in [
            ("10.87.0.3:53", MARK_JUDGED, "203.0.113.9"),
            ("192.0.2.1:53", 0, "203.0.113.10"),
        ] {
            let sent = d.sends(0, &datagram(CONTAINER, resolver, &question));
            assert!(!matches!(sent.outcome, Outcome::Drop(_)), "{sent:?}");
            let left = read(&sent.frame);
            let back = reply(&left, &answer(&question, &[Record::address(address, 60)]));
            let got = d.delivers(0, &back, mark);
            assert_eq!(got.outcome, Outcome::Pass, "{resolver}");
            assert_eq!(read(&got.frame).transport[8..10], [0, 5]);
            assert!(connects(&mut d, &format!("{address}:443")));
        }
    }

    #[test]
    #[ignore = "root"]
    fn over_tcp_one_whole_query_in_a_segment() {
        let mut d = with("tcp:github.com:443");
        let question = query(5, "github.com", A);
        let send = |d: &mut Datapath, payload: &[u8]| {
            d.sends(0, &segment(CONTAINER, RESOLVER, payload)).outcome
        };
        let opened = d.sends(0, &tcp(CONTAINER, RESOLVER));
        assert_eq!(opened.outcome, Outcome::Redirect);
        assert_eq!(send(&mut d, &[]), Outcome::Redirect);
        let evil = framed(&query(5, "evil.com", A));
        assert_eq!(send(&mut d, &evil), Outcome::Drop("dns-name"));
        let mut piped = framed(&question);
        piped.extend(&evil);
        assert_eq!(send(&mut d, &piped), Outcome::Drop("dns-query"));
        assert_eq!(
            send(&mut d, &framed(&question)[..10]),
            Outcome::Drop("dns-query")
        );
        assert_eq!(send(&mut d, &[0]), Outcome::Drop("dns-query"));
        assert_eq!(send(&mut d, &framed(&question)), Outcome::Redirect);
        let back = |payload: &[u8]| segment(RESOLVER, CONTAINER, payload);
        let split = framed(&answer(&question, &[Record::address("203.0.113.66", 60)]));
        let half = d.arrives(0, &back(&split[..20]));
        assert_eq!(
            half.outcome,
            Outcome::Redirect,
            "passes, and teaches nothing"
        );
        assert!(d.learned(0).is_empty());
        let whole = framed(&answer(&question, &[Record::address("203.0.113.9", 60)]));
        assert_eq!(d.arrives(0, &back(&whole)).outcome, Outcome::Redirect);
        assert!(connects(&mut d, "203.0.113.9:443"));
    }

    #[test]
    #[ignore = "root"]
    fn segmentation_hides_no_second_query() {
        let mut d = with("tcp:github.com:443");
        let one = query(5, "github.com", A);
        let evil = query(5, "evil.com", A);
        let frame = datagram(CONTAINER, RESOLVER, &[one.clone(), evil].concat()).bytes();
        let primary = d.ifindex.primary[0];
        let size = u32::try_from(one.len()).unwrap();
        let got = d.run(
            crate::common::datapath::Hook::FromContainer,
            primary,
            &frame,
            0,
            size,
        );
        assert!(matches!(got.outcome, Outcome::Drop(_)), "{got:?}");
    }

    #[test]
    #[ignore = "root"]
    fn the_resolver_keyword_does_not_lift_the_filter() {
        let mut d = with("tcp:github.com:443 resolver any:192.0.2.7");
        assert_eq!(
            ask(&mut d, &query(1, "evil.com", A)).outcome,
            Outcome::Drop("dns-name")
        );
        let elsewhere = d.sends(0, &udp(CONTAINER, "192.0.2.7:54"));
        assert_eq!(elsewhere.outcome, Outcome::Redirect, "the rule as it reads");
        d.names(0, &policy("resolver"));
        let free = ask(&mut d, &query(1, "evil.com", A));
        assert_eq!(free.outcome, Outcome::Redirect, "without names no filter");
        assert_eq!(read(&free.frame).transport[..2], 4000u16.to_be_bytes());
    }

    #[test]
    #[ignore = "root"]
    fn on_trial_every_name_may_be_asked_for_and_is_known_afterwards() {
        let mut d = Datapath::new();
        d.keep_denied(0, 64);
        let mut policy = policy("tcp:github.com:443");
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

    /// One random edit of a message.
    fn mutate(r: &mut Random, message: &mut Vec<u8>) {
        match r.below(6) {
            0 => {
                let at = r.below(message.len());
                message[at] = u8::try_from(r.below(256)).expect("a byte");
            }
            1 => {
                let at = r.below(message.len());
                message[at] ^= 1 << r.below(8);
            }
            2 => message.truncate(12 + r.below(message.len() - 11)),
            3 => {
                let at = r.below(message.len());
                message.insert(at, *r.pick(&[0, 0xc0, 12, 1, 63, 64, 255]));
            }
            4 => {
                let at = r.below(message.len());
                message.remove(at);
            }
            _ => {
                let at = r.below(message.len());
                message[at] = *r.pick(&[0, 1, 4, 16, 0x3f, 0x40, 0x80, 0xc0, 0xff]);
            }
        }
        message.resize(message.len().max(12), 0);
    }

    #[test]
    #[ignore = "root"]
    fn answers_teach_what_the_reference_reads() {
        let rounds: usize =
            std::env::var("NK_PACKETS").map_or(20_000, |n| n.parse().expect("a number"));
        let mut r = Random::from_env();
        let mut d = with("tcp:**.example.com:443+private-ok tcp:x.org:1+private-ok");
        let (mut taught, mut dropped) = (0, 0);
        for round in 0..rounds {
            let of = *r.pick(&["a.example.com", "X.org", "b.c.d.example.com"]);
            let kind = *r.pick(&[A, A, AAAA, SRV]);
            let question = query(0x4242, of, kind);
            let count = r.below(8);
            let records: Vec<Record> = (0..count)
                .map(|_| match r.below(6) {
                    0 => Record::cname("alias.example.net"),
                    1 => Record {
                        class: 3,
                        ..Record::address("203.0.113.1", 5)
                    },
                    2 | 3 => Record::address(&format!("203.0.113.{}", r.below(256)), 60),
                    4 => Record::address("::ffff:192.0.2.1", 60),
                    _ => Record::address(&format!("2001:db8::{}", r.below(256)), 60),
                })
                .collect();
            let mut message = answer(&question, &records);
            for _ in 0..r.below(3) {
                mutate(&mut r, &mut message);
            }
            d.forget_all(0);
            let left = asked(&mut d, &question);
            let got = d.arrives(0, &reply(&left, &message));
            let wanted = reference(&question, &message);
            let learned = d.learned(0);
            match wanted {
                None => {
                    assert_eq!(
                        got.outcome,
                        Outcome::Drop("dns-answer"),
                        "round {round}: {message:02x?}"
                    );
                    assert!(learned.is_empty(), "round {round}: {message:02x?}");
                    dropped += 1;
                }
                Some(addresses) => {
                    assert_eq!(
                        got.outcome,
                        Outcome::Redirect,
                        "round {round}: {message:02x?}"
                    );
                    let mut wanted: Vec<IpAddr> = addresses.iter().map(|(a, _)| *a).collect();
                    wanted.sort_unstable();
                    wanted.dedup();
                    let mut found: Vec<IpAddr> = learned.keys().copied().collect();
                    found.sort_unstable();
                    assert_eq!(found, wanted, "round {round}: {message:02x?}");
                    taught += usize::from(!wanted.is_empty());
                }
            }
        }
        println!("{rounds} answers: {taught} taught, {dropped} dropped");
        assert!(taught > rounds / 10 && dropped > rounds / 10);
    }

    /// By the rules alone, not by the tables.
    fn may_ask(policy: &Policy, of: &str) -> bool {
        let name = Domain::new(of);
        name.is_ok_and(|n| {
            policy.named_rules().any(|(_, r)| match &r.target {
                oci_netkit::plan::rules::Target::Name(p) => p.matches(&n),
                _ => false,
            })
        })
    }

    #[test]
    #[ignore = "root"]
    fn queries_pass_by_what_the_rules_say() {
        let egress = "tcp:a.test:1 tcp:*.b.test:1 tcp:**.c.test:1 tcp:a.b.test:2 tcp:**.b.c.test:3";
        let policy = policy(egress);
        let mut d = with(egress);
        let mut r = Random::from_env();
        for _ in 0..3000 {
            let labels: Vec<&str> = (0..1 + r.below(5))
                .map(|_| *r.pick(&["a", "b", "c", "test", "A"]))
                .collect();
            let end: &str = r.pick::<&str>(&[".test", "", ".TEST"]);
            let of = labels.join(".") + end;
            let wanted = if may_ask(&policy, &of) {
                Outcome::Redirect
            } else {
                Outcome::Drop("dns-name")
            };
            assert_eq!(ask(&mut d, &query(1, &of, A)).outcome, wanted, "{of}");
        }
    }
}
