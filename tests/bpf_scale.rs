//! What long lists cost, 100,000 prefixes and 10,000 names in one container's rules, and what a
//! thousand containers. Counts are asserted; times only printed, as tables, by
//!
//! ```text
//! cargo test --release --test bpf_scale -- --ignored --nocapture
//! ```

mod common;

#[path = "common/guest.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "shared with other tests"
)]
mod guest;

mod root {
    use std::collections::HashMap;
    use std::fmt::Write as _;
    use std::fs;
    use std::os::fd::{AsFd, AsRawFd};
    use std::time::{Duration, Instant};

    use libbpf_rs::MapHandle;
    use libbpf_rs::query::MapInfoIter;
    use oci_netkit::config::{Config, Limits};
    use oci_netkit::kernel::bpf::load;
    use oci_netkit::kernel::bpf::maps::Maps;
    use oci_netkit::kernel::bpffs::Pins;
    use oci_netkit::plan::compile::compile;
    use oci_netkit::plan::policy::Policy;
    use oci_netkit::plan::step::MapSpec;
    use oci_netkit::types::id::EndpointId;

    use crate::common::datapath::{Datapath, Hook, Outcome, UP0_MAC};
    use crate::common::dns::datagram;
    use crate::common::dns_message::{A, query};
    use crate::common::oracle;
    use crate::common::packet::{Packet, tcp};
    use crate::common::random::Random;
    use crate::guest::{Host, map_spec};

    /// Flows and queries of which the median is taken.
    const SAMPLES: usize = 500;
    /// Runs of one packet of a flow that is known.
    const REPEAT: u32 = 100_000;

    /// So many prefixes of both families, of several lengths and ports, a few denied.
    fn prefixes(count: u64) -> Vec<String> {
        let mut r = Random::new(7);
        let rule = |i: u64| {
            let (a, b, c) = (1 + i / 65536, i / 256 % 256, i % 256);
            let port = [443, 80, 22, 8080, 5432][r.below(5)];
            let deny = if r.below(50) == 0 { "!" } else { "" };
            match r.below(3) {
                0 => format!("{deny}{a}.{b}.{c}.0/24:{port}"),
                1 => format!("{deny}{a}.{b}.{c}.{}:{port}", r.below(256)),
                _ => format!("{deny}[2001:db8:{a:x}:{:x}::/64]:{port}", i % 65536),
            }
        };
        (0..count).map(rule).collect()
    }

    fn names(count: u32) -> Vec<String> {
        (0..count).map(|n| format!("tcp:{}:443", name(n))).collect()
    }

    fn name(n: u32) -> String {
        format!("host{n}.zone{}.example.com", n % 100)
    }

    /// What the last rule of every list allows.
    const EVERYWHERE: &str = "192.0.0.0/8:5000";

    struct Row {
        label: &'static str,
        texts: Vec<String>,
        /// Remote ends that its rules allow, for one packet each.
        remotes: Vec<String>,
        /// One of its names.
        name: Option<String>,
    }

    impl Row {
        fn new(label: &'static str, mut texts: Vec<String>, name: Option<String>) -> Self {
            texts.push(EVERYWHERE.to_owned());
            let mut r = Random::new(11);
            let is_plain = |t: &&String| t.starts_with(|c: char| c.is_ascii_digit());
            let plain: Vec<&String> = texts.iter().filter(is_plain).collect();
            let remote = |_| {
                let (net, port) = plain[r.below(plain.len())]
                    .rsplit_once(':')
                    .expect("a port");
                format!("{}:{port}", net.split('/').next().expect("an address"))
            };
            let remotes = (0..=SAMPLES).map(remote).collect();
            Self {
                label,
                texts,
                remotes,
                name,
            }
        }

        /// As the administrator writes it.
        fn config(&self) -> String {
            let texts: Vec<String> = self.texts.iter().map(|t| format!("  \"{t}\",\n")).collect();
            format!("[profile.default]\negress = [\n{}]\n", texts.concat())
        }
    }

    fn rows() -> [Row; 6] {
        [
            Row::new("1 prefix", Vec::new(), None),
            Row::new("1,000 prefixes", prefixes(999), None),
            Row::new("100,000 prefixes", prefixes(99_999), None),
            Row::new("1 name", names(1), Some(name(0))),
            Row::new("1,000 names", names(1000), Some(name(512))),
            Row::new("10,000 names", names(10_000), Some(name(5120))),
        ]
    }

    fn policy(config: &str) -> Policy {
        let mut config = Config::parse(config).expect("a config");
        let profile = config.profiles.remove("default").expect("the profile");
        Policy {
            egress: profile.egress,
            ..oracle::policy("", "")
        }
    }

    fn median(mut samples: Vec<Duration>) -> Duration {
        samples.sort_unstable();
        samples[samples.len() / 2]
    }

    /// The container's program by the kernel's own clock, the mean of so many runs.
    fn redirected(d: &mut Datapath, packet: &Packet, repeat: u32) -> Duration {
        sent(d, packet, repeat, REDIRECT)
    }

    fn sent(d: &mut Datapath, packet: &Packet, repeat: u32, verdict: i32) -> Duration {
        let primary = d.ifindex.primary[0];
        let ran = d.run_only(Hook::FromContainer, primary, &packet.bytes(), repeat);
        assert_eq!(ran.verdict, verdict);
        ran.duration
    }

    /// TC_ACT_*, include/uapi/linux/pkt_cls.h.
    const SHOT: i32 = 2;
    const REDIRECT: i32 = 7;

    /// Highest resident memory of this process since the last call, in bytes (proc_pid_status(5)).
    fn highest() -> u64 {
        let status = fs::read_to_string("/proc/self/status").expect("own status");
        let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        let kib = line.and_then(|l| l.trim().strip_suffix(" kB"));
        fs::write("/proc/self/clear_refs", "5").expect("start anew");
        1024 * kib.and_then(|n| n.parse::<u64>().ok()).expect("a number")
    }

    /// Bytes of each map there is, by its id, as the kernel counts them (proc_pid_fdinfo(5)).
    fn memory() -> HashMap<u32, u64> {
        let maps = MapInfoIter::default();
        let bytes = maps.filter_map(|info| {
            // It may be gone by now.
            let map = MapHandle::from_map_id(info.id).ok()?;
            let fd = map.as_fd().as_raw_fd();
            let text = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
            let line = text.lines().find_map(|l| l.strip_prefix("memlock:"))?;
            Some((info.id, line.trim().parse().ok()?))
        });
        bytes.collect()
    }

    /// Times and sizes of the product's own way from the config to the maps.
    struct Built {
        compile: Duration,
        process: u64,
        entries: usize,
        write: Duration,
        bytes: u64,
    }

    fn build(maps: &Maps, row: &Row, id: u32) -> Built {
        let text = row.config();
        // SAFETY: gives free pages back, and nothing else.
        unsafe { nix::libc::malloc_trim(0) };
        highest();
        let before = highest();
        let start = Instant::now();
        let policy = policy(&text);
        let tables = compile(&policy).expect("compile");
        let limits = Limits::default();
        let spec = MapSpec {
            policy: tables.rules,
            names: tables.names,
            flows_out: limits.flows_out,
            flows_in: Some(limits.flows_in),
            learned: limits.learned,
            denied: limits.denied,
            ..map_spec(id)
        };
        let compile = start.elapsed();
        let process = highest() - before;
        let entries = spec.policy.len() + spec.names.as_ref().map_or(0, Vec::len);
        let before = memory();
        let start = Instant::now();
        maps.fill(&spec, 77, 2).expect("fill");
        let write = start.elapsed();
        let new = memory()
            .into_iter()
            .filter(|(map, _)| !before.contains_key(map));
        let bytes = new.map(|(_, bytes)| bytes).sum();
        maps.clear(EndpointId(id)).expect("clear");
        Built {
            compile,
            process,
            entries,
            write,
            bytes,
        }
    }

    /// Costs of packets under a list.
    struct Packets {
        first: Duration,
        next: Duration,
        query: Option<Duration>,
    }

    fn packets(row: &Row) -> Packets {
        let mut d = Datapath::new();
        d.names(0, &policy(&row.config()));
        let to = |n: usize| tcp(&format!("10.87.0.2:{}", 10_000 + n), &row.remotes[n]);
        let off = tcp("10.87.0.2:9", "192.0.2.7:5001");
        assert_eq!(d.sends(0, &off).outcome, Outcome::Drop("no-rule"));
        // The neighbour is known from here on.
        assert_eq!(d.sends(0, &to(0)).outcome, Outcome::Redirect);
        let first = (1..=SAMPLES).map(|n| redirected(&mut d, &to(n), 1));
        let first = median(first.collect());
        let next = redirected(&mut d, &to(1), REPEAT);
        let query = row.name.as_ref().map(|name| {
            let ask = |n: usize| {
                let id = u16::try_from(n).expect("few");
                let from = format!("10.87.0.2:{}", 20_000 + n);
                datagram(&from, "192.0.2.7:53", &query(id, name, A))
            };
            median(
                (0..SAMPLES)
                    .map(|n| redirected(&mut d, &ask(n), 1))
                    .collect(),
            )
        });
        Packets { first, next, query }
    }

    fn ratio(this: Duration, to: Duration) -> f64 {
        this.as_secs_f64() / to.as_secs_f64()
    }

    fn mib(bytes: u64) -> f64 {
        bytes as f64 / f64::from(1 << 20)
    }

    /// Costs of packets of one container, beside others.
    struct Beside {
        first: Duration,
        out: Duration,
        inwards: Duration,
        refused: Duration,
    }

    fn beside(count: u32) -> Beside {
        let mut d = Datapath::new();
        d.crowd(count);
        d.rules(0, EVERYWHERE, "");
        let to = |n: usize| tcp(&format!("10.87.0.2:{}", 10_000 + n), "192.0.2.7:5000");
        // The neighbour is known from here on.
        assert_eq!(d.sends(0, &to(0)).outcome, Outcome::Redirect);
        let first = (1..=SAMPLES).map(|n| redirected(&mut d, &to(n), 1));
        let first = median(first.collect());
        let out = redirected(&mut d, &to(1), REPEAT);
        let up = d.ifindex.up[0];
        let answer = to(1).reply().to_mac(UP0_MAC);
        let back = d.run_only(Hook::FromWire, up, &answer.bytes(), REPEAT);
        assert_eq!(back.verdict, REDIRECT);
        let off = tcp("10.87.0.2:9", "192.0.2.7:5001");
        Beside {
            first,
            out,
            inwards: back.duration,
            refused: sent(&mut d, &off, REPEAT, SHOT),
        }
    }

    #[test]
    #[ignore = "root"]
    fn many_containers() {
        let mut table = String::from(
            "| containers | first packet | further, out | further, in | refused |\n|---|---|---|---|---|\n",
        );
        let mut few: Option<Beside> = None;
        for count in [2, 10, 100, 1000] {
            let now = beside(count);
            let to = few.as_ref().unwrap_or(&now);
            let cell = |of: fn(&Beside) -> Duration| {
                format!(
                    "{:.2} ({} ns)",
                    ratio(of(&now), of(to)),
                    of(&now).as_nanos()
                )
            };
            let cells = [
                cell(|b| b.first),
                cell(|b| b.out),
                cell(|b| b.inwards),
                cell(|b| b.refused),
            ];
            writeln!(table, "| {count} | {} |", cells.join(" | ")).expect("text");
            few.get_or_insert(now);
        }
        println!("{table}");
    }

    #[test]
    #[ignore = "root"]
    fn long_lists() {
        let built: Vec<Built> = {
            let host = Host::enter();
            let pins = Pins::new(&host.paths.bpffs_dir);
            load::load(&pins).expect("load");
            let maps = load::open_maps(&pins).expect("open");
            (3..)
                .zip(rows())
                .map(|(id, row)| build(&maps, &row, id))
                .collect()
        };
        assert!(built[2].entries < 120_000, "{}", built[2].entries);
        assert!(built[5].entries < 10_100, "{}", built[5].entries);
        let measured: Vec<Packets> = rows().iter().map(packets).collect();
        let mut table = String::from(
            "| list | compile | process | entries | write | maps | first packet | further | query |\n\
             |---|---|---|---|---|---|---|---|---|\n",
        );
        for ((row, b), p) in rows().iter().zip(&built).zip(&measured) {
            let query = match (p.query, measured[3].query) {
                (Some(this), Some(to)) => {
                    format!("{:.2} ({} ns)", ratio(this, to), this.as_nanos())
                }
                _ => String::new(),
            };
            writeln!(
                table,
                "| {} | {:.1} ms | {:.1} MiB | {} | {:.1} ms | {:.1} MiB | {:.2} ({} ns) | {:.2} ({} ns) | {query} |",
                row.label,
                b.compile.as_secs_f64() * 1e3,
                mib(b.process),
                b.entries,
                b.write.as_secs_f64() * 1e3,
                mib(b.bytes),
                ratio(p.first, measured[0].first),
                p.first.as_nanos(),
                ratio(p.next, measured[0].next),
                p.next.as_nanos(),
            )
            .expect("text");
        }
        println!("{table}");
    }
}
