use super::*;

fn policy(egress: &str) -> Policy {
    Policy {
        egress: RuleSet::parse(egress).unwrap(),
        places: Places {
            resolvers: vec![
                "10.0.0.53".parse().unwrap(),
                "2001:db8::53".parse().unwrap(),
            ],
            pools: vec!["10.87.0.0/16".parse().unwrap()],
            networks: vec!["172.17.0.0/16".parse().unwrap()],
        },
        ..Policy::default()
    }
}

#[track_caller]
fn case(rules: &str, remote: &str, proto: u8, port: u16, scope: Scope, want: Verdict) {
    let packet = Packet {
        remote: remote.parse().unwrap(),
        proto,
        port,
        scope,
    };
    assert_eq!(
        evaluate(&policy(rules), Direction::Egress, &packet),
        want,
        "{rules}: {packet:?}"
    );
}

use Scope::{Containers, Host, LinkLocal, Metadata, Multicast, Network, Outside};
use Verdict::{Allow, Default, Deny};

#[test]
fn nothing_is_allowed_by_no_rule() {
    case("", "192.0.2.1", 6, 443, Outside, Default);
}

#[test]
fn any_and_wide_prefixes_mean_the_outside_world_only() {
    for rules in ["any:any", "any:0.0.0.0/0", "any:128.0.0.0/1 any:0.0.0.0/1"] {
        for scope in Scope::ALL {
            let verdict = evaluate(
                &policy(rules),
                Direction::Egress,
                &Packet {
                    remote: "10.9.9.9".parse().unwrap(),
                    proto: 6,
                    port: 1,
                    scope,
                },
            );
            assert_eq!(verdict.is_allow(), scope == Outside, "{rules} {scope}");
        }
    }
    case("any:[::/0]", "10.0.0.1", 6, 1, Outside, Default);
    case("any:0.0.0.0/0", "2001:db8::1", 6, 1, Outside, Default);
}

#[test]
fn a_keyword_is_its_scope_in_both_families() {
    case("any:host", "10.0.0.1", 6, 1, Host, Allow(0));
    case("any:host", "2001:db8::1", 6, 1, Host, Allow(0));
    case("any:host", "10.0.0.1", 6, 1, Outside, Default);
    case("any:containers", "10.87.0.9", 6, 1, Containers, Allow(0));
    case("any:metadata", "169.254.169.254", 6, 80, Metadata, Allow(0));
    case("any:metadata", "169.254.169.254", 6, 80, LinkLocal, Default);
    case("any:link-local", "fe80::1", 6, 80, LinkLocal, Allow(0));
    case("any:multicast", "ff02::fb", 17, 5353, Multicast, Allow(0));
}

#[test]
fn exact_prefixes_reach_special_places() {
    case("169.254.0.0/16", "169.254.1.1", 6, 80, LinkLocal, Allow(0));
    case(
        "169.254.0.0/16",
        "169.254.169.254",
        6,
        80,
        Metadata,
        Default,
    );
    case(
        "169.254.0.0/15:80 any",
        "169.254.1.1",
        6,
        80,
        LinkLocal,
        Default,
    );
    case(
        "169.254.169.254",
        "169.254.169.254",
        6,
        80,
        Metadata,
        Allow(0),
    );
    case(
        "udp:224.0.0.251:5353",
        "224.0.0.251",
        17,
        5353,
        Multicast,
        Allow(0),
    );
    case("10.87.1.0/24", "10.87.1.1", 6, 80, Containers, Allow(0));
    case("10.87.0.0/16", "10.87.1.1", 6, 80, Containers, Allow(0));
    case("10.86.0.0/15", "10.87.1.1", 6, 80, Containers, Default);
    case("172.17.0.0/16", "172.17.0.2", 6, 80, Network, Allow(0));
    case("172.16.0.0/12", "172.17.0.2", 6, 80, Network, Default);
    case("10.0.0.0/8", "10.0.0.1", 6, 80, Host, Default);
    case("10.0.0.1", "10.0.0.1", 6, 80, Host, Allow(0));
    case("10.0.0.1", "10.0.0.1", 6, 80, Network, Allow(0));
}

#[test]
fn resolver_is_its_addresses_wherever_they_live() {
    for scope in Scope::ALL {
        case("resolver", "10.0.0.53", 17, 53, scope, Allow(0));
        case("resolver", "2001:db8::53", 6, 53, scope, Allow(0));
    }
    case("resolver", "10.0.0.53", 17, 54, Outside, Default);
    case("resolver", "10.0.0.54", 17, 53, Outside, Default);
}

#[test]
fn deny_wins_and_reaches_every_scope() {
    case("any !10.0.0.0/8", "10.1.1.1", 6, 443, Outside, Deny(1));
    case("host !10.0.0.0/8", "10.1.1.1", 6, 443, Host, Deny(1));
    case("!any host", "10.1.1.1", 6, 443, Host, Deny(0));
    case("!any", "10.1.1.1", 47, 0, Multicast, Deny(0));
    case("!host any", "10.1.1.1", 6, 1, Outside, Allow(1));
    case("any !host", "10.1.1.1", 6, 1, Host, Deny(1));
    case(
        "any:any !10.0.0.1:443",
        "10.0.0.1",
        17,
        443,
        Outside,
        Deny(1),
    );
    case(
        "any:any !10.0.0.1:443",
        "10.0.0.1",
        17,
        444,
        Outside,
        Allow(0),
    );
    case(
        "any:any !10.0.0.1:443",
        "10.0.0.1",
        47,
        443,
        Outside,
        Allow(0),
    );
}

#[test]
fn icmp_is_the_familys_own() {
    case("icmp:any:8", "10.0.0.1", 1, 8, Outside, Allow(0));
    case("icmp:any:8", "10.0.0.1", 1, 0, Outside, Default);
    case("icmp:any:8", "10.0.0.1", 58, 8, Outside, Default);
    case("icmp:any:128", "2001:db8::1", 58, 128, Outside, Allow(0));
    case("icmp:any", "2001:db8::1", 1, 128, Outside, Default);
}

#[test]
fn a_trial_passes_what_no_rule_decides_but_never_into_special_places() {
    let mut policy = policy("!tcp:192.0.2.9 tcp:192.0.2.1:443");
    policy.mode = Mode::Audit;
    let judge = |remote: &str, port, scope| {
        let remote = remote.parse().unwrap();
        let packet = Packet {
            remote,
            proto: 6,
            port,
            scope,
        };
        evaluate(&policy, Direction::Egress, &packet)
    };
    assert_eq!(judge("192.0.2.1", 443, Outside), Allow(1));
    assert_eq!(judge("192.0.2.1", 80, Outside), Verdict::Audit);
    assert_eq!(judge("192.0.2.9", 443, Outside), Deny(0));
    for scope in Scope::ALL {
        let passes = matches!(scope, Outside | Containers | Network);
        assert_eq!(
            judge("2001:db8::1", 80, scope).is_allow(),
            passes,
            "{scope}"
        );
    }
}

fn under(ceiling: &str, egress: &str) -> Policy {
    Policy {
        ceiling: Some(Profile {
            egress: RuleSet::parse(ceiling).unwrap(),
            ingress: RuleSet::default(),
        }),
        ..policy(egress)
    }
}

#[test]
fn a_rule_is_within_a_ceiling_that_has_all_of_it() {
    let within = |ceiling: &str, rule: &str| {
        let policy = under(ceiling, rule);
        let ceiling = policy.ceiling.as_ref().unwrap().rules(Direction::Egress);
        is_within(ceiling, &policy.egress.rules()[0], &policy.places)
    };
    for (ceiling, rule) in [
        ("tcp:any:443", "tcp:192.0.2.7:443"),
        ("tcp:any:443", "tcp:[2001:db8::/32]:443"),
        ("any:any", "tcp:any"),
        ("any:any", "47:192.0.2.7"),
        ("tcp:192.0.2.0/24:1-1023", "tcp:192.0.2.7:80-443"),
        ("udp:any tcp:any", "udp:any:53"),
        ("resolver", "udp:10.0.0.53:53"),
        ("tcp:host:22", "tcp:host:22"),
        ("tcp:172.17.0.0/16:5432", "tcp:172.17.0.2:5432"),
        ("any:containers", "tcp:containers:80"),
        ("any:any any:10.87.0.0/16", "tcp:10.87.3.0/24:80"),
    ] {
        assert!(within(ceiling, rule), "{rule} in {ceiling}");
    }
    for (ceiling, rule) in [
        ("", "tcp:192.0.2.7:443"),
        ("tcp:any:443", "tcp:any"),
        ("tcp:any:443", "tcp:any:443-444"),
        ("tcp:any:443", "udp:any:443"),
        ("tcp:any:443", "any:any"),
        ("tcp:any:443", "tcp:host:443"),
        ("tcp:any:443 tcp:any:444", "tcp:any:443-444"),
        ("tcp:0.0.0.0/0:443", "tcp:any:443"),
        ("tcp:192.0.2.0/25:443", "tcp:192.0.2.0/24:443"),
        ("any:any", "resolver:80 any:metadata"),
        ("!any:any", "tcp:192.0.2.7:443"),
    ] {
        assert!(
            !within(ceiling, rule.split(' ').next_back().unwrap()),
            "{rule} in {ceiling}"
        );
    }
}

#[test]
fn a_ceiling_takes_the_special_places_that_it_does_not_name() {
    // An address of the outside world as far as the ceiling knows; if it turns out to be the host's
    // or a container's, the ceiling has not allowed it.
    let policy = under(
        "tcp:any:443 !tcp:192.0.2.9",
        "tcp:192.0.2.7:443 tcp:192.0.2.9:443",
    );
    let judge = |remote: &str, scope| {
        let packet = Packet {
            remote: remote.parse().unwrap(),
            proto: 6,
            port: 443,
            scope,
        };
        evaluate(&policy, Direction::Egress, &packet)
    };
    for scope in Scope::ALL {
        let wanted = if scope == Outside { Allow(0) } else { Default };
        assert_eq!(judge("192.0.2.7", scope), wanted, "{scope}");
    }
    assert_eq!(judge("192.0.2.9", Outside), Deny(3));
    assert_eq!(policy.text(Direction::Egress, 3), Some("!tcp:192.0.2.9"));
    assert_eq!(policy.text(Direction::Egress, 1), Some("tcp:192.0.2.9:443"));
    assert_eq!(policy.text(Direction::Egress, 4), None);
}

#[test]
fn a_trial_goes_no_further_than_the_ceiling() {
    let mut policy = under("tcp:any:443 tcp:host:22", "");
    policy.mode = Mode::Audit;
    let judge = |port, scope| {
        let packet = Packet {
            remote: "192.0.2.7".parse().unwrap(),
            proto: 6,
            port,
            scope,
        };
        evaluate(&policy, Direction::Egress, &packet)
    };
    assert_eq!(judge(443, Outside), Verdict::Audit);
    assert_eq!(judge(80, Outside), Default);
    assert_eq!(judge(443, Containers), Default);
    assert_eq!(judge(22, Host), Default);
}
