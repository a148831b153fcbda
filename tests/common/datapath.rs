//! The real object, loaded in a fresh network namespace of the test's thread, with private maps, and
//! what its programs make of a packet. tables.rs writes the maps.
//!
//!   up0 192.0.2.1/24     gateway .254, host .7; .66 has no neighbour      uplink, default route
//!   up1 198.51.100.1/24  gateway .254 leads to 203.0.113.0/24, MTU 1400   uplink
//!   lan0 172.17.0.1/16   a network behind the host, such as docker0
//!   nk0, nk1             primaries of endpoints 0 and 1; pr0, pr1 stand for their peers
//!   10.66/16 blackhole   10.67/16 unreachable    10.68/16 prohibit
//! and the same in 2001:db8::/32. veth stands for all of them: BPF_PROG_TEST_RUN never transmits.

use std::io::Write;
use std::mem::MaybeUninit;
use std::process::{Command, Stdio};
use std::time::Duration;

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, OpenObject, ProgramInput};
use nix::sched::{CloneFlags, unshare};
use oci_netkit::kernel::bpf::skel::{DatapathSkel, DatapathSkelBuilder, types};
use oci_netkit::types::drop::reason;

use super::packet::Packet;
use super::tables::{bytes_of_mut, put, struct_of};

pub const MARK_JUDGED: u32 = 0x6a75_6467;
pub const MARK_REPLY: u32 = 0x7265_706c;
pub const MTU: u32 = 1500;
pub const NO_ENDPOINT: u32 = u32::MAX;

/// Addresses of endpoints 0 and 1, in the order of their local index.
pub const ADDRESSES: [[&str; 2]; 2] = [
    ["10.87.0.2", "2001:db8:87::2"],
    ["10.87.0.3", "2001:db8:87::3"],
];

pub const UP0_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x10];
pub const UP1_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x11];
pub const GATEWAY0_MAC: [u8; 6] = [2, 0, 0, 0, 1, 0xfe];
pub const GATEWAY1_MAC: [u8; 6] = [2, 0, 0, 0, 2, 0xfe];
pub const HOST7_MAC: [u8; 6] = [2, 0, 0, 0, 1, 7];

/// BPF_F_TEST_SKB_CHECKSUM_COMPLETE, include/uapi/linux/bpf.h.
const TEST_SKB_CHECKSUM_COMPLETE: u32 = 1 << 2;

const TOPOLOGY: &str = "
link set lo up
link add up0 address 02:00:00:00:00:10 type veth peer name up0x
link add up1 address 02:00:00:00:00:11 mtu 1400 type veth peer name up1x mtu 1400
link add lan0 type veth peer name lan0x
link add nk0 address 02:00:00:00:00:20 type veth peer name pr0 address 02:00:00:00:00:30
link add nk1 address 02:00:00:00:00:21 type veth peer name pr1 address 02:00:00:00:00:31
address add 192.0.2.1/24 dev up0
address add 198.51.100.1/24 dev up1
address add 172.17.0.1/16 dev lan0
address add 2001:db8:1::1/64 dev up0 nodad
address add 2001:db8:2::1/64 dev up1 nodad
address add 2001:db8:17::1/64 dev lan0 nodad
link set up0 up
link set up0x up
link set up1 up
link set up1x up
link set lan0 up
link set lan0x up
link set nk0 up
link set pr0 up
link set nk1 up
link set pr1 up
neighbour add 192.0.2.254 lladdr 02:00:00:00:01:fe dev up0
neighbour add 192.0.2.7 lladdr 02:00:00:00:01:07 dev up0
neighbour add 198.51.100.254 lladdr 02:00:00:00:02:fe dev up1
neighbour add 172.17.0.2 lladdr 02:00:00:00:03:02 dev lan0
neighbour add 2001:db8:1::fe lladdr 02:00:00:00:01:fe dev up0
neighbour add 2001:db8:1::7 lladdr 02:00:00:00:01:07 dev up0
neighbour add 2001:db8:2::fe lladdr 02:00:00:00:02:fe dev up1
neighbour add 2001:db8:17::2 lladdr 02:00:00:00:03:02 dev lan0
route add default via 192.0.2.254
route add 203.0.113.0/24 via 198.51.100.254
route add blackhole 10.66.0.0/16
route add unreachable 10.67.0.0/16
route add prohibit 10.68.0.0/16
route add 10.87.0.2/32 dev nk0
route add 10.87.0.3/32 dev nk1
route add default via 2001:db8:1::fe
route add 2001:db8:113::/48 via 2001:db8:2::fe
route add blackhole 2001:db8:66::/48
route add unreachable 2001:db8:67::/48
route add 2001:db8:87::2/128 dev nk0
route add 2001:db8:87::3/128 dev nk1
";

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    Pass,
    Redirect,
    /// To the primary, whose queue it passes before it is counted.
    Queued,
    /// Sent back by the uplink it came in by, as an answer of our own.
    Answer,
    Next,
    /// Left alone, but counted.
    Noted(&'static str),
    Drop(&'static str),
}

/// A program's answer; the fixture has checked that exactly the right counter moved.
#[derive(Clone, Debug)]
pub struct Answer {
    pub outcome: Outcome,
    /// The packet was dropped, and `frame` is our own answer to its sender.
    pub answered: bool,
    pub frame: Vec<u8>,
    pub mark: u32,
    /// Endpoint whose counter moved; `None` for next.
    pub endpoint: Option<u32>,
    /// It opened a flow.
    pub opened: bool,
    /// No rule allows it, and it passed on trial.
    pub audited: bool,
}

/// A program's run by itself.
#[derive(Clone, Debug)]
pub struct Ran {
    /// `TC_ACT_*`.
    pub verdict: i32,
    pub frame: Vec<u8>,
    pub mark: u32,
    /// Of one run, the mean of all.
    pub duration: Duration,
}

/// What became of the counters.
#[derive(Default)]
struct Counted {
    endpoint: Option<u32>,
    /// `NK_DROP_*`.
    dropped: Option<u32>,
    opened: bool,
    audited: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    FromContainer,
    ToContainer,
    FromWire,
    Guard,
}

/// Of an endpoint, over all CPUs.
#[derive(Clone, Copy, Default)]
struct Counters {
    passed: types::nk_passed,
    dropped: types::nk_dropped,
}

pub struct Datapath {
    pub skel: DatapathSkel<'static>,
    pub epoch: u32,
    pub ifindex: Ifindexes,
    /// Packets come with a sum of all their bytes, as many NICs deliver them, and the kernel checks
    /// that the program kept it right.
    pub checksum_complete: bool,
    /// Of endpoints 0, 1 and none.
    counters: Vec<Counters>,
}

#[derive(Clone, Copy, Debug)]
pub struct Ifindexes {
    pub up: [u32; 2],
    pub lan: u32,
    pub primary: [u32; 2],
    pub peer: [u32; 2],
}

fn ifindex(name: &str) -> u32 {
    nix::net::if_::if_nametoindex(name).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// What the programs call now: enum nk_time in abi.h.
pub fn tick() -> u32 {
    let now =
        nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC_COARSE).expect("a clock");
    let ns = now.tv_sec() * 1_000_000_000 + now.tv_nsec();
    u32::try_from(ns >> 24).expect("not up for two years")
}

fn sysctl(path: &str, value: &str) {
    std::fs::write(format!("/proc/sys/net/{path}"), value)
        .unwrap_or_else(|e| panic!("{path}: {e}"));
}

/// Waits until the kernel's clock of jiffies moves: the programs remember for one what they judged
/// (bpf/recent.h), and do not see what a test does to flows and routes behind their back.
pub fn next_jiffy() {
    let now =
        || nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC_COARSE).expect("a clock");
    let start = now();
    while now() == start {
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// `ip -batch`, in the namespace of this thread.
pub fn ip(commands: &str) {
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("iproute2 is installed");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(commands.as_bytes()).expect("ip reads");
    drop(stdin);
    assert!(
        child.wait().expect("ip ends").success(),
        "ip -batch:\n{commands}"
    );
    next_jiffy();
}

impl Datapath {
    /// Loads everything; both endpoints have no rules.
    pub fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNET).expect("tests run as root");
        for family in ["ipv4", "ipv6"] {
            sysctl(&format!("{family}/conf/default/forwarding"), "0");
        }
        ip(TOPOLOGY);
        sysctl("ipv6/conf/all/forwarding", "1");
        sysctl("ipv6/conf/up0/forwarding", "0");
        for primary in ["nk0", "nk1"] {
            sysctl(&format!("ipv4/conf/{primary}/forwarding"), "1");
            sysctl(&format!("ipv6/conf/{primary}/forwarding"), "1");
        }
        let object: &'static mut MaybeUninit<OpenObject> =
            Box::leak(Box::new(MaybeUninit::uninit()));
        let open = DatapathSkelBuilder::default()
            .open(object)
            .expect("open the object");
        let skel = open.load().expect("load the programs");
        let ifindex = Ifindexes {
            up: [ifindex("up0"), ifindex("up1")],
            lan: ifindex("lan0"),
            primary: [ifindex("nk0"), ifindex("nk1")],
            peer: [ifindex("pr0"), ifindex("pr1")],
        };
        let mut this = Self {
            skel,
            epoch: 0,
            ifindex,
            checksum_complete: false,
            counters: Vec::new(),
        };
        this.fill();
        for id in [0, 1] {
            this.rules(id, "", "");
        }
        this
    }

    fn fill(&mut self) {
        let maps = &self.skel.maps;
        let settings = types::nk_settings {
            mark_judged: MARK_JUDGED,
            mark_reply: MARK_REPLY,
            multicast_ifindex: self.ifindex.up[0],
            ..Default::default()
        };
        put(&maps.nk_settings, &0u32, &settings);
        for (i, mac) in [UP0_MAC, UP1_MAC].into_iter().enumerate() {
            let mtu_bytes = if i == 0 { 1500 } else { 1400 };
            // In the future: no probe until a test asks for one.
            let probed = tick() + (1 << 20);
            let uplink = types::nk_uplink {
                probed,
                mac,
                mtu_bytes,
                ..Default::default()
            };
            put(&maps.nk_uplinks, &self.ifindex.up[i], &uplink);
        }
        for id in 0..2u32 {
            let endpoint = self.endpoint(id);
            put(&maps.nk_endpoints, &id, &endpoint);
            put(&maps.nk_ifindexes, &endpoint.primary_ifindex, &id);
            self.own_addresses(id, types::nk_addr_flags(0));
            for opener in 0..2 {
                self.new_flow_table(id, opener, 1 << 16);
            }
        }
        let cpus = libbpf_rs::num_possible_cpus().expect("cpus are countable");
        let zero = vec![vec![0; size_of::<types::nk_dropped>()]; cpus];
        for id in [0, 1, NO_ENDPOINT] {
            maps.nk_dropped
                .update_percpu(&id.to_ne_bytes(), &zero, MapFlags::ANY)
                .expect("enter counters");
        }
        self.counters = self.read_counters();
    }

    fn read_counters(&self) -> Vec<Counters> {
        let maps = &self.skel.maps;
        let read = |id: &u32| {
            let mut sum = Counters::default();
            if *id != NO_ENDPOINT {
                for one in per_cpu::<types::nk_passed>(&maps.nk_passed, *id) {
                    for (to, from) in sum.passed.traffic.iter_mut().zip(one.traffic) {
                        to.packets += from.packets;
                        to.bytes += from.bytes;
                        to.flows += from.flows;
                    }
                }
            }
            for one in per_cpu::<types::nk_dropped>(&maps.nk_dropped, *id) {
                for (to, from) in sum.dropped.drops.iter_mut().zip(one.drops) {
                    let counts = to.packets.iter_mut().zip(from.packets);
                    counts.for_each(|(a, b)| *a += b);
                }
            }
            sum
        };
        [0, 1, NO_ENDPOINT].iter().map(read).collect()
    }

    /// From the container of endpoint `id`.
    pub fn sends(&mut self, id: usize, packet: &Packet) -> Answer {
        self.run(
            Hook::FromContainer,
            self.ifindex.primary[id],
            &packet.bytes(),
            0,
            0,
        )
    }

    /// From the host's stack, or marked, to the container of endpoint `id`.
    pub fn delivers(&mut self, id: usize, packet: &Packet, mark: u32) -> Answer {
        self.run(
            Hook::ToContainer,
            self.ifindex.peer[id],
            &packet.bytes(),
            mark,
            0,
        )
    }

    /// Arrives on uplink `n`, addressed to its MAC.
    pub fn arrives(&mut self, n: usize, packet: &Packet) -> Answer {
        let packet = packet.clone().to_mac([UP0_MAC, UP1_MAC][n]);
        self.run(Hook::FromWire, self.ifindex.up[n], &packet.bytes(), 0, 0)
    }

    /// Runs one program on one frame and checks that it counted it once and rightly.
    pub fn run(
        &mut self,
        hook: Hook,
        ifindex: u32,
        frame: &[u8],
        mark: u32,
        gso_size: u32,
    ) -> Answer {
        let Ran {
            verdict,
            frame: out,
            mark,
            ..
        } = self.execute(hook, ifindex, frame, mark, gso_size, 1);
        let direction = match hook {
            Hook::FromContainer | Hook::Guard => 0,
            Hook::ToContainer | Hook::FromWire => 1,
        };
        let Counted {
            endpoint,
            dropped,
            opened,
            audited,
        } = self.counted(direction, frame.len());
        let outcome = match (verdict, dropped) {
            (0, None) => Outcome::Pass,
            (7, None) if hook == Hook::FromWire && mark == MARK_REPLY => Outcome::Queued,
            (7, None) if hook == Hook::FromWire && endpoint.is_none() => Outcome::Answer,
            (7, None) => Outcome::Redirect,
            (-1, None) => Outcome::Next,
            (-1, Some(code)) => Outcome::Noted(reason(code).expect("reasons have a name").name),
            (2 | 7, Some(code)) => Outcome::Drop(reason(code).expect("reasons have a name").name),
            other => panic!("verdict and counters disagree: {other:?} at {hook:?}"),
        };
        if outcome == Outcome::Queued {
            assert_eq!(endpoint.is_some(), opened, "a flow is all that is counted");
        } else if hook != Hook::Guard {
            assert_eq!(
                endpoint.is_none(),
                matches!(outcome, Outcome::Next | Outcome::Answer),
                "{outcome:?} counted"
            );
        }
        Answer {
            outcome,
            answered: verdict == 7 && dropped.is_some(),
            frame: out,
            mark,
            endpoint,
            opened,
            audited,
        }
    }

    /// Runs one program so many times on one frame, whatever it counts: what it says and leaves the
    /// last time, and how long one time took. What a container gets is another one's.
    pub fn run_only(&mut self, hook: Hook, ifindex: u32, frame: &[u8], repeat: u32) -> Ran {
        let mark = match hook {
            Hook::ToContainer => MARK_JUDGED,
            _ => 0,
        };
        let ran = self.execute(hook, ifindex, frame, mark, 0, repeat);
        self.counters = self.read_counters();
        ran
    }

    fn execute(
        &self,
        hook: Hook,
        ifindex: u32,
        frame: &[u8],
        mark: u32,
        gso_size: u32,
        repeat: u32,
    ) -> Ran {
        // SAFETY: integers and null pointers. Not Default: the kernel refuses padding that is not 0.
        let mut context: types::__sk_buff = unsafe { std::mem::zeroed() };
        context.ifindex = ifindex;
        context.mark = mark;
        context.gso_size = gso_size;
        let mut out = vec![0u8; frame.len() + 256];
        let mut after = context;
        let progs = &self.skel.progs;
        let program = match hook {
            Hook::FromContainer => &progs.nk_from_container,
            Hook::ToContainer => &progs.nk_to_container,
            Hook::FromWire => &progs.nk_from_wire,
            Hook::Guard => &progs.nk_guard,
        };
        let input = ProgramInput {
            context_in: Some(bytes_of_mut(&mut context)),
            context_out: Some(bytes_of_mut(&mut after)),
            data_in: Some(frame),
            data_out: Some(&mut out),
            flags: if self.checksum_complete {
                TEST_SKB_CHECKSUM_COMPLETE
            } else {
                0
            },
            repeat,
            ..Default::default()
        };
        let output = program.test_run(input).expect("run the program");
        let length = output.data.map_or(0, |d| d.len());
        let (verdict, duration) = (output.return_value, output.duration);
        out.truncate(length);
        Ran {
            verdict: i32::from_ne_bytes(verdict.to_ne_bytes()),
            frame: out,
            mark: after.mark,
            duration,
        }
    }

    /// Which endpoint's counter moved since the last packet, and for which drop reason.
    fn counted(&mut self, direction: usize, bytes: usize) -> Counted {
        let now = self.read_counters();
        let before = std::mem::replace(&mut self.counters, now);
        let mut found = Counted::default();
        for ((id, was), is) in [0, 1, NO_ENDPOINT]
            .into_iter()
            .zip(&before)
            .zip(&self.counters)
        {
            for d in 0..2 {
                let (a, b) = (&was.passed.traffic[d], &is.passed.traffic[d]);
                let passed = b.packets - a.packets;
                let drops = |of: &Counters| split(&of.dropped.drops[d].packets);
                let (a_drops, b_drops) = (drops(was), drops(is));
                let audited = b_drops.1 - a_drops.1;
                let (a_drops, b_drops) = (a_drops.0, b_drops.0);
                let dropped = b_drops.iter().sum::<u64>() - a_drops.iter().sum::<u64>();
                let opened = b.flows - a.flows;
                if passed + dropped + opened + audited == 0 {
                    continue;
                }
                assert_eq!(d, direction, "counted in the packet's direction");
                assert_eq!((passed + dropped).max(opened), 1, "counted once");
                assert!(audited <= 1, "counted once");
                assert!(found.endpoint.is_none(), "counted for one endpoint");
                assert_eq!(
                    b.bytes - a.bytes,
                    passed * bytes as u64,
                    "bytes let through"
                );
                let code = (0u32..)
                    .zip(a_drops.iter().zip(&b_drops))
                    .find(|(_, (a, b))| a != b);
                found = Counted {
                    endpoint: Some(id),
                    dropped: code.map(|(c, _)| c),
                    opened: opened > 0,
                    audited: audited > 0,
                };
            }
        }
        found
    }
}

/// The values of all CPUs.
fn per_cpu<T: Copy + Default>(map: &impl MapCore, key: u32) -> Vec<T> {
    let values = map
        .lookup_percpu(&key.to_ne_bytes(), MapFlags::ANY)
        .expect("look up counters")
        .expect("counters are there");
    values.iter().map(|cpu| struct_of(cpu)).collect()
}

/// Drops, and what only passed on trial, which is counted among them.
fn split(drops: &[u64; 48]) -> ([u64; 48], u64) {
    let audit = types::nk_drop::NK_DROP_AUDIT.0 as usize;
    let mut rest = *drops;
    let audited = std::mem::take(&mut rest[audit]);
    (rest, audited)
}
