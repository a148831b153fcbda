use super::*;

#[test]
fn a_question_is_one_address_one_protocol_one_port() {
    for (text, proto, port) in [
        ("203.0.113.10:443", 6, 443),
        ("udp:[2001:db8::1]:53", 17, 53),
        ("icmp:203.0.113.10:8", 1, 8),
        ("icmp:[2001:db8::1]:128", 58, 128),
        ("47:203.0.113.10", 47, 0),
    ] {
        let Asked::Address(question) = Question::parse(text, Direction::Egress).unwrap() else {
            panic!("{text}");
        };
        assert_eq!((question.proto, question.port), (proto, port), "{text}");
    }
}

#[test]
fn a_question_may_be_one_name() {
    let Asked::Name(name, proto, port) =
        Question::parse("GitHub.com:443", Direction::Egress).unwrap()
    else {
        panic!("a name");
    };
    assert_eq!((name.as_str(), proto, port), ("github.com", 6, 443));
    for (text, direction) in [
        ("*.github.com:443", Direction::Egress),
        ("github.com", Direction::Egress),
        ("github.com:443", Direction::Ingress),
    ] {
        let error = Question::parse(text, direction).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), Kind::BadInput, "{text}");
    }
}

#[test]
fn an_address_is_allowed_by_the_names_that_led_to_it() {
    let policy = Policy {
        egress: crate::plan::rules::RuleSet::parse("tcp:a.example:443 tcp:b.example:80+private-ok")
            .unwrap(),
        ..Policy::default()
    };
    let learned = |name: &str, seconds, private| {
        let names = vec![crate::types::learned::LearnedName {
            name: name.into(),
            seconds,
            private,
        }];
        let address = "203.0.113.10".parse().unwrap();
        [Learned { address, names }]
    };
    let ask = |port, scope, learned: &[Learned]| {
        let packet = Packet {
            remote: "203.0.113.10".parse().unwrap(),
            proto: 6,
            port,
            scope,
        };
        Answer::of_learned(&policy, &packet, learned).map(|a| a.explanation)
    };
    let told = ask(443, Scope::Outside, &learned("a.example", 60, false));
    assert_eq!(
        told.as_deref(),
        Some("by the egress rule tcp:a.example:443, as a.example for 60 s yet")
    );
    assert_eq!(
        ask(80, Scope::Outside, &learned("a.example", 60, false)),
        None
    );
    assert_eq!(
        ask(443, Scope::Outside, &learned("a.example", 0, false)),
        None
    );
    assert_eq!(
        ask(443, Scope::Network, &learned("a.example", 60, false)),
        None
    );
    assert_eq!(
        ask(443, Scope::Outside, &learned("a.example", 60, true)),
        None
    );
    assert!(ask(80, Scope::Network, &learned("b.example", 60, true)).is_some());
    assert_eq!(ask(80, Scope::Host, &learned("b.example", 60, true)), None);
}

#[test]
fn what_is_not_one_question_is_refused_with_an_example() {
    for text in [
        "203.0.113.10",
        "203.0.113.0/24:443",
        "any:443",
        "203.0.113.10:1-2",
        "!203.0.113.10:443",
        "any:203.0.113.10",
        "icmp:203.0.113.10",
    ] {
        let error = Question::parse(text, Direction::Egress)
            .map(|_| ())
            .unwrap_err();
        assert!(error.hint().is_some(), "{text}");
    }
}

#[test]
fn default_reasons_have_names() {
    for scope in Scope::ALL {
        let packet = Packet {
            remote: "203.0.113.10".parse().unwrap(),
            proto: 47,
            port: 0,
            scope,
        };
        assert!(reason(default_reason(&packet)).is_some(), "{scope}");
    }
}
