//! ARP for IPv4 over Ethernet (RFC 826) and neighbour discovery (RFC 4861) as bytes: what we say,
//! and what others' frames claim. Touches no socket.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Link-layer address.
pub(super) type Mac = [u8; 6];

const ETHERNET: usize = 14;
const IPV6: usize = 40;
/// Where the classic filter looks.
pub(super) const NEXT_HEADER_AT: u32 = 14 + 6;
pub(super) const TYPE_AT: u32 = 14 + 40;

pub(super) const ICMPV6: u8 = 58;
pub(super) const SOLICITATION: u8 = 135;
pub(super) const ADVERTISEMENT: u8 = 136;

/// Hardware, protocol and their lengths: Ethernet and IPv4.
const ARP_KIND: [u8; 6] = [0, 1, 0x08, 0x00, 6, 4];
const ARP_BYTES: usize = 28;
const REQUEST: u8 = 1;

const BROADCAST: Mac = [0xff; 6];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];
/// From this very link, or a router would have lowered it (RFC 4861, 7.1).
const HOPS: u8 = 255;
/// RFC 4861, 4.4.
const OVERRIDE: u8 = 0x20;
const TARGET_MAC: [u8; 2] = [2, 1];

/// What somebody else says of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// It is theirs.
    Has(Mac),
    /// They are asking whether it is free, too.
    Wants(Mac),
}

/// Who has it? Asked by nobody in particular: an ARP probe (RFC 5227, 2.1.1), a solicitation for
/// duplicate detection (RFC 4862, 5.4.2).
pub(super) fn question(address: IpAddr, own: Mac) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => arp_request(own, Ipv4Addr::UNSPECIFIED, v4),
        IpAddr::V6(v6) => {
            let from = Ipv6Addr::UNSPECIFIED;
            let to = (group_mac(v6), group(v6));
            discovery(own, from, to, SOLICITATION, 0, v6, &[])
        }
    }
}

/// It lives here: an ARP announcement (RFC 5227, 2.3), an unsolicited advertisement (RFC 4861,
/// 7.2.6).
pub(super) fn announcement(address: IpAddr, own: Mac) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => arp_request(own, v4, v4),
        IpAddr::V6(v6) => {
            let option = [&TARGET_MAC[..], &own].concat();
            let to = (ALL_NODES_MAC, ALL_NODES);
            discovery(own, v6, to, ADVERTISEMENT, OVERRIDE, v6, &option)
        }
    }
}

/// What a frame of somebody else says of an address. Frames of our own come back from some
/// switches.
pub(super) fn claim(frame: &[u8], address: IpAddr, own: Mac) -> Option<Claim> {
    match address {
        IpAddr::V4(v4) => arp_claim(frame, v4, own),
        IpAddr::V6(v6) => discovery_claim(frame, v6, own),
    }
}

fn arp_request(own: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = [BROADCAST, own].concat();
    frame.extend([0x08, 0x06]);
    frame.extend(ARP_KIND);
    frame.extend([0, REQUEST]);
    frame.extend(own);
    frame.extend(sender.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    frame
}

/// RFC 5227, 2.1.1: any ARP from the address, or another's probe for it.
fn arp_claim(frame: &[u8], address: Ipv4Addr, own: Mac) -> Option<Claim> {
    let arp = frame.get(ETHERNET..ETHERNET + ARP_BYTES)?;
    let mac: Mac = arp[8..14].try_into().ok()?;
    if frame[12..14] != [0x08, 0x06] || arp[..6] != ARP_KIND || mac == own {
        return None;
    }
    let (sender, target) = (&arp[14..18], &arp[24..28]);
    let is_probe = arp[6..8] == [0, REQUEST] && sender == [0; 4];
    if sender == address.octets() {
        Some(Claim::Has(mac))
    } else if is_probe && target == address.octets() {
        Some(Claim::Wants(mac))
    } else {
        None
    }
}

fn discovery(
    own: Mac,
    from: Ipv6Addr,
    to: (Mac, Ipv6Addr),
    kind: u8,
    flags: u8,
    target: Ipv6Addr,
    option: &[u8],
) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, flags, 0, 0, 0];
    message.extend(target.octets());
    message.extend(option);
    let sum = checksum(from, to.1, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = [to.0, own].concat();
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    // At most 32 bytes.
    frame.extend(u16::try_from(message.len()).unwrap_or(0).to_be_bytes());
    frame.extend([ICMPV6, HOPS]);
    frame.extend(from.octets());
    frame.extend(to.1.octets());
    frame.extend(message);
    frame
}

/// RFC 4862, 5.4.3 and 5.4.4: an advertisement of the address, or another's duplicate detection.
fn discovery_claim(frame: &[u8], address: Ipv6Addr, own: Mac) -> Option<Claim> {
    let ip = frame.get(ETHERNET..ETHERNET + IPV6)?;
    let message = frame.get(ETHERNET + IPV6..)?;
    let mac: Mac = frame[6..12].try_into().ok()?;
    let is_discovery = frame[12..14] == [0x86, 0xdd] && ip[6] == ICMPV6 && ip[7] == HOPS;
    if !is_discovery || mac == own || message.get(8..24)? != address.octets() {
        return None;
    }
    match message[0] {
        ADVERTISEMENT => Some(Claim::Has(mac)),
        SOLICITATION if ip[8..24] == [0; 16] => Some(Claim::Wants(mac)),
        _ => None,
    }
}

/// Solicited-node group (RFC 4291, 2.7.1).
fn group(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    let mut group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0).octets();
    group[13..].copy_from_slice(&[a, b, c]);
    Ipv6Addr::from(group)
}

/// Of that group (RFC 2464, 7).
pub(super) fn group_mac(address: Ipv6Addr) -> Mac {
    let [.., a, b, c] = address.octets();
    [0x33, 0x33, 0xff, a, b, c]
}

/// With the pseudo header (RFC 8200, 8.1). `message` has an even length.
fn checksum(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let words = |bytes: &[u8]| -> u32 {
        let pairs = bytes.chunks_exact(2);
        pairs.map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum()
    };
    let length = u32::try_from(message.len()).unwrap_or(0);
    let mut sum =
        words(&from.octets()) + words(&to.octets()) + length + u32::from(ICMPV6) + words(message);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}
