//! Ethernet frames, built header by header, sound unless a test bends them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::checksum;

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const ACK: u8 = 0x10;

pub const ETH: usize = 14;
pub const IPV4: usize = 20;
pub const IPV6: usize = 40;

/// One packet; `bytes()` makes the frame.
#[derive(Clone, Debug)]
pub struct Packet {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub proto: u8,
    /// Transport header and payload.
    pub transport: Vec<u8>,
    /// 0 = as the addresses say.
    pub ethertype: u16,
    pub destination_mac: [u8; 6],
    /// Bytes after the IP packet.
    pub trailer: usize,
    /// Fill in the checksums, which most programs under test do not read.
    summed: bool,
    edits: Vec<(usize, u8)>,
    cut: Option<usize>,
}

/// Any protocol: what follows the IP header is `transport`.
pub fn ip(source: IpAddr, destination: IpAddr, proto: u8, transport: Vec<u8>) -> Packet {
    Packet {
        source,
        destination,
        proto,
        transport,
        ethertype: 0,
        destination_mac: [0; 6],
        trailer: 0,
        summed: false,
        edits: Vec::new(),
        cut: None,
    }
}

/// A frame as a packet again; its checksums are right.
#[track_caller]
pub fn read(frame: &[u8]) -> Packet {
    let packet = &frame[ETH..];
    assert_eq!(checksum::fault(packet), None, "{packet:02x?}");
    let v4 =
        |at: usize| -> IpAddr { IpAddr::from(<[u8; 4]>::try_from(&packet[at..at + 4]).unwrap()) };
    let v6 =
        |at: usize| -> IpAddr { IpAddr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).unwrap()) };
    let (source, destination, proto, header) = if packet[0] >> 4 == 4 {
        (v4(12), v4(16), packet[9], IPV4)
    } else {
        (v6(8), v6(24), packet[6], IPV6)
    };
    ip(source, destination, proto, packet[header..].to_vec()).summed()
}

/// As [`ip`], from text.
pub fn raw(source: &str, destination: &str, proto: u8, transport: &[u8]) -> Packet {
    ip(addr(source), addr(destination), proto, transport.to_vec())
}

/// "address:port" twice; a SYN.
pub fn tcp(source: &str, destination: &str) -> Packet {
    let (s, d) = (socket(source), socket(destination));
    let mut header = ports(s.port(), d.port());
    header.extend([0; 8]);
    header.extend([5 << 4, SYN, 0xff, 0xff, 0, 0, 0, 0]);
    ip(s.ip(), d.ip(), 6, header)
}

/// "address:port" twice; 4 bytes of payload.
pub fn udp(source: &str, destination: &str) -> Packet {
    let (s, d) = (socket(source), socket(destination));
    let mut header = ports(s.port(), d.port());
    header.extend([0, 12, 0, 0, 1, 2, 3, 4]);
    ip(s.ip(), d.ip(), 17, header)
}

/// An echo request or whatever `kind` says, with id 7.
pub fn icmp(source: &str, destination: &str, kind: u8) -> Packet {
    let source = addr(source);
    let proto = if source.is_ipv4() { 1 } else { 58 };
    ip(
        source,
        addr(destination),
        proto,
        vec![kind, 0, 0, 0, 0, 7, 0, 1],
    )
}

/// An ICMP error of `kind` about `quoted`, which lost its Ethernet header and all but 8 bytes.
pub fn icmp_error(source: &str, destination: &str, kind: u8, quoted: &Packet) -> Packet {
    let mut packet = icmp(source, destination, kind);
    packet.transport[5] = 0;
    let header = if quoted.source.is_ipv4() { IPV4 } else { IPV6 };
    packet
        .transport
        .extend(&quoted.bytes()[ETH..ETH + header + 8]);
    packet
}

/// Fragments of a packet: the first, one from the middle, and the last.
pub fn fragments(packet: &Packet) -> Vec<Packet> {
    let pieces = [(0u16, true), (2, true), (2, false)]; // in units of 8 bytes
    let piece = |(offset, more): (u16, bool)| {
        if packet.source.is_ipv4() {
            let [high, low] = (offset | u16::from(more) << 13).to_be_bytes();
            return packet.clone().with(ETH + 6, high).with(ETH + 7, low);
        }
        let mut transport = vec![packet.proto, 0];
        transport.extend((offset << 3 | u16::from(more)).to_be_bytes());
        transport.extend([0, 0, 0, 1]);
        transport.extend(&packet.transport);
        ip(packet.source, packet.destination, 44, transport)
    };
    pieces.map(piece).to_vec()
}

pub fn addr(text: &str) -> IpAddr {
    text.parse()
        .unwrap_or_else(|_| panic!("{text} is no address"))
}

fn socket(text: &str) -> SocketAddr {
    text.parse()
        .unwrap_or_else(|_| panic!("{text} is no address:port"))
}

fn ports(source: u16, destination: u16) -> Vec<u8> {
    [source.to_be_bytes(), destination.to_be_bytes()].concat()
}

impl Packet {
    /// TCP flags.
    pub fn flags(mut self, flags: u8) -> Self {
        self.transport[13] = flags;
        self
    }

    /// More payload; UDP's length grows with it.
    pub fn payload(mut self, bytes: usize) -> Self {
        self.transport.resize(self.transport.len() + bytes, 0x5a);
        if self.proto == 17 {
            let length = u16::try_from(self.transport.len()).expect("short payload");
            self.transport[4..6].copy_from_slice(&length.to_be_bytes());
        }
        self
    }

    /// The ICMP id.
    pub fn id(mut self, id: u16) -> Self {
        self.transport[4..6].copy_from_slice(&id.to_be_bytes());
        self
    }

    /// Sets a byte of the finished frame.
    pub fn with(mut self, offset: usize, value: u8) -> Self {
        self.edits.push((offset, value));
        self
    }

    /// Cuts the finished frame.
    pub fn cut(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self
    }

    pub fn ethertype(mut self, ethertype: u16) -> Self {
        self.ethertype = ethertype;
        self
    }

    pub fn trailer(mut self, bytes: usize) -> Self {
        self.trailer = bytes;
        self
    }

    /// With the checksums that belong there.
    pub fn summed(mut self) -> Self {
        self.summed = true;
        self
    }

    pub fn to_mac(mut self, mac: [u8; 6]) -> Self {
        self.destination_mac = mac;
        self
    }

    /// The other direction: addresses and ports swapped, TCP with SYN and ACK.
    pub fn reply(&self) -> Self {
        let mut back = self.clone();
        std::mem::swap(&mut back.source, &mut back.destination);
        if matches!(self.proto, 6 | 17 | 132) {
            back.transport[..4].rotate_left(2);
        }
        match self.proto {
            6 => back.transport[13] = SYN | ACK,
            1 if self.transport[0] == 8 => back.transport[0] = 0,
            58 if self.transport[0] == 128 => back.transport[0] = 129,
            _ => {}
        }
        back
    }

    /// The frame.
    pub fn bytes(&self) -> Vec<u8> {
        let mut frame = self.destination_mac.to_vec();
        frame.extend([0; 6]);
        let natural = if self.source.is_ipv4() {
            0x0800
        } else {
            0x86dd
        };
        let ethertype = if self.ethertype == 0 {
            natural
        } else {
            self.ethertype
        };
        frame.extend(ethertype.to_be_bytes());
        match (self.source, self.destination) {
            (IpAddr::V4(s), IpAddr::V4(d)) => frame.extend(self.ipv4(s, d)),
            (IpAddr::V6(s), IpAddr::V6(d)) => frame.extend(self.ipv6(s, d)),
            _ => panic!("two families in one packet"),
        }
        frame.extend(&self.transport);
        if self.summed {
            checksum::fill(&mut frame[ETH..]);
        }
        frame.resize(frame.len() + self.trailer, 0);
        for (offset, value) in &self.edits {
            frame[*offset] = *value;
        }
        frame.truncate(self.cut.unwrap_or(frame.len()));
        frame
    }

    fn ipv4(&self, source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
        let length = u16::try_from(IPV4 + self.transport.len()).expect("one packet");
        let mut header = vec![0x45, 0];
        header.extend(length.to_be_bytes());
        header.extend([0, 1, 0x40, 0, 64, self.proto, 0, 0]);
        header.extend(source.octets());
        header.extend(destination.octets());
        header
    }

    fn ipv6(&self, source: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
        let length = u16::try_from(self.transport.len()).expect("one packet");
        let mut header = vec![0x60, 0, 0, 0];
        header.extend(length.to_be_bytes());
        header.extend([self.proto, 64]);
        header.extend(source.octets());
        header.extend(destination.octets());
        header
    }
}
