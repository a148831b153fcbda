//! Annotations, one `key=value` a line: wishes within their bounds, or an error that names a key.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use oci_netkit::annotations::{MAX_ADDRESSES, Wishes};

fuzz_target!(|text: &str| {
    let keys: BTreeMap<String, String> = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    match Wishes::parse(&keys) {
        Ok(wishes) => {
            assert!((1..=MAX_ADDRESSES).contains(&wishes.address.len()));
            assert!(wishes.interface.is_some());
            assert!(wishes.mtu_bytes.is_none_or(|mtu| (68..=65535).contains(&mtu)));
            assert_eq!(Wishes::parse(&keys).ok(), Some(wishes));
        }
        Err(e) => assert!(e.report().contains("io.oci-netkit.")),
    }
    let _ = Wishes::parse_joining(&keys);
});
