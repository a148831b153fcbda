//! Random rules and random packets through the real programs: verdict and drop reason must be
//! those of `common/oracle.rs`, which walks the text of the rules. NK_SEED repeats a run,
//! NK_PACKETS makes it longer.

mod common;

mod root {
    #![allow(clippy::cast_possible_truncation, reason = "small numbers")]

    use std::collections::HashMap;

    use oci_netkit::types::mode::Mode;

    use crate::common::datapath::{
        ADDRESSES, Datapath, Hook, MARK_JUDGED, Outcome, UP0_MAC, UP1_MAC,
    };
    use crate::common::oracle::{Defect, Oracle, Sample, policy};
    use crate::common::packet::{ACK, ETH, FIN, Packet, RST, SYN, addr, icmp_error, ip};
    use crate::common::random::Random;

    const REMOTES: [&str; 38] = [
        "192.0.2.7",
        "192.0.2.7",
        "192.0.2.9",
        "192.0.2.66",
        "198.51.100.9",
        "203.0.113.9",
        "203.0.113.80",
        "8.8.8.8",
        "192.0.2.1",
        "198.51.100.1",
        "172.17.0.1",
        "172.17.0.2",
        "10.87.0.2",
        "10.87.0.3",
        "10.87.9.9",
        "10.66.0.1",
        "10.67.0.1",
        "10.68.0.1",
        "169.254.169.254",
        "100.100.100.200",
        "169.254.1.1",
        "224.0.0.251",
        "127.0.0.1",
        "255.255.255.255",
        "0.0.0.0",
        "2001:db8:1::7",
        "2001:db8:1::9",
        "2001:db8:113::9",
        "2001:db8:9::9",
        "2001:db8:1::1",
        "2001:db8:17::1",
        "2001:db8:17::2",
        "2001:db8:87::2",
        "2001:db8:87::3",
        "2001:db8:66::1",
        "fd00:ec2::254",
        "ff02::fb",
        "::1",
    ];
    const PORTS: [u16; 5] = [53, 80, 443, 4000, 8];

    fn random_rules(r: &mut Random) -> String {
        const TARGETS: [&str; 26] = [
            "any",
            "any",
            "host",
            "containers",
            "resolver",
            "metadata",
            "link-local",
            "multicast",
            "192.0.2.7",
            "192.0.2.0/24",
            "192.0.2.0/28",
            "203.0.113.0/24",
            "203.0.113.0/26",
            "198.51.100.9",
            "172.17.0.2",
            "172.16.0.0/12",
            "172.17.0.0/24",
            "10.87.0.0/24",
            "10.0.0.0/8",
            "0.0.0.0/0",
            "169.254.0.0/16",
            "[::/0]",
            "[2001:db8::/32]",
            "[2001:db8:1::7]",
            "[2001:db8:87::/64]",
            "[ff02::fb]",
        ];
        let mut rules = Vec::new();
        for _ in 0..r.below(9) {
            let deny = if r.one_in(5) { "!" } else { "" };
            let proto = *r.pick(&[
                "", "tcp:", "tcp:", "udp:", "icmp:", "sctp:", "any:", "any:", "47:",
            ]);
            let target = *r.pick(&TARGETS);
            let ports = match proto {
                "any:" | "47:" => String::new(),
                "icmp:" => r
                    .pick(&["", ":8", ":128", ":0", ":13", ":0-20"])
                    .to_string(),
                "" if target == "resolver" => String::new(),
                _ => match r.below(4) {
                    0 => String::new(),
                    1 => format!(":{}-{}", r.pick(&PORTS[..2]), r.pick(&PORTS[2..4])),
                    _ => format!(":{}", r.pick(&PORTS)),
                },
            };
            rules.push(format!("{deny}{proto}{target}{ports}"));
        }
        rules.join(" ")
    }

    /// A sound packet between two addresses of one family.
    fn random_packet(r: &mut Random, source: &str, destination: &str) -> Packet {
        let (source, destination) = (addr(source), addr(destination));
        let is_v4 = source.is_ipv4();
        let (from, to) = (r.pick(&PORTS).to_be_bytes(), r.pick(&PORTS).to_be_bytes());
        let ports = [from, to].concat();
        let proto = *r.pick(&[6, 6, 6, 17, 17, 17, 1, 1, 132, 47]);
        let proto = if proto == 1 && !is_v4 { 58 } else { proto };
        let transport = match proto {
            6 => {
                let flags = *r.pick(&[SYN, SYN, SYN, ACK, SYN | ACK, FIN | ACK, RST, ACK]);
                [ports, vec![0; 8], vec![5 << 4, flags, 0, 0, 0, 0, 0, 0]].concat()
            }
            17 => [ports, vec![0, 8, 0, 0]].concat(),
            132 => [ports, vec![0; 8]].concat(),
            47 => vec![0; 8],
            _ => {
                let kinds: &[u8] = if is_v4 {
                    &[8, 8, 8, 0, 13, 5, 9]
                } else {
                    &[128, 128, 129, 139, 135, 143, 200]
                };
                vec![*r.pick(kinds), 0, 0, 0, 0, 7 + r.below(2) as u8, 0, 0]
            }
        };
        let packet = ip(source, destination, proto, transport);
        match r.below(24) {
            0 => grow(packet, 1380 + r.below(40)),
            1 => grow(packet, 1480 + r.below(40)),
            _ => packet,
        }
    }

    /// To this L3 length.
    fn grow(packet: Packet, bytes: usize) -> Packet {
        let header = if packet.source.is_ipv4() { 20 } else { 40 };
        let have = header + packet.transport.len();
        packet.payload(bytes.saturating_sub(have))
    }

    fn same_family<'a>(r: &mut Random, list: &[&'a str], like: &str) -> &'a str {
        loop {
            let one = *r.pick(list);
            if one.contains(':') == like.contains(':') {
                return one;
            }
        }
    }

    fn defect(r: &mut Random, hook: Hook, packet: Packet) -> (Packet, Option<Defect>, u32) {
        if !r.one_in(12) {
            return (packet, None, 0);
        }
        let is_v4 = packet.source.is_ipv4();
        let transport = ETH + if is_v4 { 20 } else { 40 };
        match r.below(10) {
            0 => (
                packet.ethertype(*r.pick(&[0x8100, 0x88a8])),
                Some(Defect::Tagged),
                0,
            ),
            1 => (packet.ethertype(0x0806), Some(Defect::Arp), 0),
            2 => (packet.ethertype(0x88cc), Some(Defect::Ethertype), 0),
            3 if is_v4 => (packet.with(ETH, 0x46), Some(Defect::Options), 0),
            4 if is_v4 => (packet.with(ETH + 6, 0x20), Some(Defect::Fragment), 0),
            4 => (packet.with(ETH + 6, 44), Some(Defect::Fragment), 0),
            5 if !is_v4 => {
                let next = *r.pick(&[0, 43, 51, 59, 60, 135, 139, 140]);
                (packet.with(ETH + 6, next), Some(Defect::Extension), 0)
            }
            6 => {
                let field = if is_v4 { ETH + 2 } else { ETH + 4 };
                (packet.with(field, 0x7f), Some(Defect::Length), 0)
            }
            7 if packet.proto == 6 => (
                packet.with(transport + 12, 0x40),
                Some(Defect::DataOffset),
                0,
            ),
            8 => (packet.trailer(70), Some(Defect::Trailer), 0),
            9 if hook == Hook::FromContainer => (packet, Some(Defect::Segments), 40),
            _ => (packet, None, 0),
        }
    }

    /// A packet out of nothing, or one that has to do with an earlier one.
    fn random_sample(r: &mut Random, history: &[(usize, Packet)]) -> (Sample, u32) {
        let hook = *r.pick(&[
            Hook::FromContainer,
            Hook::FromContainer,
            Hook::FromContainer,
            Hook::ToContainer,
            Hook::FromWire,
            Hook::FromWire,
        ]);
        let mut endpoint = r.below(2);
        let mut judged = r.one_in(2);
        let own = *r.pick(&ADDRESSES[endpoint]);
        let remote = same_family(r, &REMOTES, own);
        let (source, destination) = match hook {
            Hook::FromContainer if r.one_in(30) => (remote, same_family(r, &REMOTES, own)),
            Hook::FromContainer => (own, remote),
            _ if r.one_in(30) => (remote, same_family(r, &REMOTES, own)),
            _ => (remote, own),
        };
        let mut packet = random_packet(r, source, destination);
        let mut quoted = None;
        if !history.is_empty() && r.one_in(2) {
            let (id, earlier) = r.pick(history);
            endpoint = *id;
            let outwards = ADDRESSES[endpoint]
                .iter()
                .any(|a| addr(a) == earlier.source);
            let wanted = outwards == (hook == Hook::FromContainer);
            packet = if wanted {
                earlier.clone()
            } else {
                earlier.reply()
            };
            if packet.proto == 6 && r.one_in(2) {
                packet = packet.flags(*r.pick(&[SYN, ACK, ACK, SYN | ACK, FIN | ACK, RST]));
            }
            judged = r.one_in(3) != ADDRESSES.iter().flatten().any(|a| addr(a) == packet.source);
            if r.one_in(6) {
                let about = if r.one_in(8) {
                    packet.clone()
                } else {
                    packet.reply()
                };
                let is_v4 = packet.source.is_ipv4();
                let kind = if is_v4 {
                    *r.pick(&[3, 11, 12])
                } else {
                    *r.pick(&[1, 2, 3, 4])
                };
                let (mut from, mut to) =
                    (packet.source.to_string(), packet.destination.to_string());
                if r.one_in(4) {
                    let other = same_family(r, &REMOTES, &from).to_owned();
                    if hook == Hook::FromContainer {
                        to = other
                    } else {
                        from = other
                    }
                }
                packet = icmp_error(&from, &to, kind, &about);
                quoted = Some(about);
            }
        }
        let (packet, defect, gso) = defect(r, hook, packet);
        let uplink = r.below(2);
        (
            Sample {
                hook,
                endpoint,
                uplink,
                judged,
                packet,
                quoted,
                defect,
            },
            gso,
        )
    }

    fn run(d: &mut Datapath, s: &Sample, gso: u32) -> Outcome {
        let (ifindex, mac, mark) = match s.hook {
            Hook::FromContainer => (d.ifindex.primary[s.endpoint], [0; 6], 0),
            Hook::ToContainer => (
                d.ifindex.peer[s.endpoint],
                [0; 6],
                if s.judged { MARK_JUDGED } else { 0 },
            ),
            _ => (d.ifindex.up[s.uplink], [UP0_MAC, UP1_MAC][s.uplink], 0),
        };
        d.run(
            s.hook,
            ifindex,
            &s.packet.clone().to_mac(mac).bytes(),
            mark,
            gso,
        )
        .outcome
    }

    /// What must have happened at least once, or the packets are not random enough.
    fn check_coverage(seen: &HashMap<(&'static str, Outcome), usize>) {
        let egress = "malformed vlan arp ethertype ip-options extension-header fragment \
                      spoofed-source segmentation oversize martian icmp-type icmp-unrelated \
                      deny-rule no-rule host containers other-network metadata link-local \
                      multicast protocol no-route";
        let host = "malformed vlan arp ethertype ip-options extension-header fragment martian \
                    icmp-type icmp-unrelated deny-rule host containers metadata link-local \
                    not-syn no-endpoint unjudged";
        let wire = "malformed ip-options extension-header fragment spoofed-source martian \
                    icmp-type icmp-unrelated deny-rule no-rule metadata link-local protocol \
                    not-syn no-route";
        let mut missing = Vec::new();
        for (hook, reasons, good) in [
            (
                "FromContainer",
                egress,
                &[Outcome::Pass, Outcome::Redirect][..],
            ),
            ("ToContainer", host, &[Outcome::Pass]),
            ("FromWire", wire, &[Outcome::Next, Outcome::Redirect]),
        ] {
            let drops = reasons.split_whitespace().map(Outcome::Drop);
            missing.extend(
                drops
                    .chain(good.iter().copied())
                    .map(|o| (hook, o))
                    .filter(|k| !seen.contains_key(k)),
            );
        }
        assert!(missing.is_empty(), "never seen: {missing:?}");
    }

    #[test]
    #[ignore = "root"]
    fn the_programs_agree_with_a_walk_over_the_rules() {
        let mut r = Random::from_env();
        let packets: usize = std::env::var("NK_PACKETS")
            .map_or(120_000, |n| n.parse().expect("NK_PACKETS is a number"));
        let mut d = Datapath::new();
        let mut oracle = Oracle::new();
        let mut history: Vec<(usize, Packet)> = Vec::new();
        let mut seen: HashMap<(&'static str, Outcome), usize> = HashMap::new();
        let mut rules = [const { (String::new(), String::new()) }; 2];
        for n in 0..packets {
            if n % 1000 == 0 {
                // Before a timeout could end any: the oracle has no clock.
                (0..4).for_each(|slot| d.new_flow_table(slot / 2, slot % 2, 1 << 14));
                oracle.forget_flows();
                history.clear();
            }
            if n % 250 == 0 {
                let id = r.below(2);
                rules[id] = (random_rules(&mut r), random_rules(&mut r));
                let mut policy = policy(&rules[id].0, &rules[id].1);
                policy.mode = if r.one_in(4) {
                    Mode::Audit
                } else {
                    Mode::Enforce
                };
                d.policy(id as u32, &policy);
                oracle.set_policy(id, policy);
            }
            let (sample, gso) = random_sample(&mut r, &history);
            let wanted = oracle.expect(&sample);
            let got = run(&mut d, &sample, gso);
            assert_eq!(got, wanted, "packet {n}: {sample:#?}\nrules: {rules:#?}");
            let hook = match sample.hook {
                Hook::FromContainer => "FromContainer",
                Hook::ToContainer => "ToContainer",
                _ => "FromWire",
            };
            *seen.entry((hook, got)).or_default() += 1;
            let live = matches!(got, Outcome::Pass | Outcome::Redirect);
            if live && sample.defect.is_none() && sample.quoted.is_none() {
                let id = if sample.hook == Hook::FromWire {
                    let to = sample.packet.destination;
                    usize::from(ADDRESSES[1].iter().any(|a| addr(a) == to))
                } else {
                    sample.endpoint
                };
                history.push((id, sample.packet));
            }
        }
        let mut lines: Vec<_> = seen.iter().collect();
        lines.sort();
        for ((hook, outcome), count) in lines {
            println!("{count:8} {hook:14} {outcome:?}");
        }
        check_coverage(&seen);
    }
}
