//! The tests' own reading of DNS, which the BPF programs are held against: questions keep the limits
//! of RFC 1035, and an answer teaches what its records say, no more. The first two bytes are the
//! length of the query, which the answer follows.
#![no_main]

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../common/dns_message.rs"]
mod dns_message;

use std::net::IpAddr;

use dns_message::{
    A, AAAA, ADDRESSES, Question, RECORDS, Record, answer, plain, query_for, taught, wire,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((length, rest)) = bytes.split_first_chunk() else {
        return;
    };
    let Some((asked, reply)) = rest.split_at_checked(u16::from_be_bytes(*length).into()) else {
        return;
    };
    let Some(question) = plain(asked) else {
        assert_eq!(taught(asked, reply), None);
        return;
    };
    check_question(&question, asked);
    if let Some(found) = taught(asked, reply) {
        check_lesson(&question, asked, reply, &found);
    }
});

/// RFC 1035, 2.3.4.
fn check_question(question: &Question, asked: &[u8]) {
    let name = wire(&question.labels);
    assert!((3..=255).contains(&name.len()) && question.labels.len() <= 127);
    assert!(question.labels.iter().all(|l| (1..=63).contains(&l.len())));
    let again = query_for(0, &name, question.kind);
    assert_eq!(again[12..], asked[12..question.end]);
    assert_eq!(plain(&again).as_ref(), Some(question));
}

fn check_lesson(question: &Question, asked: &[u8], reply: &[u8], found: &[(IpAddr, u32)]) {
    let count = u16::from_be_bytes([reply[6], reply[7]]);
    assert!(found.len() <= usize::from(count) && found.len() <= ADDRESSES);
    assert!(found.is_empty() || count <= RECORDS);
    // An owner of one byte, ten of the record, and the address.
    let size = if question.kind == A { 15 } else { 27 };
    assert!(question.end + found.len() * size <= reply.len());
    for (address, _) in found {
        assert_eq!(question.kind, if address.is_ipv4() { A } else { AAAA });
        assert_eq!(*address, address.to_canonical(), "IPv4 in an AAAA record");
    }
    let records: Vec<Record> = found.iter().map(|(a, ttl)| Record::of(*a, *ttl)).collect();
    assert_eq!(
        taught(asked, &answer(asked, &records)).as_deref(),
        Some(found)
    );
    // A cut answer is malformed, or only lost what teaches nothing.
    for end in question.end.max(reply.len().saturating_sub(64))..reply.len() {
        if let Some(less) = taught(asked, &reply[..end]) {
            assert_eq!(less, found);
        }
    }
}
