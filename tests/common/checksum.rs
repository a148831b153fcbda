//! Internet checksums of whole packets (RFC 1071), written plainly: the twin of bpf/csum.h, which
//! only follows changes.

use super::packet::{IPV4, IPV6};

fn sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2);
    words
        .map(|w| u32::from(w[0]) << 8 | u32::from(*w.get(1).unwrap_or(&0)))
        .sum()
}

fn folded(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).expect("folded")
}

/// Length of the IP header, protocol, and the sum of the pseudo header if the protocol has one.
fn layout(packet: &[u8]) -> (usize, u8, u32) {
    let (header, proto, addresses) = if packet[0] >> 4 == 4 {
        (IPV4, packet[9], &packet[12..20])
    } else {
        (IPV6, packet[6], &packet[8..40])
    };
    let length = u32::try_from(packet.len() - header).expect("short");
    let pseudo = match proto {
        6 | 17 | 58 => sum(addresses) + length + u32::from(proto),
        _ => 0,
    };
    (header, proto, pseudo)
}

/// Where the checksum stands in the transport header.
fn field(proto: u8) -> Option<usize> {
    match proto {
        6 => Some(16),
        17 => Some(6),
        1 | 58 => Some(2),
        _ => None,
    }
}

/// Writes the checksums of an IP packet.
pub fn fill(packet: &mut [u8]) {
    let (header, proto, pseudo) = layout(packet);
    if packet[0] >> 4 == 4 {
        packet[10..12].fill(0);
        let check = !folded(sum(&packet[..IPV4]));
        packet[10..12].copy_from_slice(&check.to_be_bytes());
    }
    if let Some(at) = field(proto).map(|f| header + f) {
        packet[at..at + 2].fill(0);
        let check = match !folded(pseudo + sum(&packet[header..])) {
            0 if proto == 17 => 0xffff,
            check => check,
        };
        packet[at..at + 2].copy_from_slice(&check.to_be_bytes());
    }
}

/// What is wrong with the checksums of an IP packet.
pub fn fault(packet: &[u8]) -> Option<&'static str> {
    let (header, proto, pseudo) = layout(packet);
    if packet[0] >> 4 == 4 && folded(sum(&packet[..IPV4])) != 0xffff {
        return Some("header checksum");
    }
    let at = header + field(proto)?;
    let is_absent = proto == 17 && packet[0] >> 4 == 4 && packet[at..at + 2] == [0, 0];
    let is_right = folded(pseudo + sum(&packet[header..])) == 0xffff;
    (!is_absent && !is_right).then_some("transport checksum")
}
