//! What a packet costs in each program, for tests/bench/costs: prints JSON. In a guest whose clock
//! counts instructions (`-icount`) a nanosecond is one of them; elsewhere these are times.
//!
//! Each sample is one run of a program on a fresh packet (BPF_PROG_TEST_RUN), which never transmits.
//! The reference is a program that has nothing of ours: what the kernel itself makes dearer or cheaper,
//! it does there as well.

use std::ffi::c_char;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use common::datapath::{Datapath, Hook, Outcome, UP0_MAC, next_jiffy};
use common::dns::{datagram, reply};
use common::dns_message::{A, Record, answer, query};
use common::oracle;
use common::packet::{ACK, Packet, read, tcp, udp};
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};
use serde_json::{Map, Value, json};

#[path = "../common/mod.rs"]
mod common;

/// Of which the median is taken.
const SAMPLES: u16 = 301;
/// TC_ACT_* and TCX_NEXT, include/uapi/linux/pkt_cls.h and bpf.h.
const NEXT: i32 = -1;
const PASS: i32 = 0;
const SHOT: i32 = 2;
const REDIRECT: i32 = 7;

const CONTAINER: &str = "10.87.0.2:4000";
const REMOTE: &str = "192.0.2.7:9000";
const NEIGHBOUR: &str = "10.87.0.3:9000";
const RESOLVER: &str = "192.0.2.7:53";

fn median(mut samples: Vec<Duration>) -> u64 {
    samples.sort_unstable();
    u64::try_from(samples[samples.len() / 2].as_nanos()).expect("short")
}

/// One packet of a path, and what is to become of it.
fn run(d: &mut Datapath, hook: Hook, packet: &Packet, verdict: i32) -> Duration {
    let (ifindex, packet) = match hook {
        Hook::FromWire => (d.ifindex.up[0], packet.clone().to_mac(UP0_MAC)),
        Hook::ToContainer => (d.ifindex.peer[1], packet.clone()),
        _ => (d.ifindex.primary[0], packet.clone()),
    };
    let ran = d.run_only(hook, ifindex, &packet.bytes(), 1);
    assert_eq!(ran.verdict, verdict, "{hook:?} {packet:?}");
    ran.duration
}

#[derive(Default)]
struct Costs(Map<String, Value>);

impl Costs {
    fn add(&mut self, path: &str, sample: impl FnMut(u16) -> Duration) {
        let samples = (0..SAMPLES).map(sample).collect();
        self.0.insert(path.into(), json!(median(samples)));
    }

    /// Both ways of a flow that is known: what follows the one before at once, and what does not.
    fn add_flow(&mut self, name: &str, d: &mut Datapath, out: &Packet) {
        let opened = d.sends(0, out);
        assert_eq!(opened.outcome, Outcome::Redirect);
        let mut out = out.clone();
        let mut back = read(&opened.frame).reply();
        if out.proto == 6 {
            d.arrives(0, &back);
            (out, back) = (out.flags(ACK), back.flags(ACK));
            d.sends(0, &out);
        }
        self.add(&format!("{name}, out"), |_| {
            run(d, Hook::FromContainer, &out, REDIRECT)
        });
        self.add(&format!("{name}, in"), |_| {
            run(d, Hook::FromWire, &back, REDIRECT)
        });
        self.add(&format!("{name}, out, first of a jiffy"), |_| {
            next_jiffy();
            run(d, Hook::FromContainer, &out, REDIRECT)
        });
        self.add(&format!("{name}, in, first of a jiffy"), |_| {
            next_jiffy();
            run(d, Hook::FromWire, &back, REDIRECT)
        });
    }

    /// From one container to another, in the program of either.
    fn add_between(&mut self, name: &str, d: &mut Datapath, packet: &Packet) {
        let ends = [
            ("out", Hook::FromContainer, REDIRECT),
            ("in", Hook::ToContainer, PASS),
        ];
        for (end, hook, verdict) in ends {
            run(d, hook, packet, verdict);
            self.add(&format!("{name}, {end}"), |_| run(d, hook, packet, verdict));
            self.add(&format!("{name}, {end}, first of a jiffy"), |_| {
                next_jiffy();
                run(d, hook, packet, verdict)
            });
        }
    }
}

fn ours() -> Costs {
    let mut costs = Costs::default();
    let allowing = || {
        let mut d = Datapath::new();
        d.rules(0, "any:any", "tcp:any:8080");
        d
    };
    let payload = |packet: Packet| packet.payload(64).summed();
    let mut d = allowing();
    let (udp4, tcp4) = (udp(CONTAINER, REMOTE), tcp(CONTAINER, REMOTE));
    costs.add_flow("UDP", &mut d, &payload(udp4.clone()));
    costs.add_flow("TCP", &mut d, &payload(tcp4.clone()));
    let udp6 = udp("[2001:db8:87::2]:4000", "[2001:db8:1::7]:9000");
    costs.add_flow("UDP, IPv6", &mut d, &payload(udp6));
    let port = |n: u16| format!("10.87.0.2:{}", 10_000 + n);
    costs.add("UDP, first out", |n| {
        run(
            &mut d,
            Hook::FromContainer,
            &udp(&port(n), REMOTE),
            REDIRECT,
        )
    });
    costs.add("TCP, first in", |n| {
        let from = format!("192.0.2.7:{}", 10_000 + n);
        let packet = tcp(&from, "10.87.0.2:8080");
        run(&mut d, Hook::FromWire, &packet, REDIRECT)
    });
    costs.add("the host's own, in", |_| {
        let packet = udp(REMOTE, "192.0.2.1:4000");
        run(&mut d, Hook::FromWire, &packet, NEXT)
    });
    costs.add("refused", |_| {
        let packet = udp(CONTAINER, "169.254.169.254:80");
        run(&mut d, Hook::FromContainer, &packet, SHOT)
    });
    let mut d = Datapath::new();
    d.rules(0, "any:containers", "");
    d.rules(1, "", "any:containers");
    let packet = payload(udp(CONTAINER, NEIGHBOUR));
    costs.add_between("UDP, between containers", &mut d, &packet);
    let mut d = allowing();
    d.masquerade(0, 16_384, 1024);
    costs.add_flow("UDP, masqueraded", &mut d, &payload(udp4));
    costs.add_flow("TCP, masqueraded", &mut d, &payload(tcp4));
    let mut d = Datapath::new();
    d.names(0, &oracle::policy("tcp:www.example.com:443", ""));
    let question = |n: u16| query(n, "www.example.com", A);
    costs.add("DNS query", |n| {
        let packet = datagram(&port(n), RESOLVER, &question(n));
        run(&mut d, Hook::FromContainer, &packet, REDIRECT)
    });
    costs.add("DNS answer", |n| {
        let asked = d.sends(0, &datagram(&port(n), RESOLVER, &question(n)));
        let records = [Record::address("203.0.113.9", 60)];
        let message = answer(&question(n), &records);
        let packet = reply(&read(&asked.frame), &message);
        run(&mut d, Hook::FromWire, &packet, REDIRECT)
    });
    costs
}

/// One instruction of BPF (include/uapi/linux/bpf.h, struct bpf_insn), as the kernel reads it.
const fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> [u8; 8] {
    let (o, i) = (offset.to_ne_bytes(), immediate.to_ne_bytes());
    [code, from << 4 | to, o[0], o[1], i[0], i[1], i[2], i[3]]
}

const RETURN: [[u8; 8]; 1] = [instruction(0x95, 0, 0, 0, 0)]; // return r0

/// Looks sixteen times into a hash table, counts there each time, and redirects.
fn reference(table: i32) -> Vec<[u8; 8]> {
    const TIMES: i16 = 16;
    const BODY: i16 = 9;
    let mut program = vec![instruction(0x62, 10, 0, -4, 0)]; // *(u32 *)(fp - 4) = 0
    for turn in 0..TIMES {
        program.extend([
            instruction(0x18, 1, 1, 0, table), // r1 = table, of two words
            instruction(0, 0, 0, 0, 0),
            instruction(0xbf, 2, 10, 0, 0), // r2 = fp
            instruction(0x07, 2, 0, 0, -4), // r2 -= 4
            instruction(0x85, 0, 0, 0, 1),  // r0 = bpf_map_lookup_elem(r1, r2)
            // if (!r0) goto the end
            instruction(0x15, 0, 0, (TIMES - 1 - turn) * BODY + 3 + 3, 0),
            instruction(0x79, 1, 0, 0, 0), // r1 = *(u64 *)r0
            instruction(0x07, 1, 0, 0, 1), // r1 += 1
            instruction(0x7b, 0, 1, 0, 0), // *(u64 *)r0 = r1
        ]);
    }
    program.extend([
        instruction(0xb7, 1, 0, 0, 1),  // r1 = 1
        instruction(0xb7, 2, 0, 0, 0),  // r2 = 0
        instruction(0x85, 0, 0, 0, 23), // r0 = bpf_redirect(r1, r2)
    ]);
    program.extend(RETURN);
    program
}

/// Does nothing: what is counted of it are the test run's own steps.
fn empty() -> Vec<[u8; 8]> {
    let mut program = vec![instruction(0xb7, 0, 0, 0, REDIRECT)]; // r0 = 7
    program.extend(RETURN);
    program
}

fn load(program: &[[u8; 8]]) -> OwnedFd {
    let license: *const c_char = c"GPL".as_ptr();
    // SAFETY: the strings end with NUL, the instructions are as many as said, and no options are given.
    let fd = unsafe {
        libbpf_sys::bpf_prog_load(
            libbpf_sys::BPF_PROG_TYPE_SCHED_CLS,
            c"nk_reference".as_ptr(),
            license,
            program.as_ptr().cast(),
            program.len() as libbpf_sys::size_t,
            std::ptr::null_mut(),
        )
    };
    assert!(fd >= 0, "load the reference: {fd}");
    // SAFETY: the kernel just made this descriptor; nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Of a program that is not ours.
fn cost(program: &[[u8; 8]]) -> u64 {
    let program = load(program);
    let frame = udp(CONTAINER, REMOTE).payload(64).bytes();
    let sample = |_| {
        let mut opts = libbpf_sys::bpf_test_run_opts {
            sz: size_of::<libbpf_sys::bpf_test_run_opts>() as libbpf_sys::size_t,
            data_in: frame.as_ptr().cast(),
            data_size_in: u32::try_from(frame.len()).expect("short"),
            repeat: 1,
            ..Default::default()
        };
        // SAFETY: the frame is as long as said, and outlives the call.
        let error =
            unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), &raw mut opts) };
        assert_eq!((error, opts.retval), (0, 7), "run it");
        Duration::from_nanos(opts.duration.into())
    };
    median((0..SAMPLES).map(sample).collect())
}

fn table() -> MapHandle {
    let opts = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
        ..Default::default()
    };
    let table = MapHandle::create(MapType::Hash, Some("nk_reference"), 4, 8, 1, &opts);
    let table = table.expect("create a table");
    table
        .update(&[0; 4], &[0; 8], MapFlags::ANY)
        .expect("enter a number");
    table
}

fn main() {
    let table = table();
    let costs = json!({
        "empty": cost(&empty()),
        "reference": cost(&reference(table.as_fd().as_raw_fd())),
        "paths": ours().0,
    });
    println!("{costs:#}");
}
