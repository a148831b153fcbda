use std::net::IpAddr;

use super::super::policy::{Packet, Places, Verdict, evaluate};
use super::super::rules::{Rule, RuleSet};
use super::*;
use crate::config::Profile;
use crate::types::mode::Mode;
use crate::types::scope::Scope;

type Level = HashMap<(u32, [u8; 16]), TrieEntry>;

/// Longest-prefix match as the kernel does it: one map for each length, longest first.
struct Tries {
    by_bits: Vec<(u8, Level)>,
}

impl Tries {
    fn new(entries: &[TrieEntry]) -> Self {
        let mut bits: Vec<u8> = entries.iter().map(|e| e.prefix_bits).collect();
        bits.sort_unstable();
        bits.dedup();
        let by_bits = bits
            .into_iter()
            .rev()
            .map(|b| (b, HashMap::new()))
            .collect();
        let mut tries = Self { by_bits };
        for entry in entries {
            let level = tries
                .by_bits
                .iter_mut()
                .find(|(b, _)| *b == entry.prefix_bits)
                .unwrap();
            let data = cut(entry.data, entry.prefix_bits);
            assert_eq!(data, entry.data, "bits behind the prefix: {entry:?}");
            let old = level.1.insert((entry.table, data), *entry);
            assert!(old.is_none(), "twice: {entry:?}");
        }
        tries
    }

    fn find(&self, table: u32, data: [u8; 16], most: u8) -> Option<&TrieEntry> {
        self.by_bits
            .iter()
            .filter(|(bits, _)| *bits <= most)
            .find_map(|(bits, map)| map.get(&(table, cut(data, *bits))))
    }

    fn judge(&self, direction: Direction, packet: &Packet) -> Verdict {
        let class = self.find(direction as u32, mapped(packet.remote), 160);
        let Some(class) = class.filter(|c| c.id != 0) else {
            return Verdict::Default;
        };
        let mut data = [0; 16];
        data[0] = packet.scope as u8;
        data[1] = packet.proto;
        data[2..4].copy_from_slice(&packet.port.to_be_bytes());
        match self.find(class.id, data, 64) {
            Some(e) if e.verdict == 1 => Verdict::Allow(e.id as usize),
            Some(e) if e.verdict == 2 => Verdict::Deny(e.id as usize),
            Some(e) if e.verdict == 3 && e.id == 0 => Verdict::Audit,
            Some(e) => panic!("no verdict: {e:?}"),
            None => Verdict::Default,
        }
    }
}

fn cut(data: [u8; 16], prefix_bits: u8) -> [u8; 16] {
    let keep = u32::from(prefix_bits - 32);
    let mask = u128::MAX.checked_shl(128 - keep).unwrap_or(0);
    (u128::from_be_bytes(data) & mask).to_be_bytes()
}

/// xorshift64*; the seed is in every failure.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }

    fn pick<'a, T: ?Sized>(&mut self, list: &[&'a T]) -> &'a T {
        let n = self.below(list.len() as u64);
        list[usize::try_from(n).unwrap()]
    }
}

const ADDRESSES: [&str; 16] = [
    "10.0.0.1",
    "10.0.0.2",
    "10.0.1.1",
    "10.1.0.1",
    "10.87.0.5",
    "172.17.0.2",
    "169.254.169.254",
    "224.0.0.251",
    "192.0.2.7",
    "0.0.0.0",
    "255.255.255.255",
    "2001:db8::1",
    "2001:db8:1::1",
    "fe80::1",
    "ff02::fb",
    "::1",
];

fn random_rule(r: &mut Random) -> String {
    let deny = r.pick(&["", "", "", "!"]);
    let proto = r.pick(&[
        "", "tcp:", "udp:", "icmp:", "any:", "sctp:", "47:", "6:", "58:", "1:",
    ]);
    let target = if r.below(3) == 0 {
        r.pick(&[
            "any",
            "host",
            "containers",
            "resolver",
            "metadata",
            "link-local",
            "multicast",
        ])
        .to_owned()
    } else {
        let addr: IpAddr = r.pick(&ADDRESSES).parse().unwrap();
        let max = if addr.is_ipv4() { 32 } else { 128 };
        let len = u8::try_from(match r.below(4) {
            0 => max,
            1 => 8 * r.below(max / 8 + 1),
            _ => r.below(max + 1),
        });
        let net = IpNet::new(addr, len.unwrap()).unwrap().trunc();
        match (net, r.below(2)) {
            (IpNet::V4(_), 0) => net.to_string(),
            (IpNet::V4(n), _) if n.prefix_len() == 32 => n.addr().to_string(),
            (IpNet::V4(_), _) => net.to_string(),
            (IpNet::V6(_), _) => format!("[{net}]"),
        }
    };
    let most = if matches!(proto, "icmp:" | "58:" | "1:") {
        255
    } else {
        65535
    };
    let ports = match r.below(4) {
        _ if matches!(proto, "any:" | "47:") => String::new(),
        0 => String::new(),
        1 => format!(":{}", r.pick(&[&8u16, &53, &80, &128, &255])),
        2 => format!(":{}", 1 + r.below(most)),
        _ => {
            let first = 1 + r.below(most);
            format!(":{first}-{}", first + r.below(most - first + 1))
        }
    };
    format!("{deny}{proto}{target}{ports}")
}

fn random_packet(r: &mut Random, rules: &[Rule]) -> Packet {
    let remote = r.pick(&ADDRESSES).parse().unwrap();
    let mut ports = vec![0, 1, 8, 53, 80, 128, 255, 65535];
    for p in rules.iter().filter_map(|r| r.ports) {
        ports.extend([p.first, p.last, p.first - 1, p.last.wrapping_add(1)]);
    }
    let ports: Vec<&u16> = ports.iter().collect();
    Packet {
        remote,
        proto: *r.pick(&[&0, &1, &6, &17, &47, &58, &132, &255]),
        port: *r.pick(&ports),
        scope: *r.pick(&Scope::ALL.each_ref()),
    }
}

fn places() -> Places {
    Places {
        resolvers: vec!["10.0.0.2".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        pools: vec!["10.87.0.0/16".parse().unwrap()],
        networks: vec!["172.17.0.0/16".parse().unwrap()],
    }
}

#[test]
fn the_tables_say_what_the_rules_say() {
    for seed in 1..=800u64 {
        let mut r = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut policy = Policy {
            places: places(),
            mode: if seed % 3 == 0 {
                Mode::Audit
            } else {
                Mode::Enforce
            },
            ..Policy::default()
        };
        let mut random_set = |most| {
            let n = r.below(most);
            let texts: Vec<String> = (0..n).map(|_| random_rule(&mut r)).collect();
            RuleSet::from_texts(&texts).unwrap()
        };
        let most = if seed % 10 == 0 { 60 } else { 8 };
        policy.egress = random_set(most);
        policy.ingress = random_set(most);
        if seed % 4 == 0 {
            policy.ceiling = Some(Profile {
                egress: random_set(8),
                ingress: random_set(8),
            });
        }
        let tries = Tries::new(&compile(&policy).unwrap().rules);
        for _ in 0..300 {
            let direction = Direction::ALL[usize::try_from(r.below(2)).unwrap()];
            let rules = policy.rules(direction);
            let packet = random_packet(&mut r, rules);
            let want = evaluate(&policy, direction, &packet);
            let got = tries.judge(direction, &packet);
            let same = std::mem::discriminant(&want) == std::mem::discriminant(&got);
            let texts: Vec<&str> = rules.iter().map(|r| r.text.as_str()).collect();
            assert!(
                same,
                "seed {seed} {direction} {packet:?}: want {want:?}, got {got:?}: {texts:?}"
            );
            if let (Some(want), Some(got)) = (want.rule(), got.rule()) {
                assert!(
                    got <= want,
                    "seed {seed} {packet:?}: rule {got} behind {want}: {texts:?}"
                );
                let said = |rule| policy.text(direction, rule).map(|t| t.starts_with('!'));
                assert_eq!(said(got), said(want));
            }
        }
    }
}

fn policy(egress: &str) -> Policy {
    let egress = RuleSet::parse(egress).unwrap();
    Policy {
        egress,
        places: places(),
        ..Policy::default()
    }
}

fn packet(remote: &str, port: u16) -> Packet {
    Packet {
        remote: remote.parse().unwrap(),
        proto: 6,
        port,
        scope: Scope::Outside,
    }
}

#[test]
fn a_longer_prefix_carries_the_rules_of_the_shorter() {
    let tries = Tries::new(
        &compile(&policy("10.0.0.0/8:443 10.1.0.0/16:22"))
            .unwrap()
            .rules,
    );
    let judge = |p| tries.judge(Direction::Egress, &p);
    assert_eq!(judge(packet("10.1.2.3", 443)), Verdict::Allow(0));
    assert_eq!(judge(packet("10.1.2.3", 22)), Verdict::Allow(1));
    assert_eq!(judge(packet("10.2.2.3", 22)), Verdict::Default);
}

#[test]
fn all_of_ipv6_does_not_leak_into_ipv4() {
    let entries = compile(&policy("[::/0]")).unwrap().rules;
    let bar = entries
        .iter()
        .find(|e| e.table == 0 && e.prefix_bits == 32 + 96)
        .unwrap();
    assert_eq!((bar.id, &bar.data[10..12]), (0, &[0xff, 0xff][..]));
    let tries = Tries::new(&entries);
    assert_eq!(
        tries.judge(Direction::Egress, &packet("10.0.0.1", 1)),
        Verdict::Default
    );
    assert_eq!(
        tries.judge(Direction::Egress, &packet("2001:db8::9", 1)),
        Verdict::Allow(0)
    );
    let without = compile(&policy("[2001:db8::/32]")).unwrap().rules;
    assert!(without.iter().all(|e| e.prefix_bits != 32 + 96));
}

#[test]
fn addresses_under_the_same_rules_share_a_class() {
    let texts: Vec<String> = (0..200).map(|i| format!("10.0.{i}.0/24:443")).collect();
    let entries = compile(&policy(&texts.join(" "))).unwrap().rules;
    // 200 addresses; one class with one port in one scope.
    assert_eq!(entries.len(), 201);
}

#[test]
fn what_adds_nothing_to_its_parent_has_no_entry() {
    let entries = compile(&policy("10.0.0.0/8:443 10.1.0.0/16:443"))
        .unwrap()
        .rules;
    assert_eq!(entries.iter().filter(|e| e.table == 0).count(), 1);
}

#[test]
fn no_rules_are_no_entries() {
    assert!(compile(&policy("")).unwrap().rules.is_empty());
}

#[test]
fn a_range_of_ports_is_few_entries() {
    let entries = compile(&policy("any:1-65535")).unwrap().rules;
    let ports = entries.iter().filter(|e| e.table >= FIRST_CLASS).count();
    assert_eq!(ports, 16, "{entries:?}");
}

#[test]
fn a_hundred_thousand_rules_are_not_many_more_entries() {
    let mut r = Random(7);
    let mut texts = Vec::new();
    for i in 0..100_000u64 {
        let (a, b, c) = (1 + i / 65536, i / 256 % 256, i % 256);
        let port = [443, 80, 22, 8080, 5432][usize::try_from(r.below(5)).unwrap()];
        let deny = if r.below(50) == 0 { "!" } else { "" };
        texts.push(match r.below(3) {
            0 => format!("{deny}{a}.{b}.{c}.0/24:{port}"),
            1 => format!("{deny}{a}.{b}.{c}.{}:{port}", r.below(256)),
            _ => format!("{deny}[2001:db8:{a:x}:{:x}::/64]:{port}", i % 65536),
        });
    }
    texts.push("10.0.0.0/8".into());
    texts.push("any:443".into());
    let policy = Policy {
        egress: RuleSet::from_texts(&texts).unwrap(),
        places: places(),
        ..Policy::default()
    };
    let entries = compile(&policy).unwrap().rules;
    assert!(entries.len() < 120_000, "{}", entries.len());
}

#[test]
fn rules_that_multiply_are_refused_not_suffered() {
    let mut texts: Vec<String> = (1..=3000).map(|p| format!("any:{}", p * 2)).collect();
    texts.extend((1..=3000).map(|i| format!("10.{}.{}.0/24:{}", i / 256, i % 256, 10_001 + i * 2)));
    let policy = policy(&texts.join(" "));
    let text = compile(&policy).unwrap_err().report();
    assert!(text.contains("more than 1048576 table entries"), "{text}");
}
