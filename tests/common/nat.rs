//! Masqueraded packets on both sides of the host. Every frame that leaves a program has its checksums
//! verified.
//!
//! Endpoint 0 has the addresses of datapath.rs and the ports 16384 to 16447; the host is 192.0.2.1
//! and 2001:db8:1::1 on up0.

use super::datapath::{Answer, Datapath, Outcome, UP0_MAC};
use super::packet::{Packet, addr, icmp, read, tcp, udp};

pub const FIRST: u16 = 16384;
pub const COUNT: u16 = 64;

#[track_caller]
pub fn dropped(answer: &Answer, reason: &'static str) {
    assert_eq!(answer.outcome, Outcome::Drop(reason));
    assert_eq!(answer.endpoint, Some(0));
}

pub fn masqueraded() -> Datapath {
    let mut d = Datapath::new();
    d.masquerade(0, FIRST, COUNT);
    d.rules(0, "any:any", "any:any");
    d
}

pub fn port(packet: &Packet, at: usize) -> u16 {
    u16::from_be_bytes(packet.transport[at..at + 2].try_into().expect("2 bytes"))
}

/// What the wire sees of a packet of the container's.
#[track_caller]
pub fn leaves(d: &mut Datapath, packet: &Packet) -> Packet {
    let answer = d.sends(0, &packet.clone().summed());
    assert_eq!(answer.outcome, Outcome::Redirect, "{packet:?}");
    let out = read(&answer.frame);
    let host = if packet.source.is_ipv4() {
        "192.0.2.1"
    } else {
        "2001:db8:1::1"
    };
    assert_eq!(out.source, addr(host), "{packet:?}");
    assert_eq!(out.destination, packet.destination);
    out
}

/// What the container gets of a packet from the wire.
#[track_caller]
pub fn enters(d: &mut Datapath, packet: &Packet) -> Packet {
    let answer = d.arrives(0, &packet.clone().summed());
    assert_eq!(answer.outcome, Outcome::Redirect, "{packet:?}");
    assert_eq!(answer.endpoint, Some(0));
    read(&answer.frame)
}

#[track_caller]
pub fn is_the_hosts(d: &mut Datapath, packet: &Packet) {
    let packet = packet.clone().summed();
    let answer = d.arrives(0, &packet);
    assert_eq!(answer.outcome, Outcome::Next, "{packet:?}");
    assert_eq!(answer.frame, packet.to_mac(UP0_MAC).bytes(), "untouched");
}

pub fn samples() -> Vec<Packet> {
    vec![
        tcp("10.87.0.2:4000", "192.0.2.7:443").payload(11),
        udp("10.87.0.2:4000", "192.0.2.7:53"),
        icmp("10.87.0.2", "192.0.2.7", 8).payload(5),
        tcp("[2001:db8:87::2]:4000", "[2001:db8:1::7]:443").payload(11),
        udp("[2001:db8:87::2]:4000", "[2001:db8:1::7]:53"),
        icmp("2001:db8:87::2", "2001:db8:1::7", 128).payload(5),
    ]
}
