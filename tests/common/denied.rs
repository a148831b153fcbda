//! The record of refusals of the loaded datapath.

use std::os::fd::{AsFd, AsRawFd};

use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};
use oci_netkit::kernel::bpf::skel::types::{nk_denied, nk_denied_key};
use oci_netkit::types::drop::reason;

use super::datapath::Datapath;
use super::tables::{create, put, struct_of};

/// One record as tests write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// "" where the packet was not understood.
    pub remote: String,
    pub protocol: u8,
    pub port: u16,
    pub reason: &'static str,
    pub passed: bool,
    pub count: u64,
}

impl Datapath {
    /// Gives an endpoint records of so many elements.
    pub fn keep_denied(&self, id: u32, entries: u32) {
        for direction in 0..2 {
            let table = create(
                MapType::LruHash,
                size_of::<nk_denied_key>(),
                size_of::<nk_denied>(),
                entries,
                0,
            );
            let fd = table.as_fd().as_raw_fd();
            put(&self.skel.maps.nk_denied, &(2 * id + direction), &fd);
        }
    }

    /// In the order in which it came.
    pub fn denied(&self, id: u32, direction: u32) -> Vec<Note> {
        let outer = &self.skel.maps.nk_denied;
        let found = outer.lookup(&(2 * id + direction).to_ne_bytes(), MapFlags::ANY);
        let map_id = found.expect("look up a record").expect("it is there");
        let map_id = u32::from_ne_bytes(map_id.try_into().expect("an id"));
        let table = MapHandle::from_map_id(map_id).expect("open the record");
        let mut list: Vec<(nk_denied, Note)> = Vec::new();
        for key in table.keys() {
            let value = table.lookup(&key, MapFlags::ANY).expect("look up");
            let value: nk_denied = struct_of(&value.expect("it stays"));
            list.push((value, note(&struct_of(&key), value.count)));
        }
        list.sort_by_key(|(value, _)| value.first);
        for (value, note) in &list {
            assert!(value.first <= value.last, "{note:?}");
        }
        list.into_iter().map(|(_, note)| note).collect()
    }
}

fn note(key: &nk_denied_key, count: u64) -> Note {
    let remote = std::net::Ipv6Addr::from(key.remote).to_canonical();
    Note {
        remote: if key.remote == [0; 16] {
            String::new()
        } else {
            remote.to_string()
        },
        protocol: key.protocol,
        port: u16::from_be(key.port),
        reason: reason(key.reason.into()).expect("a reason").name,
        passed: key.passed != 0,
        count,
    }
}

pub fn refused(remote: &str, protocol: u8, port: u16, reason: &'static str, count: u64) -> Note {
    Note {
        remote: remote.into(),
        protocol,
        port,
        reason,
        passed: false,
        count,
    }
}
