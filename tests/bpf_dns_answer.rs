//! Names: which answers are believed, and what they teach.

mod common;

mod root {
    use std::net::IpAddr;

    use crate::common::datapath::{Datapath, Hook, MARK_JUDGED, Outcome, UP0_MAC};
    use crate::common::dns::{
        CONTAINER, RESOLVER, asked, connects, datagram, mutate, reply, resolve, rounds, segment,
        with, with_both,
    };
    use crate::common::dns_message::{A, AAAA, Record, SRV, answer, framed, query, taught};
    use crate::common::oracle;
    use crate::common::packet::{addr, fragments, read, tcp};
    use crate::common::random::Random;

    #[test]
    #[ignore = "root"]
    fn a_resolver_of_ipv6_is_one_too() {
        let mut d = with_both("tcp:a.example:443");
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
    fn an_answer_from_a_container_or_the_host_teaches_too() {
        let mut d = Datapath::new();
        let mut policy = oracle::policy("tcp:github.com:443", "");
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
    fn answers_teach_what_the_reference_reads() {
        let rounds = rounds(20_000);
        let mut r = Random::from_env();
        let mut d = with("tcp:**.example.com:443+private-ok tcp:x.org:1+private-ok");
        let (mut useful, mut dropped) = (0, 0);
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
            let wanted = taught(&question, &message);
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
                    useful += usize::from(!wanted.is_empty());
                }
            }
        }
        println!("{rounds} answers: {useful} taught, {dropped} dropped");
        assert!(useful > rounds / 10 && dropped > rounds / 10);
    }

    #[test]
    #[ignore = "root"]
    fn an_answer_counts_where_and_when_it_was_asked_for() {
        let mut d = with("tcp:github.com:443");
        d.names(1, &oracle::policy("tcp:github.com:443", ""));
        let question = query(0x1234, "github.com", A);
        let message = answer(&question, &[Record::address("203.0.113.9", 60)]);
        let left = asked(&mut d, &question);
        let good = reply(&left, &message);
        let mut other_port = good.clone();
        other_port.transport[3] ^= 1;
        let mut other_container = good.clone();
        other_container.destination = "10.87.0.3".parse().expect("an address");
        let mut other_source = good.clone();
        other_source.transport[1] ^= 1;
        for forged in [other_port, other_container, other_source] {
            let got = d.arrives(0, &forged.summed());
            assert_eq!(got.outcome, Outcome::Drop("no-rule"));
        }
        // Nor from the host or another container, who speak from their own addresses only.
        let judged = d.delivers(1, &good, MARK_JUDGED);
        assert_eq!(judged.outcome, Outcome::Drop("no-endpoint"));
        d.age_queries(0, 11);
        let late = d.arrives(0, &good);
        assert_eq!(late.outcome, Outcome::Drop("dns-answer"), "too late");
        assert!(d.learned(0).is_empty() && d.learned(1).is_empty());
        let left = asked(&mut d, &question);
        d.age_queries(0, 9);
        let got = d.arrives(0, &reply(&left, &message));
        assert_eq!(got.outcome, Outcome::Redirect, "just in time");
    }

    #[test]
    #[ignore = "root"]
    fn lengths_of_an_answer_that_lie_teach_nothing() {
        let question = query(0x1234, "github.com", A);
        let message = answer(&question, &[Record::address("203.0.113.9", 60)]);
        for (what, change, reason) in [
            ("UDP says less", -1, "dns-answer"),
            ("UDP says much less", -60, "malformed"),
            ("UDP says more", 1, "malformed"),
        ] {
            let mut d = with("tcp:github.com:443");
            let left = asked(&mut d, &question);
            let mut lying = reply(&left, &message);
            let length = u16::from_be_bytes([lying.transport[4], lying.transport[5]]);
            let length = length.wrapping_add_signed(change);
            lying.transport[4..6].copy_from_slice(&length.to_be_bytes());
            let got = d.arrives(0, &lying);
            assert_eq!(got.outcome, Outcome::Drop(reason), "{what}");
            assert!(d.learned(0).is_empty(), "{what}");
        }
        // Segments that GRO put together are no answer.
        let mut d = with("tcp:github.com:443");
        let left = asked(&mut d, &question);
        let frame = reply(&left, &message).to_mac(UP0_MAC).bytes();
        let got = d.run(Hook::FromWire, d.ifindex.up[0], &frame, 0, 20);
        assert_eq!(got.outcome, Outcome::Drop("dns-answer"));
        assert!(d.learned(0).is_empty());
    }

    #[test]
    #[ignore = "root"]
    fn owners_are_skipped_and_never_followed() {
        let question = query(0x1234, "github.com", A);
        let end = u8::try_from(question.len()).expect("short");
        let record = Record::address("203.0.113.9", 60);
        let with_owner = |owner: &[u8]| answer(&question, &[record.clone().owned(owner)]);
        for owner in [
            &[0xc0, end][..],       // to itself
            &[0xc0, end + 2],       // forward
            &[0xff, 0xff],          // outside
            &[1, b'a', 0xc0, end],  // a loop with a label in it
            &[0],                   // the root
            &[1, 0x2e].repeat(127), // without an end, but for the next one
        ] {
            let owner = [owner, if owner.len() > 200 { &[0] } else { &[] }].concat();
            let mut d = with("tcp:github.com:443");
            let left = asked(&mut d, &question);
            let got = d.arrives(0, &reply(&left, &with_owner(&owner)));
            assert_eq!(got.outcome, Outcome::Redirect, "{owner:02x?}");
            assert_eq!(d.learned(0).len(), 1, "{owner:02x?}");
        }
        let mut cut = with_owner(&[]);
        cut.truncate(question.len());
        cut.push(0xc0);
        for message in [
            cut,
            with_owner(&[63]),
            with_owner(&[0x40, 0]),
            with_owner(&[0x80, 0]),
            with_owner(&[&[1, b'a'].repeat(128)[..], &[0]].concat()),
        ] {
            let mut d = with("tcp:github.com:443");
            let left = asked(&mut d, &question);
            let got = d.arrives(0, &reply(&left, &message));
            assert_eq!(
                got.outcome,
                Outcome::Drop("dns-answer"),
                "{:02x?}",
                &message[question.len()..]
            );
            assert!(d.learned(0).is_empty());
        }
    }

    #[test]
    #[ignore = "root"]
    fn answers_in_fragments_are_dropped_and_the_query_waits_on() {
        let mut d = with_both("tcp:github.com:443");
        let question = query(9, "github.com", A);
        let message = answer(&question, &[Record::address("203.0.113.9", 60)]);
        for sent in [
            datagram(CONTAINER, RESOLVER, &question),
            datagram("[2001:db8:87::2]:4000", "[2001:db8:1::7]:53", &question),
        ] {
            let left = d.sends(0, &sent);
            let whole = reply(&read(&left.frame), &message);
            for piece in fragments(&whole) {
                let got = d.arrives(0, &piece);
                assert_eq!(got.outcome, Outcome::Drop("fragment"), "{piece:?}");
                let got = d.delivers(0, &piece, 0);
                assert_eq!(got.outcome, Outcome::Drop("fragment"), "{piece:?}");
            }
            assert!(d.learned(0).is_empty());
            assert_eq!(d.arrives(0, &whole).outcome, Outcome::Redirect);
            d.forget_all(0);
        }
    }

    #[test]
    #[ignore = "root"]
    fn under_the_hosts_address_all_is_the_same() {
        let mut d = with("tcp:github.com:443");
        d.masquerade(0, 16384, 64);
        resolve(&mut d, "github.com", &[Record::address("203.0.114.9", 60)]);
        assert!(connects(&mut d, "203.0.114.9:443"));
        let question = query(9, "github.com", A);
        let message = answer(&question, &[Record::address("203.0.114.10", 60)]);
        let left = asked(&mut d, &question);
        assert_eq!(left.source, addr("192.0.2.1"));
        let mut wrong_id = reply(&left, &message);
        wrong_id.transport[8] ^= 1;
        let got = d.arrives(0, &wrong_id.summed());
        assert_eq!(got.outcome, Outcome::Drop("dns-answer"));
        for piece in fragments(&reply(&left, &message)) {
            let got = d.arrives(0, &piece);
            assert_eq!(got.outcome, Outcome::Next, "the host's, who asked nothing");
        }
        let good = reply(&left, &message);
        assert_eq!(d.arrives(0, &good).outcome, Outcome::Redirect);
        let again = d.arrives(0, &good);
        assert_eq!(again.outcome, Outcome::Drop("dns-answer"), "once only");
    }

    /// Asks over UDP and gets what sends to TCP.
    #[track_caller]
    fn truncated(d: &mut Datapath, question: &[u8]) {
        let left = asked(d, question);
        let mut message = answer(question, &[]);
        message[2] |= 2;
        let got = d.arrives(0, &reply(&left, &message));
        assert_eq!(got.outcome, Outcome::Redirect);
    }

    /// Over TCP the container chooses id and port, so whoever helps it from outside knows both.
    #[test]
    #[ignore = "root"]
    fn over_tcp_only_what_was_truncated_over_udp_teaches() {
        let mut d = with("tcp:github.com:443 tcp:gitlab.com:443");
        assert_eq!(
            d.sends(0, &tcp(CONTAINER, RESOLVER)).outcome,
            Outcome::Redirect
        );
        let exchange = |d: &mut Datapath, name: &str, kind: u16, address: &str| {
            let question = query(5, name, kind);
            let sent = d.sends(0, &segment(CONTAINER, RESOLVER, &framed(&question)));
            assert_eq!(sent.outcome, Outcome::Redirect, "{name}");
            let back = framed(&answer(&question, &[Record::address(address, 60)]));
            let got = d.arrives(0, &segment(RESOLVER, CONTAINER, &back));
            assert_eq!(got.outcome, Outcome::Redirect, "{name}");
        };
        exchange(&mut d, "github.com", A, "203.0.113.9");
        assert!(d.learned(0).is_empty(), "nothing was truncated");
        truncated(&mut d, &query(9, "github.com", A));
        exchange(&mut d, "gitlab.com", A, "203.0.113.10");
        exchange(&mut d, "github.com", AAAA, "2001:db8:9::9");
        assert!(d.learned(0).is_empty(), "another name or type was");
        exchange(&mut d, "GitHub.com", A, "203.0.113.9");
        assert!(connects(&mut d, "203.0.113.9:443"));
        // A truncated answer over TCP is no such note.
        let mut d = with("tcp:github.com:443");
        let _ = d.sends(0, &tcp(CONTAINER, RESOLVER));
        let question = query(5, "github.com", A);
        let _ = d.sends(0, &segment(CONTAINER, RESOLVER, &framed(&question)));
        let mut message = answer(&question, &[]);
        message[2] |= 2;
        let _ = d.arrives(0, &segment(RESOLVER, CONTAINER, &framed(&message)));
        exchange(&mut d, "github.com", A, "203.0.113.9");
        assert!(d.learned(0).is_empty());
    }

    #[test]
    #[ignore = "root"]
    fn over_tcp_one_whole_query_in_a_segment() {
        let mut d = with("tcp:github.com:443");
        let question = query(5, "github.com", A);
        truncated(&mut d, &question);
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
}
