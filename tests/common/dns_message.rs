//! DNS messages as bytes: how they are made, and what they mean. A reference of its own, which
//! allocates as it likes and shares no line with bpf/dns_*.h. Only the standard library: the fuzz
//! target includes this file.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub const A: u16 = 1;
pub const CNAME: u16 = 5;
pub const TXT: u16 = 16;
pub const AAAA: u16 = 28;
pub const SRV: u16 = 33;
pub const OPT: u16 = 41;
pub const HTTPS: u16 = 65;
pub const IXFR: u16 = 251;
pub const AXFR: u16 = 252;
pub const ANY: u16 = 255;

/// Most records of an answer section, and most addresses of them.
pub const RECORDS: u16 = 128;
pub const ADDRESSES: usize = 64;

/// Labels in wire format, which may hold anything.
pub fn wire(labels: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in labels.iter().map(AsRef::as_ref) {
        wire.push(u8::try_from(label.len()).expect("a label"));
        wire.extend_from_slice(label);
    }
    wire.push(0);
    wire
}

/// A name in wire format.
pub fn name(text: &str) -> Vec<u8> {
    let labels: Vec<&str> = text.split('.').filter(|l| !l.is_empty()).collect();
    wire(&labels)
}

fn header(id: u16, flags: u16, counts: [u16; 4]) -> Vec<u8> {
    let words = [id, flags].into_iter().chain(counts);
    words.flat_map(u16::to_be_bytes).collect()
}

/// A plain query for a name in wire format.
pub fn query_for(id: u16, name: &[u8], kind: u16) -> Vec<u8> {
    let mut message = header(id, 0x0100, [1, 0, 0, 0]);
    message.extend(name);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    message
}

/// A plain query, as libc sends it.
pub fn query(id: u16, of: &str, kind: u16) -> Vec<u8> {
    query_for(id, &name(of), kind)
}

/// With an OPT record (RFC 6891).
pub fn with_edns(mut query: Vec<u8>, bytes: u16) -> Vec<u8> {
    query[11] = 1;
    query.extend([0, 0, 41]);
    query.extend(bytes.to_be_bytes());
    query.extend([0; 6]);
    query
}

/// With the length in front that TCP wants.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).expect("short");
    [&length.to_be_bytes()[..], message].concat()
}

/// One record; an owner is in wire format, and by default a pointer to the question's name.
#[derive(Clone, Debug)]
pub struct Record {
    pub owner: Vec<u8>,
    pub kind: u16,
    pub class: u16,
    pub ttl: u32,
    pub data: Vec<u8>,
}

impl Record {
    pub fn of(address: IpAddr, ttl: u32) -> Self {
        let (kind, data) = match address {
            IpAddr::V4(v4) => (A, v4.octets().to_vec()),
            IpAddr::V6(v6) => (AAAA, v6.octets().to_vec()),
        };
        Self {
            owner: vec![0xc0, 12],
            kind,
            class: 1,
            ttl,
            data,
        }
    }

    pub fn address(text: &str, ttl: u32) -> Self {
        Self::of(text.parse().expect("an address"), ttl)
    }

    pub fn cname(to: &str) -> Self {
        Self {
            kind: CNAME,
            data: name(to),
            ..Self::address("192.0.2.1", 60)
        }
    }

    pub fn owned(self, owner: &[u8]) -> Self {
        Self {
            owner: owner.to_vec(),
            ..self
        }
    }
}

/// The answer to a query, with these records.
pub fn answer(query: &[u8], records: &[Record]) -> Vec<u8> {
    let end = skip_name(query, 12, false).expect("a name") + 4;
    let mut message = query[..end].to_vec();
    message[2..4].copy_from_slice(&[0x81, 0x80]);
    message[6..8].copy_from_slice(&u16::try_from(records.len()).expect("few").to_be_bytes());
    message[11] = 0;
    for record in records {
        message.extend(&record.owner);
        message.extend(record.kind.to_be_bytes());
        message.extend(record.class.to_be_bytes());
        message.extend(record.ttl.to_be_bytes());
        let length = u16::try_from(record.data.len()).expect("short");
        message.extend(length.to_be_bytes());
        message.extend(&record.data);
    }
    message
}

fn word(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([
        *message.get(at)?,
        *message.get(at + 1)?,
    ]))
}

/// Where a name ends. Where it points to does not matter: only the question's name counts.
fn skip_name(message: &[u8], mut at: usize, may_point: bool) -> Option<usize> {
    for _ in 0..128 {
        match *message.get(at)? {
            0 => return Some(at + 1),
            0xc0.. if may_point => return (at + 2 <= message.len()).then_some(at + 2),
            n @ 1..=63 => at += 1 + usize::from(n),
            _ => return None,
        }
    }
    None
}

/// What a query asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub labels: Vec<Vec<u8>>,
    pub kind: u16,
    /// Where the question ends in the message.
    pub end: usize,
}

/// The question of one plain query, which is all of the message but for an OPT record; `None` for
/// any other message.
pub fn plain(message: &[u8]) -> Option<Question> {
    let counts = [4, 6, 8, 10].map(|at| word(message, at));
    let additional = match counts {
        [Some(1), Some(0), Some(0), Some(n @ 0..=1)] => n,
        _ => return None,
    };
    if word(message, 2)? & !0x0130 != 0 || message.len() > 512 {
        return None;
    }
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        match length {
            0 => break,
            1..=63 => labels.push(message.get(at..at + length)?.to_vec()),
            _ => return None,
        }
        at += length;
    }
    let (kind, class) = (word(message, at)?, word(message, at + 2)?);
    if labels.is_empty() || at - 12 > 255 || class != 1 {
        return None;
    }
    let end = at + 4;
    let whole = if additional == 0 {
        end
    } else {
        if message.get(end) != Some(&0) || word(message, end + 1)? != OPT {
            return None;
        }
        end + 11 + usize::from(word(message, end + 9)?)
    };
    (whole == message.len()).then_some(Question { labels, kind, end })
}

/// What of an answer is to be learned: addresses with TTL; `None` for one that is malformed or not
/// about what was `asked`, a plain query.
pub fn taught(asked: &[u8], answer: &[u8]) -> Option<Vec<(IpAddr, u32)>> {
    let Question { kind, end, .. } = plain(asked)?;
    let flags = word(answer, 2)?;
    if flags & 0xf800 != 0x8000 || word(answer, 4)? != 1 {
        return None;
    }
    if !answer.get(12..end)?.eq_ignore_ascii_case(&asked[12..end]) {
        return None;
    }
    if flags & 0x020f != 0 || (kind != A && kind != AAAA) {
        return Some(Vec::new());
    }
    let count = word(answer, 6)?;
    if count > RECORDS {
        return None;
    }
    let (mut at, mut found) = (end, Vec::new());
    for _ in 0..count {
        at = skip_name(answer, at, true)?;
        let ttl = u32::from_be_bytes(answer.get(at + 4..at + 8)?.try_into().ok()?);
        let length = usize::from(word(answer, at + 8)?);
        let (this, class) = (word(answer, at)?, word(answer, at + 2)?);
        let data = answer.get(at + 10..at + 10 + length)?;
        at += 10 + length;
        if class != 1 || this != kind {
            continue;
        }
        let address: IpAddr = match (kind, data.len()) {
            (A, 4) => Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).into(),
            (AAAA, 16) => Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).into(),
            _ => return None,
        };
        let is_mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
        if !is_mapped && found.len() < ADDRESSES {
            found.push((address, ttl));
        }
    }
    Some(found)
}
