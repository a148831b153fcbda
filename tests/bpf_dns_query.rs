//! Names: which queries leave and in which form, and what becomes of the others.

mod common;

mod root {
    use oci_netkit::plan::policy::Policy;
    use oci_netkit::types::domain::Domain;

    use crate::common::datapath::{Datapath, Hook, MARK_REPLY, Outcome};
    use crate::common::denied::refused;
    use crate::common::dns::{
        CONTAINER, RESOLVER, ask, asked, connects, datagram, mutate, policy_of_both, reply,
        resolve, rounds, segment, with, with_both,
    };
    use crate::common::dns_message::{
        A, AAAA, ANY, AXFR, CNAME, HTTPS, IXFR, Record, SRV, TXT, answer, framed, plain, query,
        query_for, wire, with_edns,
    };
    use crate::common::oracle;
    use crate::common::packet::{
        ACK, ETH, FIN, Packet, SYN, addr, fragments, icmp, read, tcp, udp,
    };
    use crate::common::random::Random;

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
        for kind in [TXT, ANY, AXFR, IXFR, 10, 15, 12] {
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
    fn segmentation_hides_no_second_query() {
        let mut d = with("tcp:github.com:443");
        let one = query(5, "github.com", A);
        let primary = d.ifindex.primary[0];
        for more in [1, 20, 40] {
            let payload = [one.clone(), query(5, "evil.com", A).repeat(more)].concat();
            let frame = datagram(CONTAINER, RESOLVER, &payload).bytes();
            for size in [8, 64, one.len(), payload.len()] {
                let size = u32::try_from(size).expect("short");
                let got = d.run(Hook::FromContainer, primary, &frame, 0, size);
                assert!(matches!(got.outcome, Outcome::Drop(_)), "{got:?}");
                assert!(!got.answered);
            }
        }
        assert_eq!(d.waiting(0), 0);
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
        d.names(0, &oracle::policy("resolver", ""));
        let free = ask(&mut d, &query(1, "evil.com", A));
        assert_eq!(free.outcome, Outcome::Redirect, "without names no filter");
        assert_eq!(read(&free.frame).transport[..2], 4000u16.to_be_bytes());
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
        let policy = oracle::policy(egress, "");
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

    #[test]
    #[ignore = "root"]
    fn another_resolver_needs_a_rule_of_its_own_and_teaches_nothing() {
        let mut d = with("tcp:github.com:443 udp:192.0.2.254:53");
        let question = query(5, "github.com", A);
        for (from, to) in [
            (CONTAINER, "203.0.113.53:53"),
            (CONTAINER, "192.0.2.66:53"),
            ("[2001:db8:87::2]:4000", "[2001:db8:1::7]:53"),
        ] {
            let sent = d.sends(0, &datagram(from, to, &question));
            assert_eq!(sent.outcome, Outcome::Drop("no-rule"), "{to}");
            let sent = d.sends(0, &tcp(from, to));
            assert_eq!(sent.outcome, Outcome::Drop("no-rule"), "{to}");
        }
        let plain = datagram(CONTAINER, "192.0.2.254:53", &query(5, "evil.com", A));
        let sent = d.sends(0, &plain);
        assert_eq!(sent.outcome, Outcome::Redirect, "the rule as it reads");
        let left = read(&sent.frame);
        assert_eq!(left.transport, read(&plain.bytes()).transport, "as it was");
        let back = reply(
            &left,
            &answer(&question, &[Record::address("203.0.113.9", 60)]),
        );
        assert_eq!(d.arrives(0, &back).outcome, Outcome::Redirect);
        assert!(d.learned(0).is_empty());
    }

    #[test]
    #[ignore = "root"]
    fn lengths_that_lie_go_nowhere() {
        let mut d = with("tcp:github.com:443");
        let question = query(9, "github.com", A);
        let whole = datagram(CONTAINER, RESOLVER, &question);
        let length = whole.transport.len();
        for bytes in [0, 7, 8, length - 1, length + 1, 0xffff] {
            let mut lying = whole.clone();
            let bytes = u16::try_from(bytes).expect("two bytes");
            lying.transport[4..6].copy_from_slice(&bytes.to_be_bytes());
            let got = d.sends(0, &lying);
            assert_eq!(got.outcome, Outcome::Drop("malformed"), "UDP says {bytes}");
        }
        let got = d.sends(0, &whole.clone().trailer(1));
        assert_eq!(got.outcome, Outcome::Drop("malformed"), "IP says less");
        let got = d.sends(0, &whole.clone().cut(whole.bytes().len() - 1));
        assert_eq!(got.outcome, Outcome::Drop("malformed"), "IP says more");
        for (at, value) in [(12, 11), (12, 63), (23, 2), (23, 63)] {
            let mut message = question.clone();
            message[at] = value;
            let got = ask(&mut d, &message);
            assert_eq!(got.outcome, Outcome::Drop("dns-query"), "{at}: {value}");
        }
        let edns = with_edns(question.clone(), 1232);
        for bytes in [1, 0xff] {
            let mut message = edns.clone();
            *message.last_mut().expect("its RDLENGTH") = bytes;
            let got = ask(&mut d, &message);
            assert_eq!(got.outcome, Outcome::Drop("dns-query"), "options {bytes}");
        }
        assert_eq!(d.waiting(0), 0);
    }

    #[test]
    #[ignore = "root"]
    fn queries_in_fragments_go_nowhere() {
        let mut d = with_both("tcp:github.com:443");
        let question = query(9, "github.com", A);
        for whole in [
            datagram(CONTAINER, RESOLVER, &question),
            datagram("[2001:db8:87::2]:4000", "[2001:db8:1::7]:53", &question),
            segment(CONTAINER, RESOLVER, &framed(&question)),
        ] {
            for piece in fragments(&whole) {
                let got = d.sends(0, &piece);
                assert_eq!(got.outcome, Outcome::Drop("fragment"), "{piece:?}");
                assert!(!got.answered);
            }
        }
        assert_eq!(d.waiting(0), 0);
    }

    #[test]
    #[ignore = "root"]
    fn over_tcp_nothing_but_whole_queries_of_listed_names_and_types() {
        let mut d = with("tcp:github.com:443");
        assert_eq!(
            d.sends(0, &tcp(CONTAINER, RESOLVER)).outcome,
            Outcome::Redirect
        );
        let good = framed(&query(5, "github.com", A));
        let evil = framed(&query(5, "evil.com", A));
        let mut longer = good.clone();
        longer[1] += 1;
        let mut shorter = good.clone();
        shorter[1] -= 1;
        let twice = [&good[..], &good].concat();
        for (what, payload, reason) in [
            ("two that are allowed", &twice[..], "dns-query"),
            ("a length that is too large", &longer, "dns-query"),
            ("a length that is too small", &shorter, "dns-query"),
            ("a length alone", &good[..2], "dns-query"),
            ("half a length", &good[..1], "dns-query"),
            ("an empty message", &[0, 0], "dns-query"),
            ("a message without its length", &good[2..], "dns-query"),
            ("another name", &evil, "dns-name"),
        ] {
            for flags in [ACK, SYN, FIN | ACK] {
                let packet = segment(CONTAINER, RESOLVER, payload).flags(flags).summed();
                let got = d.sends(0, &packet);
                assert_eq!(got.outcome, Outcome::Drop(reason), "{what}, {flags:#x}");
                assert!(!got.answered, "{what}");
            }
        }
        for kind in [TXT, ANY, AXFR, IXFR, HTTPS] {
            let payload = framed(&query(5, "github.com", kind));
            let got = d.sends(0, &segment(CONTAINER, RESOLVER, &payload));
            assert_eq!(got.outcome, Outcome::Drop("dns-type"), "{kind}");
        }
        // What could hold a query of its own, for a resolver that is made to read from amid it.
        let mut d = with("tcp:**.github.com:443");
        let _ = d.sends(0, &tcp(CONTAINER, RESOLVER));
        let tcp_sends = |d: &mut Datapath, message: &[u8]| {
            d.sends(0, &segment(CONTAINER, RESOLVER, &framed(message)))
                .outcome
        };
        let cookie = |bytes: u8| {
            let mut message = with_edns(query(5, "a.github.com", A), 1232);
            let at = message.len() - 1;
            message[at] = bytes;
            message.extend(vec![0; usize::from(bytes)]);
            message
        };
        assert_eq!(tcp_sends(&mut d, &cookie(0)), Outcome::Redirect);
        assert_eq!(tcp_sends(&mut d, &cookie(12)), Outcome::Redirect);
        assert_eq!(tcp_sends(&mut d, &cookie(13)), Outcome::Drop("dns-query"));
        let plain = query(5, "_xmpp-client0.github.com", A);
        assert_eq!(tcp_sends(&mut d, &plain), Outcome::Redirect);
        for byte in [0, 1, b' ', b'.', b'/', b':', b'@', b'`', b'{', 0x80, 0xff] {
            let mut message = query(5, "aba.github.com", A);
            message[14] = byte;
            assert_eq!(
                tcp_sends(&mut d, &message),
                Outcome::Drop("dns-query"),
                "{byte}"
            );
            assert_eq!(ask(&mut d, &message).outcome, Outcome::Redirect, "{byte}");
        }
        let mut d = with("tcp:github.com:443");
        let _ = d.sends(0, &tcp(CONTAINER, RESOLVER));
        // Behind TCP options.
        let mut optioned = segment(CONTAINER, RESOLVER, &[&[1; 12], &evil[..]].concat());
        optioned.transport[12] = 8 << 4;
        let got = d.sends(0, &optioned.summed());
        assert_eq!(got.outcome, Outcome::Drop("dns-name"));
        assert_eq!(d.waiting(0), 0);
    }

    #[test]
    #[ignore = "root"]
    fn a_flood_of_queries_makes_room_for_itself_alone() {
        let mut d = with("tcp:**.example.com:443");
        d.names(1, &oracle::policy("tcp:github.com:443", ""));
        let neighbours = query(7, "github.com", A);
        let sent = d.sends(1, &datagram("10.87.0.3:4000", RESOLVER, &neighbours));
        let neighbour = read(&sent.frame);
        let mut last = None;
        for n in 0..6000 {
            let question = query(1, &format!("n{n}.example.com"), A);
            last = Some((asked(&mut d, &question), question));
        }
        assert!((2000..=4096).contains(&d.waiting(0)), "{}", d.waiting(0));
        let record = [Record::address("203.0.113.9", 60)];
        let (left, question) = last.expect("the newest");
        let got = d.arrives(0, &reply(&left, &answer(&question, &record)));
        assert_eq!(got.outcome, Outcome::Redirect);
        assert!(connects(&mut d, "203.0.113.9:443"));
        assert_eq!(d.waiting(1), 1);
        let got = d.arrives(0, &reply(&neighbour, &answer(&neighbours, &record)));
        assert_eq!((got.outcome, got.endpoint), (Outcome::Redirect, Some(1)));
        assert_eq!(d.learned(1).len(), 1);
    }

    #[test]
    #[ignore = "root"]
    fn mutated_queries_pass_as_the_reference_reads() {
        let rounds = rounds(20_000);
        let mut r = Random::from_env();
        let mut d = with("tcp:**.example.com:443 tcp:x.org:1");
        let (mut passed, mut refused) = (0, 0);
        for round in 0..rounds {
            let of = *r.pick(&["a.example.com", "X.org", "b.c.d.Example.com", "example.com"]);
            let mut message = query(0x4242, of, *r.pick(&[A, A, AAAA, SRV, TXT]));
            if r.one_in(3) {
                message = with_edns(message, 1232);
            }
            for _ in 0..r.below(3) {
                mutate(&mut r, &mut message);
            }
            let wanted = match plain(&message) {
                None => Outcome::Drop("dns-query"),
                Some(q) if !is_listed(&q.labels) => Outcome::Drop("dns-name"),
                Some(q) if ![A, AAAA, CNAME, SRV].contains(&q.kind) => Outcome::Drop("dns-type"),
                Some(_) => Outcome::Redirect,
            };
            let got = ask(&mut d, &message).outcome;
            assert_eq!(got, wanted, "round {round}: {message:02x?}");
            passed += usize::from(wanted == Outcome::Redirect);
            refused += usize::from(wanted == Outcome::Drop("dns-query"));
        }
        println!("{rounds} queries: {passed} passed, {refused} were no plain ones");
        assert!(passed > rounds / 10 && refused > rounds / 10);
    }

    /// By the rules of the test above.
    fn is_listed(labels: &[Vec<u8>]) -> bool {
        let labels: Vec<Vec<u8>> = labels.iter().map(|l| l.to_ascii_lowercase()).collect();
        let deep = [b"example".to_vec(), b"com".to_vec()];
        labels == [b"x".to_vec(), b"org".to_vec()] || labels.len() > 2 && labels.ends_with(&deep)
    }

    /// A length byte inside of a label is none, be it one that names may have (48 is the digit 0).
    #[test]
    #[ignore = "root"]
    fn a_label_that_ends_like_a_listed_name_is_another_name() {
        let long = "a".repeat(48);
        let mut d = with(&format!(
            "tcp:github.com:443 tcp:**.example.com:443 tcp:{long}.example.net:443"
        ));
        let hidden = [&b"x0"[..], long.as_bytes()].concat();
        for labels in [
            &[&b"x\x06github"[..], b"com"][..],
            &[b"x\x86github", b"com"],
            &[b"x\xc6github", b"com"],
            &[b"\x06github\x03com"],
            &[b"\x07example\x03com"],
            &[b"a", b"\x07example\x03com"],
            &[b"a", b"x\x07example", b"com"],
            &[b"a", b"b", b"x\x07example", b"com"],
            &[&hidden, b"example", b"net"],
        ] {
            let got = ask(&mut d, &query_for(1, &wire(labels), A));
            assert_eq!(got.outcome, Outcome::Drop("dns-name"), "{labels:02x?}");
        }
        for labels in [
            &[&b"\x80\xff\x07"[..], b"example", b"com"][..],
            &[b"\x06github\x03com", b"example", b"com"],
            &[long.as_bytes(), b"example", b"net"],
        ] {
            let got = ask(&mut d, &query_for(1, &wire(labels), A));
            assert_eq!(got.outcome, Outcome::Redirect, "{labels:02x?}");
        }
    }

    /// Of a router that quotes all of the packet, as RFC 1812 (4.3.2.3) wants.
    fn error_about(left: &Packet, kind: u8) -> Packet {
        let router = if left.source.is_ipv4() {
            "192.0.2.254"
        } else {
            "2001:db8:1::fe"
        };
        let mut error = icmp(router, &left.source.to_string(), kind);
        error.transport[4..8].fill(0);
        error.transport.extend(&left.bytes()[ETH..]);
        error.summed()
    }

    /// With a TTL of 1 the container itself could ask for one, and know what an answer must have.
    #[test]
    #[ignore = "root"]
    fn errors_about_a_query_do_not_tell_its_id_and_port() {
        let policy = policy_of_both("tcp:github.com:443 udp:192.0.2.7:54");
        for masquerades in [false, true] {
            let mut d = Datapath::new();
            if masquerades {
                d.masquerade(0, 16384, 64);
            }
            d.names(0, &policy);
            let question = query(9, "github.com", A);
            for (from, to, kinds) in [
                (CONTAINER, RESOLVER, [3, 11]),
                ("[2001:db8:87::2]:4000", "[2001:db8:1::7]:53", [1, 3]),
            ] {
                let sent = d.sends(0, &datagram(from, to, &question));
                let left = read(&sent.frame);
                for kind in kinds {
                    let got = d.arrives(0, &error_about(&left, kind));
                    assert_eq!(got.outcome, Outcome::Drop("dns-answer"), "{to} {kind}");
                    if !masquerades {
                        let got = d.delivers(0, &error_about(&left, kind), 0);
                        assert_eq!(got.outcome, Outcome::Drop("dns-answer"), "{to} {kind}");
                    }
                }
                let message = answer(&question, &[Record::address("203.0.114.9", 60)]);
                let got = d.arrives(0, &reply(&left, &message));
                assert_eq!(got.outcome, Outcome::Redirect, "it waited on");
                // There is nothing to hide about others.
                for sent in [tcp(from, to), udp(from, &to.replace(":53", ":54"))] {
                    let sent = d.sends(0, &sent.summed());
                    if sent.outcome == Outcome::Redirect {
                        let error = error_about(&read(&sent.frame), kinds[0]);
                        assert_eq!(d.arrives(0, &error).outcome, Outcome::Redirect, "{to}");
                    }
                }
            }
        }
    }
}
