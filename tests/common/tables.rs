//! The maps of the loaded datapath: what the hook writes there, written by tests.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};

use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};
use oci_netkit::kernel::bpf::maps::encode_rule;
use oci_netkit::kernel::bpf::skel::types;
use oci_netkit::plan::compile::compile;
use oci_netkit::plan::policy::Policy;
use oci_netkit::types::addr::mapped;

use super::datapath::{ADDRESSES, Datapath, MTU, UP0_MAC, next_jiffy};
use super::oracle;
use super::packet::addr;

/// The bytes of a plain ABI struct.
pub fn bytes_of<T: Copy>(value: &T) -> &[u8] {
    // SAFETY: ABI structs have named padding only, so every byte is initialised.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

pub(super) fn bytes_of_mut<T: Copy>(value: &mut T) -> &mut [u8] {
    // SAFETY: as in `bytes_of`; what the kernel writes are integers again.
    unsafe { std::slice::from_raw_parts_mut(std::ptr::from_mut(value).cast(), size_of::<T>()) }
}

/// An ABI struct from its bytes.
pub fn struct_of<T: Copy + Default>(bytes: &[u8]) -> T {
    assert_eq!(bytes.len(), size_of::<T>());
    // SAFETY: ABI structs hold integers only, so any bytes of the right length are one.
    unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) }
}

pub fn put<K: Copy, V: Copy>(map: &impl MapCore, key: &K, value: &V) {
    map.update(bytes_of(key), bytes_of(value), MapFlags::ANY)
        .unwrap_or_else(|e| panic!("update {:?}: {e}", map.name()));
}

pub(super) fn create(
    kind: MapType,
    key: usize,
    value: usize,
    entries: u32,
    flags: u32,
) -> MapHandle {
    let opts = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
        map_flags: flags,
        ..Default::default()
    };
    MapHandle::create(
        kind,
        Some("nk_test"),
        key as u32,
        value as u32,
        entries,
        &opts,
    )
    .expect("create an inner map")
}

fn flow_table(entries: u32) -> MapHandle {
    create(
        MapType::LruHash,
        size_of::<types::nk_flow_key>(),
        size_of::<types::nk_flow>(),
        entries,
        0,
    )
}

impl Datapath {
    /// An endpoint with nothing special about it.
    pub(super) fn endpoint(&self, id: u32) -> types::nk_endpoint {
        types::nk_endpoint {
            primary_ifindex: self.ifindex.primary[id as usize],
            peer_ifindex: self.ifindex.peer[id as usize],
            mtu_bytes: MTU,
            ..Default::default()
        }
    }

    fn owner(&self, id: u32, local_index: u8) -> types::nk_addr {
        types::nk_addr {
            endpoint_id: id,
            primary_ifindex: self.ifindex.primary[id as usize],
            peer_ifindex: self.ifindex.peer[id as usize],
            local_index,
            ..Default::default()
        }
    }

    pub(super) fn own_addresses(&self, id: u32, flags: types::nk_addr_flags) {
        for (local_index, text) in (0u8..).zip(ADDRESSES[id as usize]) {
            let owner = types::nk_addr {
                flags: u8::try_from(flags.0).expect("eight bits"),
                ..self.owner(id, local_index)
            };
            put(&self.skel.maps.nk_addrs, &mapped(addr(text)), &owner);
        }
        next_jiffy();
    }

    /// What the endpoint sends costs `mib_ns` for 2^20 bytes, at most so far ahead of the clock.
    pub fn rate_egress(&self, id: u32, mib_ns: u64, burst_ns: u64) {
        let endpoint = types::nk_endpoint {
            rate_mib_ns: mib_ns,
            rate_burst_ns: burst_ns,
            ..self.endpoint(id)
        };
        put(&self.skel.maps.nk_endpoints, &id, &endpoint);
        self.own_addresses(id, types::nk_addr_flags::NK_ADDR_RATE_EGRESS);
    }

    /// What the endpoint gets from the wire passes the primary's queue.
    pub fn rate_ingress(&self, id: u32) {
        let endpoint = types::nk_endpoint {
            flags: types::nk_endpoint_flags::NK_ENDPOINT_RATE_INGRESS.0,
            ..self.endpoint(id)
        };
        put(&self.skel.maps.nk_endpoints, &id, &endpoint);
        self.own_addresses(id, types::nk_addr_flags::NK_ADDR_RATE_INGRESS);
    }

    /// Endpoints beside the two, so that there are `count`, each with an address. Tables are found by an
    /// index, whoever has others: they have none.
    pub fn crowd(&self, count: u32) {
        for id in 2..count {
            let primary_ifindex = 10_000 + id;
            let endpoint = types::nk_endpoint {
                primary_ifindex,
                mtu_bytes: MTU,
                ..Default::default()
            };
            let owner = types::nk_addr {
                endpoint_id: id,
                primary_ifindex,
                ..Default::default()
            };
            let [_, _, high, low] = id.to_be_bytes();
            let address = Ipv4Addr::new(10, 88, high, low);
            let maps = &self.skel.maps;
            put(&maps.nk_endpoints, &id, &endpoint);
            put(&maps.nk_ifindexes, &primary_ifindex, &id);
            put(&maps.nk_addrs, &mapped(address.into()), &owner);
        }
        next_jiffy();
    }

    /// Replaces a flow table, so that its flows are gone.
    pub fn new_flow_table(&self, id: u32, opener: u32, entries: u32) {
        let table = flow_table(entries);
        put(
            &self.skel.maps.nk_flows,
            &(2 * id + opener),
            &table.as_fd().as_raw_fd(),
        );
        next_jiffy();
    }

    /// Loads rules for both directions and switches over to them.
    pub fn rules(&mut self, id: u32, egress: &str, ingress: &str) {
        self.policy(id, &oracle::policy(egress, ingress));
    }

    pub fn policy(&mut self, id: u32, policy: &Policy) {
        let entries = compile(policy).expect("rules compile").rules;
        let slot = 2 * id + self.epoch % 2;
        self.epoch += 1;
        let trie = create(
            MapType::LpmTrie,
            size_of::<types::nk_rule_key>(),
            size_of::<types::nk_rule>(),
            u32::try_from(entries.len()).expect("few rules").max(1),
            1, // BPF_F_NO_PREALLOC, which the kernel wants of tries
        );
        for entry in &entries {
            let (key, value) = encode_rule(entry);
            put(&trie, &key, &value);
        }
        put(&self.skel.maps.nk_rules, &slot, &trie.as_fd().as_raw_fd());
        self.policy_word(id, u64::from(slot) << 32 | u64::from(self.epoch));
    }

    pub fn policy_word(&self, id: u32, word: u64) {
        put(&self.skel.maps.nk_policy, &id, &word);
    }

    pub fn flows(&self, id: u32, opener: u32) -> MapHandle {
        let fd = self
            .skel
            .maps
            .nk_flows
            .lookup(&(2 * id + opener).to_ne_bytes(), MapFlags::ANY)
            .expect("look up a flow table")
            .expect("it is there");
        MapHandle::from_map_id(u32::from_ne_bytes(fd.try_into().expect("an id")))
            .expect("open the flow table")
    }

    /// Changes every flow of a table.
    pub fn edit_flows(&self, id: u32, opener: u32, edit: impl Fn(&mut types::nk_flow)) -> usize {
        let table = self.flows(id, opener);
        let keys: Vec<Vec<u8>> = table.keys().collect();
        for key in &keys {
            let old = table
                .lookup(key, MapFlags::ANY)
                .expect("look up")
                .expect("a flow");
            let mut flow: types::nk_flow = struct_of(&old);
            edit(&mut flow);
            table
                .update(key, bytes_of(&flow), MapFlags::ANY)
                .expect("write back");
        }
        next_jiffy();
        keys.len()
    }

    /// Takes every flow out of a table, within the jiffy if the machine is quick.
    pub fn end_flows(&self, id: u32, opener: u32) {
        let table = self.flows(id, opener);
        for key in table.keys().collect::<Vec<_>>() {
            table.delete(&key).expect("it was there");
        }
    }

    /// Makes every flow of a table look as if it had been silent for so long.
    pub fn age_flows(&self, id: u32, opener: u32, seconds: u64) -> usize {
        let ticks = u32::try_from((seconds * 1_000_000_000) >> 24).expect("short");
        self.edit_flows(id, opener, |f| f.seen = f.seen.wrapping_sub(ticks))
    }

    /// The next new flow through uplink `n` probes its neighbour.
    pub fn probe_soon(&self, n: usize) {
        let uplink = types::nk_uplink {
            mac: UP0_MAC,
            mtu_bytes: 1500,
            ..Default::default()
        };
        put(&self.skel.maps.nk_uplinks, &self.ifindex.up[n], &uplink);
    }

    /// Gives endpoint `id` one more address, for which the neighbours on uplink `n` may ask.
    pub fn lan(&self, id: u32, address: &str, n: usize) {
        let owner = types::nk_addr {
            lan_ifindex: self.ifindex.up[n],
            ..self.owner(id, 2)
        };
        put(&self.skel.maps.nk_addrs, &mapped(addr(address)), &owner);
        next_jiffy();
    }

    /// Makes an address nobody's.
    pub fn disown(&self, address: &str) {
        let key = mapped(addr(address));
        let gone = self.skel.maps.nk_addrs.delete(&key);
        gone.expect("the address is somebody's");
        next_jiffy();
    }

    /// Makes all addresses of an endpoint masqueraded ones, with so many ports from `first`.
    pub fn masquerade(&self, id: u32, first: u16, count: u16) {
        let maps = &self.skel.maps;
        let endpoint = types::nk_endpoint {
            nat_port: first,
            nat_ports: count,
            ..self.endpoint(id)
        };
        put(&maps.nk_endpoints, &id, &endpoint);
        self.own_addresses(id, types::nk_addr_flags::NK_ADDR_MASQUERADE);
        for (local_index, text) in (0u8..).zip(ADDRESSES[id as usize]) {
            let address = mapped(addr(text));
            let key = types::nk_local_key {
                endpoint_id: id,
                local_index: local_index.into(),
            };
            put(&maps.nk_locals, &key, &address);
        }
        let chunk = u16::try_from(types::nk_limits::NK_NAT_CHUNK.0).expect("small");
        for index in first / chunk..(first + count).div_ceil(chunk) {
            put(&maps.nk_ports, &u32::from(index), &(id + 1));
        }
        self.new_nat_table(id, 1 << 16);
    }

    /// Makes a port of the host, at `host` or at any of its addresses, the port `to` of an endpoint.
    pub fn publish(&self, host: &str, proto: u8, port: u16, id: u32, to: u16) {
        let address = addr(host);
        let key = types::nk_published_key {
            addr: mapped(address),
            port: port.to_be(),
            protocol: proto,
            ..Default::default()
        };
        let value = types::nk_published {
            endpoint_id: id,
            port: to.to_be(),
            local_index: u8::from(address.is_ipv6()),
            ..Default::default()
        };
        let maps = &self.skel.maps;
        put(&maps.nk_published, &key, &value);
        let (word, bit) = (u32::from(port) / 32, u32::from(port) % 32);
        let there = maps
            .nk_published_bits
            .lookup(&word.to_ne_bytes(), MapFlags::ANY)
            .expect("look up")
            .expect("an array has all");
        let bits = u32::from_ne_bytes(there.try_into().expect("a word")) | 1 << bit;
        put(&maps.nk_published_bits, &word, &bits);
        for (index, text) in (0u32..).zip(ADDRESSES[id as usize]) {
            let key = types::nk_local_key {
                endpoint_id: id,
                local_index: index,
            };
            put(&maps.nk_locals, &key, &mapped(addr(text)));
        }
        next_jiffy();
    }

    /// Addresses that a port published at any is at, for who is not on the wire.
    pub fn host_addresses(&self, addresses: &[&str]) {
        for text in addresses {
            put(&self.skel.maps.nk_host_addrs, &mapped(addr(text)), &1u32);
        }
    }

    /// Replaces the table of ways back, so that it is empty.
    pub fn new_nat_table(&self, id: u32, entries: u32) {
        let table = create(
            MapType::LruHash,
            size_of::<types::nk_flow_key>(),
            size_of::<types::nk_nat>(),
            entries,
            0,
        );
        put(&self.skel.maps.nk_nats, &id, &table.as_fd().as_raw_fd());
        next_jiffy();
    }

    pub fn guard_endpoint(&self, id: u32) {
        let endpoint = types::nk_endpoint {
            flags: types::nk_endpoint_flags::NK_ENDPOINT_GUARD.0,
            ..self.endpoint(id)
        };
        put(&self.skel.maps.nk_endpoints, &id, &endpoint);
    }
}
