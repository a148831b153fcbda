use super::super::compile;
use super::*;
use crate::plan::policy::{Places, evaluate_name};
use crate::plan::rules::RuleSet;
use crate::types::domain::Domain;
use crate::types::mode::Mode;

fn policy(egress: &str) -> Policy {
    Policy {
        egress: RuleSet::parse(egress).unwrap(),
        places: Places {
            resolvers: vec!["192.0.2.53".parse().unwrap()],
            ..Places::default()
        },
        ..Policy::default()
    }
}

/// As bpf/names.h asks: the longest entry, then by how many labels it is exceeded.
fn doors(entries: &[NameEntry], name: &Domain) -> u64 {
    let key = name.key();
    let longest = entries
        .iter()
        .filter(|e| key.starts_with(&e.key))
        .max_by_key(|e| e.key.len());
    let Some(entry) = longest else {
        return 0;
    };
    match name.labels() - entry.labels {
        0 => entry.exact,
        1 => entry.one | entry.deep,
        _ => entry.deep,
    }
}

/// As bpf/names.h asks: the longest of the entries of the table of doors.
fn row(entries: &[TrieEntry], scope: Scope, proto: u8, port: u16) -> u64 {
    let mut data = [0; 16];
    data[0] = scope as u8;
    data[1] = proto;
    data[2..4].copy_from_slice(&port.to_be_bytes());
    let cut = |data: [u8; 16], bits: u8| {
        let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
        u128::from_be_bytes(data) & mask
    };
    let matching = entries.iter().filter(|e| {
        let bits = e.prefix_bits - TABLE_BITS;
        e.table == DOORS && cut(e.data, bits) == cut(data, bits)
    });
    let longest = matching.max_by_key(|e| e.prefix_bits);
    longest.map_or(0, |e| u64::from(e.id) | u64::from(e.verdict) << 32)
}

fn allows(policy: &Policy, name: &str, scope: Scope, proto: u8, port: u16) -> bool {
    let names = compile(policy).unwrap().names.unwrap_or_default();
    let entries = compile(policy).unwrap().rules;
    doors(&names, &Domain::new(name).unwrap()) & row(&entries, scope, proto, port) != 0
}

#[test]
fn a_name_opens_its_own_ports() {
    let p = policy("tcp:a.example:443 udp:a.example:1-99 tcp:b.example:80 any:c.example");
    for (name, proto, port, wanted) in [
        ("a.example", 6, 443, true),
        ("a.example", 6, 80, false),
        ("a.example", 17, 1, true),
        ("a.example", 17, 99, true),
        ("a.example", 17, 100, false),
        ("b.example", 6, 80, true),
        ("b.example", 6, 443, false),
        ("c.example", 6, 80, true),
        ("c.example", 47, 0, true),
        ("d.example", 6, 443, false),
        ("x.a.example", 6, 443, false),
    ] {
        assert_eq!(
            allows(&p, name, Scope::Outside, proto, port),
            wanted,
            "{name} {proto} {port}"
        );
        assert!(!allows(&p, name, Scope::Host, proto, port));
        assert!(!allows(&p, name, Scope::Containers, proto, port));
    }
}

#[test]
fn longer_names_carry_what_shorter_ones_say() {
    let p = policy(
        "tcp:**.example.com:1 tcp:*.example.com:2 tcp:a.example.com:3 tcp:*.a.example.com:4 \
         tcp:example.com:5 tcp:c.b.a.example.com:6",
    );
    let ports = |name: &str| -> Vec<u16> {
        let is_open = |port: &u16| allows(&p, name, Scope::Outside, 6, *port);
        (1..=6).filter(is_open).collect()
    };
    assert_eq!(ports("example.com"), [5]);
    assert_eq!(ports("z.example.com"), [1, 2]);
    assert_eq!(ports("a.example.com"), [1, 2, 3]);
    assert_eq!(ports("b.a.example.com"), [1, 4]);
    assert_eq!(ports("c.b.a.example.com"), [1, 6]);
    assert_eq!(ports("z.c.b.a.example.com"), [1]);
    assert_eq!(ports("badexample.com"), [0; 0]);
    assert_eq!(ports("com.example"), [0; 0]);
}

/// 48 is the digit 0, too.
#[test]
fn a_label_that_ends_like_another_name_inherits_nothing() {
    let long = "a".repeat(48);
    let p = policy(&format!(
        "tcp:**.{long}.example:1 tcp:x0{long}.example:2 tcp:b.x0{long}.example:3"
    ));
    let name = |head: &str| format!("{head}{long}.example");
    assert!(allows(&p, &name("b."), Scope::Outside, 6, 1));
    assert!(!allows(&p, &name("x0"), Scope::Outside, 6, 1));
    assert!(!allows(&p, &name("b.x0"), Scope::Outside, 6, 1));
    assert!(!allows(&p, &name("c0"), Scope::Outside, 6, 1));
    assert!(allows(&p, &name("b.x0"), Scope::Outside, 6, 3));
}

#[test]
fn private_addresses_have_doors_of_their_own() {
    let p = policy("tcp:a.example:443 tcp:a.example:80+private-ok");
    let names = compile(&p).unwrap().names.unwrap();
    assert_eq!(names[0].exact, 1 | 1 << 32);
    let entries = compile(&p).unwrap().rules;
    assert_eq!(row(&entries, Scope::Outside, 6, 80), 1 << 32);
    assert_eq!(row(&entries, Scope::Network, 6, 80), 1 << 32);
    assert_eq!(row(&entries, Scope::Network, 6, 443), 0);
    assert_eq!(row(&entries, Scope::Host, 6, 80), 0);
}

#[test]
fn only_names_filter_dns() {
    assert_eq!(
        compile(&policy("resolver tcp:any:443")).unwrap().names,
        None
    );
    let mut p = policy("");
    p.mode = Mode::Audit;
    let names = compile(&p).unwrap().names.unwrap();
    assert_eq!(names.len(), 1);
    assert_eq!(doors(&names, &Domain::new("a.example").unwrap()), AUDIT);
    let entries = compile(&p).unwrap().rules;
    assert!(entries.iter().any(|e| e.table == RESOLVERS));
}

#[test]
fn there_is_an_end_to_doors() {
    let rules = |n: u16| -> String {
        let all: Vec<String> = (1..=n).map(|p| format!("tcp:a.example:{p}")).collect();
        all.join(" ")
    };
    assert!(compile(&policy(&rules(32))).is_ok());
    let text = compile(&policy(&rules(33))).unwrap_err().report();
    assert!(
        text.contains("33 different protocols and ports, and 32 are the most"),
        "{text}"
    );
}

#[test]
fn a_ceiling_closes_the_names_it_does_not_have() {
    let mut p = policy("tcp:a.example.com:443 tcp:b.example.net:443");
    p.ceiling = Some(crate::config::Profile {
        egress: RuleSet::parse("tcp:**.example.com:443").unwrap(),
        ingress: RuleSet::default(),
    });
    assert!(allows(&p, "a.example.com", Scope::Outside, 6, 443));
    assert!(!allows(&p, "b.example.net", Scope::Outside, 6, 443));
}

#[test]
fn the_tables_say_what_the_rules_say() {
    const LABELS: [&str; 3] = ["a", "b", "example"];
    let mut state = 7u64;
    let mut below = |n: u64| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    };
    for round in 0..300 {
        let mut name = |least: u64| -> String {
            let count = least + below(3);
            let labels: Vec<&str> = (0..count)
                .map(|_| LABELS[usize::try_from(below(3)).unwrap()])
                .collect();
            labels.join(".") + ".test"
        };
        let rules: Vec<String> = (0..6)
            .map(|n| {
                let prefix = ["", "*.", "**."][n % 3];
                format!("tcp:{prefix}{}:{}-{}", name(1), 1 + n, 3 + n)
            })
            .collect();
        let p = policy(&rules.join(" "));
        for _ in 0..40 {
            let text = name(0).replace("..", ".");
            let domain = Domain::new(text.trim_start_matches('.'));
            let Ok(domain) = domain else { continue };
            for port in 0..10 {
                let wanted = evaluate_name(&p, &domain, 6, port).is_some();
                let got = allows(&p, domain.as_str(), Scope::Outside, 6, port);
                assert_eq!(got, wanted, "round {round}: {domain} {port} by {rules:?}");
            }
        }
    }
}

#[test]
fn ten_thousand_names_compile_at_once() {
    let texts: Vec<String> = (0..10_000)
        .map(|n| format!("tcp:host{n}.zone{}.example.com:443", n % 100))
        .collect();
    let p = Policy {
        egress: RuleSet::from_texts(&texts).unwrap(),
        ..policy("")
    };
    assert_eq!(compile(&p).unwrap().names.unwrap().len(), 10_000);
    assert!(compile(&p).unwrap().rules.len() < 40);
}
