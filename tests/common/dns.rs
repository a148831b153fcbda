//! DNS of the loaded datapath: the tables that names need, and a container that asks its resolver.
//!
//! The resolver is 192.0.2.7 on the wire; the container 10.87.0.2 or 2001:db8:87::2.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd};

use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};
use oci_netkit::kernel::bpf::skel::types;
use oci_netkit::plan::compile::compile;
use oci_netkit::plan::policy::Policy;
use oci_netkit::types::addr::mapped;

use super::datapath::{Answer, Datapath, Outcome};
use super::dns_message::{A, AAAA, Record, answer, query};
use super::oracle;
use super::packet::{Packet, ip, read, tcp, udp};
use super::random::Random;
use super::tables::{bytes_of, create, put, struct_of};

pub const RESOLVER: &str = "192.0.2.7:53";
pub const CONTAINER: &str = "10.87.0.2:4000";

/// Endpoint 0 under these rules.
pub fn with(egress: &str) -> Datapath {
    let mut d = Datapath::new();
    d.keep_denied(0, 64);
    d.names(0, &oracle::policy(egress, ""));
    d
}

/// These rules with a resolver of each family.
pub fn policy_of_both(egress: &str) -> Policy {
    let mut policy = oracle::policy(egress, "");
    let resolver = "2001:db8:1::7".parse().expect("an address");
    policy.places.resolvers.push(resolver);
    policy
}

/// As [`with`], with a resolver of each family.
pub fn with_both(egress: &str) -> Datapath {
    let mut d = Datapath::new();
    d.names(0, &policy_of_both(egress));
    d
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

/// A query of the container's to its resolver.
pub fn ask(d: &mut Datapath, message: &[u8]) -> Answer {
    d.sends(0, &datagram(CONTAINER, RESOLVER, message))
}

/// A query as it left: its id and port, which are the resolver's to answer to.
#[track_caller]
pub fn asked(d: &mut Datapath, message: &[u8]) -> Packet {
    let sent = ask(d, message);
    assert_eq!(sent.outcome, Outcome::Redirect);
    read(&sent.frame)
}

/// The resolver's answer to what left.
pub fn reply(left: &Packet, message: &[u8]) -> Packet {
    let mut back = left.reply();
    back.transport.truncate(8);
    back.transport.extend(&left.transport[8..10]);
    back.transport.extend(&message[2..]);
    let length = u16::try_from(back.transport.len()).expect("short");
    back.transport[4..6].copy_from_slice(&length.to_be_bytes());
    back.summed()
}

/// Asks and gets an answer with these records, which comes back as the container's own.
#[track_caller]
pub fn resolve(d: &mut Datapath, of: &str, records: &[Record]) {
    let kind = records
        .iter()
        .map(|r| r.kind)
        .find(|k| *k == AAAA)
        .unwrap_or(A);
    let question = query(0x1234, of, kind);
    let left = asked(d, &question);
    let message = answer(&question, records);
    let got = d.arrives(0, &reply(&left, &message));
    assert_eq!(got.outcome, Outcome::Redirect);
    let back = read(&got.frame);
    assert_eq!(back.transport[2..4], 4000u16.to_be_bytes(), "its own port");
    assert_eq!(
        back.transport[8..],
        message,
        "its own id, and nothing else changed"
    );
}

/// How many random packets a test takes: NK_PACKETS, or else so many.
pub fn rounds(usual: usize) -> usize {
    std::env::var("NK_PACKETS").map_or(usual, |n| n.parse().expect("a number"))
}

/// Whether a SYN leaves; if not, rules are the reason.
pub fn connects(d: &mut Datapath, to: &str) -> bool {
    let from = if to.starts_with('[') {
        "[2001:db8:87::2]:5000"
    } else {
        "10.87.0.2:5000"
    };
    let sent = d.sends(0, &tcp(from, to));
    assert!(
        matches!(
            sent.outcome,
            Outcome::Redirect
                | Outcome::Drop(
                    "no-rule" | "other-network" | "containers" | "host" | "metadata" | "deny-rule"
                )
        ),
        "{to}: {sent:?}"
    );
    sent.outcome == Outcome::Redirect
}

/// One random edit of a message.
pub fn mutate(r: &mut Random, message: &mut Vec<u8>) {
    match r.below(6) {
        0 => {
            let at = r.below(message.len());
            message[at] = u8::try_from(r.below(256)).expect("a byte");
        }
        1 => {
            let at = r.below(message.len());
            message[at] ^= 1 << r.below(8);
        }
        2 => message.truncate(12 + r.below(message.len() - 11)),
        3 => {
            let at = r.below(message.len());
            message.insert(at, *r.pick(&[0, 0xc0, 12, 1, 63, 64, 255]));
        }
        4 => {
            let at = r.below(message.len());
            message.remove(at);
        }
        _ => {
            let at = r.below(message.len());
            message[at] = *r.pick(&[0, 1, 4, 16, 0x3f, 0x40, 0x80, 0xc0, 0xff]);
        }
    }
    message.resize(message.len().max(12), 0);
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

    /// Makes what was asked look as if that had been so long ago.
    pub fn age_queries(&self, id: u32, seconds: u64) {
        let table = self.inner(&self.skel.maps.nk_queries, id);
        let ticks = u32::try_from((seconds * 1_000_000_000) >> 24).expect("short");
        for key in table.keys() {
            let value = table.lookup(&key, MapFlags::ANY).expect("look up");
            let mut query: types::nk_query = struct_of(&value.expect("it stays"));
            query.asked = query.asked.wrapping_sub(ticks);
            let written = table.update(&key, bytes_of(&query), MapFlags::EXIST);
            written.expect("write back");
        }
    }

    /// How many queries wait for an answer.
    pub fn waiting(&self, id: u32) -> usize {
        self.inner(&self.skel.maps.nk_queries, id).keys().count()
    }
}
