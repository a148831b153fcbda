use std::net::IpAddr;

use super::frames::{Claim, announcement, claim, question};
use super::words;

const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 2];

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// From hex, spaces aside.
fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let pairs = digits.chunks(2);
    pairs
        .map(|p| u8::from_str_radix(std::str::from_utf8(p).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn questions_are_asked_by_nobody() {
    let arp = "ffffffffffff 020000000001 0806 0001 0800 06 04 0001
               020000000001 00000000 000000000000 c0000232";
    assert_eq!(question(addr("192.0.2.50"), OWN), bytes(arp));
    // Checksum by hand: the sum of pseudo header and message is 0x1c4ab without it.
    let solicitation = "3333ff000050 020000000001 86dd 60000000 0018 3a ff
        00000000000000000000000000000000 ff0200000000000000000001ff000050
        8700 5bdc 00000000 20010db8000100000000000000000050";
    let frame = question(addr("2001:db8:1::50"), OWN);
    let mut want = bytes(solicitation);
    want[56..58].copy_from_slice(&frame[56..58]);
    assert_eq!(frame, want);
    assert_eq!(sum(&frame), 0xffff);
}

#[test]
fn announcements_are_for_everybody() {
    let arp = "ffffffffffff 020000000001 0806 0001 0800 06 04 0001
               020000000001 c0000232 000000000000 c0000232";
    assert_eq!(announcement(addr("192.0.2.50"), OWN), bytes(arp));
    let advertisement = "333300000001 020000000001 86dd 60000000 0020 3a ff
        20010db8000100000000000000000050 ff020000000000000000000000000001
        8800 0000 20000000 20010db8000100000000000000000050 0201 020000000001";
    let frame = announcement(addr("2001:db8:1::50"), OWN);
    let mut want = bytes(advertisement);
    want[56..58].copy_from_slice(&frame[56..58]);
    assert_eq!(frame, want);
    assert_eq!(sum(&frame), 0xffff);
}

/// Of an ICMPv6 message with its pseudo header, folded; 0xffff if the checksum is right.
fn sum(frame: &[u8]) -> u32 {
    let length = u32::try_from(frame.len() - 54).unwrap();
    let words = frame[22..].chunks(2);
    let mut sum: u32 = words.map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum();
    sum += length + 58;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

#[test]
fn what_others_say_of_an_address_is_a_claim() {
    for address in ["192.0.2.50", "2001:db8:1::50"].map(addr) {
        let wants = question(address, OTHER);
        let has = announcement(address, OTHER);
        assert_eq!(claim(&wants, address, OWN), Some(Claim::Wants(OTHER)));
        assert_eq!(claim(&has, address, OWN), Some(Claim::Has(OTHER)));
        for frame in [&wants, &has] {
            assert_eq!(claim(frame, address, OTHER), None, "our own, come back");
            for other in ["192.0.2.51", "2001:db8:1::51"] {
                assert_eq!(claim(frame, addr(other), OWN), None);
            }
        }
    }
}

#[test]
fn an_answer_to_our_question_is_a_claim() {
    let arp = "020000000001 020000000002 0806 0001 0800 06 04 0002
               020000000002 c0000232 020000000001 00000000";
    let mut reply = bytes(arp);
    let v4 = addr("192.0.2.50");
    assert_eq!(claim(&reply, v4, OWN), Some(Claim::Has(OTHER)));
    reply.resize(60, 0);
    assert_eq!(claim(&reply, v4, OWN), Some(Claim::Has(OTHER)));
}

#[test]
fn who_only_looks_for_an_address_claims_nothing() {
    let mut asks = question(addr("192.0.2.50"), OTHER);
    asks[28..32].copy_from_slice(&[192, 0, 2, 7]);
    assert_eq!(claim(&asks, addr("192.0.2.50"), OWN), None);
    let v6 = addr("2001:db8:1::50");
    let mut asks = question(v6, OTHER);
    asks[22] = 0xfe;
    assert_eq!(claim(&asks, v6, OWN), None);
}

#[test]
fn torn_and_foreign_frames_claim_nothing() {
    for address in ["192.0.2.50", "2001:db8:1::50"].map(addr) {
        let good = announcement(address, OTHER);
        for length in 0..42 {
            assert_eq!(claim(&good[..length], address, OWN), None);
        }
        let mut foreign = good.clone();
        foreign[13] ^= 1;
        assert_eq!(claim(&foreign, address, OWN), None);
    }
    let v6 = addr("2001:db8:1::50");
    let mut routed = announcement(v6, OTHER);
    routed[21] = 254;
    assert_eq!(claim(&routed, v6, OWN), None);
    assert_eq!(claim(&announcement(v6, OTHER)[..77], v6, OWN), None);
}

#[test]
fn a_mac_reads_as_everywhere() {
    assert_eq!(words([0x52, 0x54, 0, 0, 0xa, 1]), "52:54:00:00:0a:01");
}
