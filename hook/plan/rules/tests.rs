use super::*;

fn said(text: &str) -> String {
    match Rule::parse(text) {
        Ok(rule) => panic!("{text} is accepted: {rule:?}"),
        Err(e) => e.report(),
    }
}

#[track_caller]
fn refused(text: &str, parts: &[&str]) {
    let said = said(text);
    for part in parts {
        assert!(said.contains(part), "{text}: {part:?} is not in:\n{said}");
    }
}

#[track_caller]
fn means(text: &str, deny: bool, proto: Protocol, target: &str, ports: Option<(u16, u16)>) {
    let rule = Rule::parse(text).unwrap();
    let target = match target {
        "any" => Target::Any,
        "host" => Target::Host,
        "containers" => Target::Containers,
        "resolver" => Target::Resolver,
        "metadata" => Target::Metadata,
        "link-local" => Target::LinkLocal,
        "multicast" => Target::Multicast,
        net => Target::Net(net.parse().unwrap()),
    };
    let ports = ports.map(|(first, last)| Ports { first, last });
    let want = Rule {
        text: text.into(),
        deny,
        proto,
        target,
        ports,
        private_ok: false,
    };
    assert_eq!(rule, want);
}

#[test]
fn every_form_of_the_grammar_is_read() {
    let (tcp, udp) = (Protocol::One(6), Protocol::One(17));
    means("10.0.0.0/8", false, tcp, "10.0.0.0/8", None);
    means("10.0.0.0/8:443", false, tcp, "10.0.0.0/8", Some((443, 443)));
    means("192.0.2.1", false, tcp, "192.0.2.1/32", None);
    means(
        "udp:192.0.2.1:53",
        false,
        udp,
        "192.0.2.1/32",
        Some((53, 53)),
    );
    means(
        "tcp:192.0.2.0/24:8000-8099",
        false,
        tcp,
        "192.0.2.0/24",
        Some((8000, 8099)),
    );
    means("[2001:db8::/32]", false, tcp, "2001:db8::/32", None);
    means(
        "tcp:[2001:db8::1]:443",
        false,
        tcp,
        "2001:db8::1/128",
        Some((443, 443)),
    );
    means("[::/0]", false, tcp, "::/0", None);
    means("sctp:any:9", false, Protocol::One(132), "any", Some((9, 9)));
    means("47:any", false, Protocol::One(47), "any", None);
    means("0:10.0.0.1", false, Protocol::One(0), "10.0.0.1/32", None);
    means("6:any:80", false, tcp, "any", Some((80, 80)));
    means("icmp:any", false, Protocol::Icmp, "any", None);
    means("icmp:any:8", false, Protocol::Icmp, "any", Some((8, 8)));
    means(
        "icmp:any:0-255",
        false,
        Protocol::Icmp,
        "any",
        Some((0, 255)),
    );
    means("any:any", false, Protocol::Any, "any", None);
    means("any:10.0.0.0/8", false, Protocol::Any, "10.0.0.0/8", None);
    means("any:host", false, Protocol::Any, "host", None);
    means("any", false, tcp, "any", None);
    means("any:443", false, tcp, "any", Some((443, 443)));
    means("any:1-9", false, tcp, "any", Some((1, 9)));
    means("host:443", false, tcp, "host", Some((443, 443)));
    for word in ["host", "containers", "metadata", "link-local", "multicast"] {
        means(word, false, tcp, word, None);
        means(
            &format!("udp:{word}:5353"),
            false,
            udp,
            word,
            Some((5353, 5353)),
        );
    }
}

#[test]
fn a_bare_resolver_is_dns_over_udp_and_tcp() {
    means(
        "resolver",
        false,
        Protocol::TcpUdp,
        "resolver",
        Some((53, 53)),
    );
    means("udp:resolver", false, Protocol::One(17), "resolver", None);
    means(
        "resolver:853",
        false,
        Protocol::One(6),
        "resolver",
        Some((853, 853)),
    );
}

#[test]
fn a_deny_rule_is_not_narrower_than_it_reads() {
    means("!any", true, Protocol::Any, "any", None);
    means("!10.0.0.0/8", true, Protocol::Any, "10.0.0.0/8", None);
    means(
        "!10.0.0.0/8:443",
        true,
        Protocol::Ported,
        "10.0.0.0/8",
        Some((443, 443)),
    );
    means(
        "!tcp:10.0.0.0/8:443",
        true,
        Protocol::One(6),
        "10.0.0.0/8",
        Some((443, 443)),
    );
    means("!resolver", true, Protocol::Any, "resolver", None);
    means(
        "![2001:db8::/32]:1",
        true,
        Protocol::Ported,
        "2001:db8::/32",
        Some((1, 1)),
    );
}

#[test]
fn ipv6_without_brackets_is_shown_with_them() {
    refused(
        "2001:db8::1",
        &["column 1", "brackets", "write [2001:db8::1]"],
    );
    refused(
        "tcp:2001:db8::/32",
        &["column 5", "write tcp:[2001:db8::/32]"],
    );
    refused(
        "!tcp:2001:db8::/32:443",
        &["write !tcp:[2001:db8::/32]:443"],
    );
    refused("::1", &["write [::1]"]);
    refused("fe80::1%eth0", &["rule"]);
    refused("[2001:db8::]/32", &["column 13", "[2001:db8::/32]:443"]);
    refused("[2001:db8::1", &["closing bracket"]);
    refused(
        "[10.0.0.1]",
        &["brackets are for IPv6 only", "write 10.0.0.1 without"],
    );
    refused("[::ffff:10.0.0.1]", &["v4-mapped", "write 10.0.0.1/32"]);
    refused("[::ffff:0:0/96]", &["v4-mapped", "write 0.0.0.0/0"]);
}

#[test]
fn host_bits_are_shown_masked() {
    refused(
        "10.0.0.1/8:443",
        &["column 1", "10.0.0.1/8 has bits", "10.0.0.0/8"],
    );
    refused("[2001:db8::1/32]", &["column 2", "2001:db8::/32"]);
}

#[test]
fn well_known_mistakes_have_their_own_words() {
    refused(
        "https://example.com/x",
        &["no scheme", "tcp:example.com:443"],
    );
    refused("example.com/x", &["no path", "example.com:PORT"]);
    refused("any/x", &["no path"]);
    refused("*", &["* is no target", "`any`"]);
    refused("tcp:*:443", &["* is no target"]);
    refused("any:*", &["* is no target"]);
    refused("10.0.0.1:*", &["* is no port", "leave the port out"]);
    refused("10.0.0.1:0", &["no port (1 to 65535)"]);
    refused("10.0.0.1:65536", &["no port (1 to 65535)"]);
    refused("10.0.0.1:+80", &["no port"]);
    refused("10.0.0.1:http", &["\"http\" is no port"]);
    refused("10.0.0.1:", &["the port is missing"]);
    refused("10.0.0.1:9-", &["the port is missing"]);
    refused("10.0.0.1:90-80", &["column 10", "backwards", "write 80-90"]);
    refused("10.0.0.1:80,443", &["comma", "spaces"]);
    refused("10.0.0.0/33", &["0 to 32"]);
    refused("10.0.0.0/255.0.0.0", &["netmask"]);
    refused("[::/129]", &["0 to 128"]);
    refused("10.0.0/8", &["no IPv4 address"]);
    refused("010.0.0.1", &["no IPv4 address"]);
    refused("443", &["target before it is missing", "any:443"]);
    refused("tcp:443", &["target before it is missing"]);
    refused("tcp", &["protocol, and its target is missing", "tcp:any"]);
    refused("tcp:", &["target is missing"]);
    refused("!", &["target is missing"]);
    refused("!!any", &["! stands once"]);
    refused("300:any", &["no protocol number"]);
    refused("tpc:any:443", &["no protocol", "did you mean tcp?"]);
    refused("Any", &["lower case"]);
    refused("icmp:any:256", &["ICMP type (0 to 255)"]);
    refused("47:any:1", &["only tcp, udp, sctp and icmp"]);
    refused(
        "any:10.0.0.1:443",
        &["any protocol has no ports", "tcp:10.0.0.1:443 udp:"],
    );
    refused("bücher.example", &["A-label"]);
    refused("any:443:443", &["rule"]);
    refused("10.0.0.1:1:2", &["rule"]);
    refused(&"a".repeat(400), &["longer than 320 bytes"]);
}

#[test]
fn names_are_read_with_their_depth() {
    for (text, pattern, proto, ports, private_ok) in [
        ("example.com", "example.com", 6, None, false),
        ("GitHub.com:443", "github.com", 6, Some(443), false),
        (
            "tcp:*.example.com:443",
            "*.example.com",
            6,
            Some(443),
            false,
        ),
        ("udp:**.example.com", "**.example.com", 17, None, false),
        (
            "db.corp.example:5432+private-ok",
            "db.corp.example",
            6,
            Some(5432),
            true,
        ),
        (
            "db.corp.example+private-ok",
            "db.corp.example",
            6,
            None,
            true,
        ),
        (
            "**.foo.github.io:443",
            "**.foo.github.io",
            6,
            Some(443),
            false,
        ),
        ("co.uk:443", "co.uk", 6, Some(443), false),
    ] {
        let rule = Rule::parse(text).unwrap();
        let Target::Name(found) = &rule.target else {
            panic!("{text}: {rule:?}");
        };
        assert_eq!(found.to_string(), pattern, "{text}");
        assert_eq!(rule.proto, Protocol::One(proto), "{text}");
        assert_eq!(
            rule.ports.map(|p| (p.first, p.last)),
            ports.map(|p| (p, p)),
            "{text}"
        );
        assert_eq!(rule.private_ok, private_ok, "{text}");
    }
    let set = RuleSet::parse("GITHUB.com:443 github.com:443 example.com").unwrap();
    assert_eq!(set.rules().len(), 2);
    assert!(
        set.warnings()[0].contains("says the same"),
        "{:?}",
        set.warnings()
    );
    assert!(
        set.warnings()[1].contains("all ports"),
        "{:?}",
        set.warnings()
    );
}

#[test]
fn what_is_no_name_is_said_with_the_reason() {
    refused("contaners", &["did you mean the keyword containers?"]);
    refused("localhost", &["has one label only", "write the whole name"]);
    refused("*.com:443", &["everything below a top-level domain"]);
    refused("**.uk", &["everything below a top-level domain"]);
    refused("*.co.uk:443", &["co.uk is a public suffix", "column 1"]);
    refused("**.com.au", &["com.au is a public suffix"]);
    refused(
        "tcp:a*.example.com",
        &["whole labels, and only in front", "column 5"],
    );
    refused("tcp:*.*.example.com", &["whole labels, and only in front"]);
    refused("a..example.com", &["empty label"]);
    refused("!github.com", &["a name cannot be denied"]);
    refused("any+private-ok", &["is for names only"]);
    refused("192.0.2.1:443+private-ok", &["is for names only"]);
    refused(
        "github.com+private:443",
        &["behind a name only +private-ok"],
    );
    refused("github.com/path", &["a rule has no path"]);
    refused("github.com:443:80", &["no protocol"]);
    refused(&format!("{}.example.com", "a".repeat(64)), &["63 bytes"]);
}

#[test]
fn a_list_is_separated_by_spaces_and_semicolons() {
    let set = RuleSet::parse(" any:443; udp:10.0.0.1:53  host;").unwrap();
    assert_eq!(set.texts(), ["any:443", "udp:10.0.0.1:53", "host"]);
    assert!(set.warnings().is_empty());
    assert!(RuleSet::parse("").unwrap().rules().is_empty());
    let again = RuleSet::from_texts(&set.texts()).unwrap();
    assert_eq!(again, set);
}

#[test]
fn duplicates_are_dropped_with_a_warning() {
    let set = RuleSet::parse("any:443 tcp:any:443 6:any:443").unwrap();
    assert_eq!(set.texts(), ["any:443"]);
    assert_eq!(set.warnings().len(), 2, "{:?}", set.warnings());
}

#[test]
fn all_faults_of_a_list_are_told_up_to_a_number() {
    let e = RuleSet::parse("any:0 ok..example x://y")
        .unwrap_err()
        .to_string();
    assert!(e.starts_with("3 faults:"), "{e}");
    let e = RuleSet::parse(&"any:0 ".repeat(50))
        .unwrap_err()
        .to_string();
    assert!(e.contains("and 30 more rules are wrong"), "{e}");
}
