//! DNS messages, and what an answer should teach: a reference of its own, which follows compression,
//! allocates as it likes and shares no line with bpf/dns_*.h.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd};

use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};
use oci_netkit::kernel::bpf::skel::types;
use oci_netkit::plan::compile::compile;
use oci_netkit::plan::policy::Policy;
use oci_netkit::types::addr::mapped;

use super::datapath::{Datapath, create, put, struct_of};
use super::packet::{Packet, ip, udp};

pub const A: u16 = 1;
pub const CNAME: u16 = 5;
pub const TXT: u16 = 16;
pub const AAAA: u16 = 28;
pub const SRV: u16 = 33;
pub const HTTPS: u16 = 65;
pub const ANY: u16 = 255;

/// Wire format; labels may hold anything.
pub fn name(text: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in text.split('.').filter(|l| !l.is_empty()) {
        wire.push(u8::try_from(label.len()).expect("a label"));
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    wire
}

fn header(id: u16, flags: u16, counts: [u16; 4]) -> Vec<u8> {
    let words = [id, flags].into_iter().chain(counts);
    words.flat_map(u16::to_be_bytes).collect()
}

/// A plain query, as libc sends it.
pub fn query(id: u16, of: &str, kind: u16) -> Vec<u8> {
    let mut message = header(id, 0x0100, [1, 0, 0, 0]);
    message.extend(name(of));
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    message
}

/// With an OPT record (RFC 6891).
pub fn with_edns(mut query: Vec<u8>, bytes: u16) -> Vec<u8> {
    query[11] = 1;
    query.extend([0, 0, 41]);
    query.extend(bytes.to_be_bytes());
    query.extend([0; 6]);
    query
}

/// One record; an empty owner is a pointer to the question's name.
#[derive(Clone, Debug)]
pub struct Record {
    pub owner: Vec<u8>,
    pub kind: u16,
    pub class: u16,
    pub ttl: u32,
    pub data: Vec<u8>,
}

impl Record {
    pub fn address(text: &str, ttl: u32) -> Self {
        let (kind, data) = match text.parse().expect("an address") {
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

    pub fn cname(to: &str) -> Self {
        Self {
            kind: CNAME,
            data: name(to),
            ..Self::address("192.0.2.1", 60)
        }
    }
}

/// The answer to a query, with these records.
pub fn answer(query: &[u8], records: &[Record]) -> Vec<u8> {
    let end = 12 + query[12..].iter().position(|b| *b == 0).expect("a root") + 5;
    let mut message = query[..end].to_vec();
    message[2..4].copy_from_slice(&[0x81, 0x80]);
    message[6..8].copy_from_slice(&u16::try_from(records.len()).expect("few").to_be_bytes());
    message[11] = 0;
    for record in records {
        message.extend(&record.owner);
        message.extend(record.kind.to_be_bytes());
        message.extend(record.class.to_be_bytes());
        message.extend(record.ttl.to_be_bytes());
        message.extend(
            u16::try_from(record.data.len())
                .expect("short")
                .to_be_bytes(),
        );
        message.extend(&record.data);
    }
    message
}

/// UDP with this payload.
pub fn datagram(from: &str, to: &str, message: &[u8]) -> Packet {
    let mut packet = udp(from, to);
    packet.transport.truncate(8);
    packet.transport.extend(message);
    let length = u16::try_from(packet.transport.len()).expect("short");
    packet.transport[4..6].copy_from_slice(&length.to_be_bytes());
    packet.summed()
}

/// A data segment of TCP with this payload.
pub fn segment(from: &str, to: &str, payload: &[u8]) -> Packet {
    let tcp = super::packet::tcp(from, to).flags(super::packet::ACK);
    let mut transport = tcp.transport.clone();
    transport.extend(payload);
    ip(tcp.source, tcp.destination, 6, transport).summed()
}

/// With the length in front that TCP wants.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).expect("short");
    [&length.to_be_bytes()[..], message].concat()
}

/// What of an answer is to be learned: addresses with TTL; `None` for one that is malformed. `asked`
/// is the query.
pub fn reference(asked: &[u8], answer: &[u8]) -> Option<Vec<(IpAddr, u32)>> {
    let word = |m: &[u8], at: usize| Some(u16::from_be_bytes([*m.get(at)?, *m.get(at + 1)?]));
    let skip_name = |m: &[u8], mut at: usize, may_point: bool| -> Option<usize> {
        for _ in 0..128 {
            match *m.get(at)? {
                0 => return Some(at + 1),
                n @ 0xc0.. if may_point => {
                    let _ = n;
                    return (at + 2 <= m.len()).then_some(at + 2);
                }
                n @ 1..=63 => at += 1 + usize::from(n),
                _ => return None,
            }
        }
        None
    };
    let end = skip_name(asked, 12, false)? + 4;
    let question = asked.get(12..end)?;
    let flags = word(answer, 2)?;
    if flags & 0xf800 != 0x8000 || word(answer, 4)? != 1 {
        return None;
    }
    let theirs = answer.get(12..end)?;
    if !theirs.eq_ignore_ascii_case(question) {
        return None;
    }
    let kind = word(question, question.len() - 4)?;
    if flags & 0x020f != 0 || (kind != A && kind != AAAA) {
        return Some(Vec::new());
    }
    let count = word(answer, 6)?;
    if count > 128 {
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
        if !is_mapped && found.len() < 64 {
            found.push((address, ttl));
        }
    }
    Some(found)
}

impl Datapath {
    /// Puts the names of a policy in force that `policy` is to be called with next, and gives the
    /// endpoint the tables for them.
    pub fn names(&mut self, id: u32, policy: &Policy) {
        let lru = |key: usize, value: usize| create(MapType::LruHash, key, value, 4096, 0);
        let maps = &self.skel.maps;
        let names = compile(policy).expect("names compile").names;
        let slot = 2 * id + self.epoch % 2;
        if let Some(names) = names {
            let trie = create(
                MapType::LpmTrie,
                size_of::<types::nk_name_key>(),
                size_of::<types::nk_name_rule>(),
                u32::try_from(names.len()).expect("few").max(1),
                1,
            );
            for entry in &names {
                let mut key = types::nk_name_key {
                    prefixlen: u32::try_from(8 * entry.key.len()).expect("short"),
                    ..Default::default()
                };
                key.name[..entry.key.len()].copy_from_slice(&entry.key);
                let rule = types::nk_name_rule {
                    exact: entry.exact,
                    one: entry.one,
                    deep: entry.deep,
                    labels: entry.labels,
                    ..Default::default()
                };
                put(&trie, &key, &rule);
            }
            put(&maps.nk_names, &slot, &trie.as_fd().as_raw_fd());
        } else {
            let _ = maps.nk_names.delete(&slot.to_ne_bytes());
        }
        let is_new = maps
            .nk_learned
            .lookup(&id.to_ne_bytes(), MapFlags::ANY)
            .expect("look up")
            .is_none();
        if is_new {
            let tables = [
                lru(
                    size_of::<types::nk_query_key>(),
                    size_of::<types::nk_query>(),
                ),
                lru(8, size_of::<types::nk_resolved>()),
                lru(16, size_of::<types::nk_learned>()),
                lru(8, size_of::<types::nk_refused>()),
            ];
            for (outer, table) in [
                &maps.nk_queries,
                &maps.nk_resolved,
                &maps.nk_learned,
                &maps.nk_refused,
            ]
            .into_iter()
            .zip(&tables)
            {
                put(outer, &id, &table.as_fd().as_raw_fd());
            }
        }
        self.policy(id, policy);
    }

    fn inner(&self, outer: &impl MapCore, id: u32) -> MapHandle {
        let found = outer.lookup(&id.to_ne_bytes(), MapFlags::ANY);
        let map_id = found.expect("look up").expect("it is there");
        let map_id = u32::from_ne_bytes(map_id.try_into().expect("an id"));
        MapHandle::from_map_id(map_id).expect("open the table")
    }

    /// Addresses that an endpoint learned, with the tick at which the first name's time is over.
    pub fn learned(&self, id: u32) -> HashMap<IpAddr, Vec<types::nk_learned_name>> {
        let table = self.inner(&self.skel.maps.nk_learned, id);
        let entry = |key: Vec<u8>| {
            let value = table.lookup(&key, MapFlags::ANY).expect("look up");
            let value: types::nk_learned = struct_of(&value.expect("it stays"));
            let bytes: [u8; 16] = key.try_into().expect("an address");
            let names = value.names.iter().copied().filter(|n| n.name != 0);
            (Ipv6Addr::from(bytes).to_canonical(), names.collect())
        };
        table.keys().map(entry).collect()
    }

    /// Lets what was learned of an address be over.
    pub fn forget_in_time(&self, id: u32, address: &str) {
        let table = self.inner(&self.skel.maps.nk_learned, id);
        let key = mapped(address.parse().expect("an address"));
        let value = table
            .lookup(&key, MapFlags::ANY)
            .expect("look up")
            .expect("learned");
        let mut value: types::nk_learned = struct_of(&value);
        for name in &mut value.names {
            name.expires = super::datapath::tick();
        }
        put(&table, &key, &value);
    }

    /// Refused names do not exist, as the config may say.
    pub fn answer_nxdomain(&self, id: u32) {
        let found = self
            .skel
            .maps
            .nk_endpoints
            .lookup(&id.to_ne_bytes(), MapFlags::ANY);
        let mut endpoint: types::nk_endpoint = struct_of(&found.expect("look up").expect("there"));
        endpoint.flags |= types::nk_endpoint_flags::NK_ENDPOINT_NXDOMAIN.0;
        put(&self.skel.maps.nk_endpoints, &id, &endpoint);
    }

    pub fn forget_all(&self, id: u32) {
        let table = self.inner(&self.skel.maps.nk_learned, id);
        for key in table.keys() {
            table.delete(&key).expect("forget");
        }
    }

    /// How many queries wait for an answer.
    pub fn waiting(&self, id: u32) -> usize {
        self.inner(&self.skel.maps.nk_queries, id).keys().count()
    }
}
