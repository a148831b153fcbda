//! Published ports: endpoint 0 has TCP and UDP 80 behind 8080 of any address of the host, both
//! families, and its own addresses are masqueraded ones.

use super::datapath::Datapath;
use super::packet::{Packet, tcp, udp};

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ANY: [&str; 2] = ["0.0.0.0", "::"];

pub fn published() -> Datapath {
    let mut d = Datapath::new();
    d.masquerade(0, 16384, 64);
    for host in ANY {
        d.publish(host, TCP, 8080, 0, 80);
        d.publish(host, UDP, 8080, 0, 80);
    }
    d.rules(0, "", "any:80 udp:any:80");
    d
}

/// Clients' first packets.
pub fn samples() -> Vec<Packet> {
    vec![
        tcp("192.0.2.7:5000", "192.0.2.1:8080"),
        udp("192.0.2.7:5000", "192.0.2.1:8080").payload(7),
        tcp("[2001:db8:1::7]:5000", "[2001:db8:1::1]:8080"),
        udp("[2001:db8:1::7]:5000", "[2001:db8:1::1]:8080").payload(7),
    ]
}

pub fn inside(packet: &Packet) -> &'static str {
    if packet.source.is_ipv4() {
        "10.87.0.2"
    } else {
        "2001:db8:87::2"
    }
}

pub fn ports(packet: &Packet) -> (u16, u16) {
    let at =
        |i: usize| u16::from_be_bytes(packet.transport[i..i + 2].try_into().expect("two bytes"));
    (at(0), at(2))
}
