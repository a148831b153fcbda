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
        let question = Question::parse(text).unwrap();
        assert_eq!((question.proto, question.port), (proto, port), "{text}");
    }
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
        let error = Question::parse(text).map(|_| ()).unwrap_err();
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
