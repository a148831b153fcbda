//! Frames as a container with a raw socket would build them: honest ones, and the parts to lie with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub const IPV4: u16 = 0x0800;
pub const IPV6: u16 = 0x86dd;
pub const ARP: u16 = 0x0806;
pub const VLAN: u16 = 0x8100;
pub const QINQ: u16 = 0x88a8;

pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMP6: u8 = 58;
pub const SCTP: u8 = 132;

pub fn v4(text: &str) -> Ipv4Addr {
    text.parse().expect("an IPv4 address")
}

pub fn v6(text: &str) -> Ipv6Addr {
    text.parse().expect("an IPv6 address")
}

/// Ethernet with the zero addresses that netkit has in L3 mode.
pub fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&[0; 12], &ethertype.to_be_bytes()[..], payload].concat()
}

/// A tagged frame: the tag stands in the frame, before the real EtherType.
pub fn tagged(tpid: u16, vlan: u16, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let tag = [&vlan.to_be_bytes()[..], &ethertype.to_be_bytes()].concat();
    ethernet(tpid, &[&tag, payload].concat())
}

/// One's complement sum, folded and inverted (RFC 1071).
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|c| u32::from(u16::from_be_bytes([c[0], *c.get(1).unwrap_or(&0)])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded")
}

/// An IPv4 packet under construction; every field can be made a lie.
#[derive(Clone)]
pub struct Ip4 {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub protocol: u8,
    pub version: u8,
    /// In words; `None` = as long as the header is.
    pub ihl: Option<u8>,
    /// `None` = as long as the packet is.
    pub total_length: Option<u16>,
    /// Flags and offset as in the header.
    pub fragment: u16,
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
}

impl Ip4 {
    pub fn new(source: &str, destination: &str, protocol: u8, payload: Vec<u8>) -> Self {
        Self {
            source: v4(source),
            destination: v4(destination),
            protocol,
            version: 4,
            ihl: None,
            total_length: None,
            fragment: 0,
            options: Vec::new(),
            payload,
        }
    }

    pub fn packet(&self) -> Vec<u8> {
        let header = 20 + self.options.len();
        let ihl = self
            .ihl
            .unwrap_or(u8::try_from(header / 4).expect("a short header"));
        let length = self.total_length.unwrap_or_else(|| {
            u16::try_from(header + self.payload.len()).expect("a packet of at most 64 KiB")
        });
        let mut p = vec![self.version << 4 | ihl, 0];
        p.extend(length.to_be_bytes());
        p.extend([0x12, 0x34]);
        p.extend(self.fragment.to_be_bytes());
        p.extend([64, self.protocol, 0, 0]);
        p.extend(self.source.octets());
        p.extend(self.destination.octets());
        p.extend(&self.options);
        let sum = checksum(&[&p]).to_be_bytes();
        p[10..12].copy_from_slice(&sum);
        p.extend(&self.payload);
        p
    }

    pub fn frame(&self) -> Vec<u8> {
        ethernet(IPV4, &self.packet())
    }
}

/// An IPv6 packet under construction.
#[derive(Clone)]
pub struct Ip6 {
    pub source: Ipv6Addr,
    pub destination: Ipv6Addr,
    pub next: u8,
    pub version: u8,
    /// `None` = as long as it is.
    pub length: Option<u16>,
    pub payload: Vec<u8>,
}

impl Ip6 {
    pub fn new(source: &str, destination: &str, next: u8, payload: Vec<u8>) -> Self {
        Self {
            source: v6(source),
            destination: v6(destination),
            next,
            version: 6,
            length: None,
            payload,
        }
    }

    pub fn packet(&self) -> Vec<u8> {
        let length = self.length.unwrap_or_else(|| {
            u16::try_from(self.payload.len()).expect("a payload of at most 64 KiB")
        });
        let mut p = vec![self.version << 4, 0, 0, 0];
        p.extend(length.to_be_bytes());
        p.extend([self.next, 64]);
        p.extend(self.source.octets());
        p.extend(self.destination.octets());
        p.extend(&self.payload);
        p
    }

    pub fn frame(&self) -> Vec<u8> {
        ethernet(IPV6, &self.packet())
    }
}

/// Addresses, protocol and length as they count towards an L4 checksum.
pub fn pseudo(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> Vec<u8> {
    let length = u32::try_from(length).expect("a short packet").to_be_bytes();
    match (source, destination) {
        (IpAddr::V4(s), IpAddr::V4(d)) => {
            [&s.octets()[..], &d.octets(), &[0, protocol], &length[2..]].concat()
        }
        (IpAddr::V6(s), IpAddr::V6(d)) => {
            [&s.octets()[..], &d.octets(), &length, &[0, 0, 0, protocol]].concat()
        }
        _ => panic!("two families"),
    }
}

/// A datagram with its checksum, for these addresses.
pub fn udp(source: &str, destination: &str, from_port: u16, to_port: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + data.len()).expect("a short datagram");
    let mut p = Vec::new();
    p.extend(from_port.to_be_bytes());
    p.extend(to_port.to_be_bytes());
    p.extend(length.to_be_bytes());
    p.extend([0, 0]);
    p.extend(data);
    fill(&mut p, source, destination, UDP, 6);
    p
}

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

/// A TCP segment with its checksum.
pub fn tcp(
    (source, from_port): (&str, u16),
    (destination, to_port): (&str, u16),
    flags: u8,
    data: &[u8],
) -> Vec<u8> {
    let mut p = Vec::new();
    p.extend(from_port.to_be_bytes());
    p.extend(to_port.to_be_bytes());
    p.extend(0x1111_u32.to_be_bytes());
    p.extend(0x2222_u32.to_be_bytes());
    p.extend([5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
    p.extend(data);
    fill(&mut p, source, destination, TCP, 16);
    p
}

/// An ICMP message of either family; `rest` follows type, code and checksum.
pub fn icmp(source: &str, destination: &str, kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    let mut p = vec![kind, code, 0, 0];
    p.extend(rest);
    if source.contains(':') {
        fill(&mut p, source, destination, ICMP6, 2);
    } else {
        let sum = checksum(&[&p]).to_be_bytes();
        p[2..4].copy_from_slice(&sum);
    }
    p
}

/// Writes the checksum of an L4 packet into itself.
fn fill(packet: &mut [u8], source: &str, destination: &str, protocol: u8, at: usize) {
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
    let header = pseudo(ip(source), ip(destination), protocol, packet.len());
    let sum = checksum(&[&header, packet]).to_be_bytes();
    packet[at..at + 2].copy_from_slice(&sum);
}

/// The whole frame of an honest datagram, in the family of the addresses.
pub fn udp_frame(source: &str, destination: &str, to_port: u16, data: &str) -> Vec<u8> {
    ip_frame(
        source,
        destination,
        UDP,
        udp(source, destination, 40000, to_port, data.as_bytes()),
    )
}

/// An IP frame with this payload, in the family of the addresses.
pub fn ip_frame(source: &str, destination: &str, protocol: u8, payload: Vec<u8>) -> Vec<u8> {
    if source.contains(':') {
        Ip6::new(source, destination, protocol, payload).frame()
    } else {
        Ip4::new(source, destination, protocol, payload).frame()
    }
}

/// An extension header of the common form: 8 bytes, the rest padding.
pub fn extension(next: u8) -> Vec<u8> {
    vec![next, 0, 1, 4, 0, 0, 0, 0]
}

/// The same frame, addressed on Ethernet: what comes over the wire.
pub fn addressed(frame: &[u8], destination: &str, source: &str) -> Vec<u8> {
    [
        &super::wire::unhex(destination)[..],
        &super::wire::unhex(source),
        &frame[12..],
    ]
    .concat()
}

/// `struct virtio_net_hdr`, as `PACKET_VNET_HDR` wants it in front of a frame.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vnet {
    pub flags: u8,
    pub gso_type: u8,
    pub header_length: u16,
    pub gso_size: u16,
    pub csum_start: u16,
    pub csum_offset: u16,
}

impl Vnet {
    pub const NEEDS_CSUM: u8 = 1;
    pub const TCP4: u8 = 1;
    pub const UFO: u8 = 3;
    pub const TCP6: u8 = 4;
    pub const UDP_L4: u8 = 5;

    /// Asks for a checksum, counted from the start of the frame.
    pub fn checksum(start: u16, offset: u16) -> Self {
        Self {
            flags: Self::NEEDS_CSUM,
            csum_start: start,
            csum_offset: offset,
            ..Self::default()
        }
    }

    pub fn bytes(self) -> Vec<u8> {
        let mut b = vec![self.flags, self.gso_type];
        for field in [
            self.header_length,
            self.gso_size,
            self.csum_start,
            self.csum_offset,
        ] {
            b.extend(field.to_le_bytes());
        }
        b
    }
}
