//! The container state on standard input: whatever the bytes, a request that holds what it
//! promises, or an error of bounded length.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci_netkit::request::PREFIX;
use oci_netkit::roles::oci_state::{Stage, parse};

fuzz_target!(|bytes: &[u8]| {
    for stage in [Stage::Create, Stage::Poststop] {
        match parse(bytes, stage) {
            Ok(request) => {
                assert_eq!(parse(bytes, stage).as_ref().ok(), Some(&request));
                assert!(stage == Stage::Poststop || request.pid > 0);
                assert!(!request.container_id.as_str().contains('/'));
                assert!(request.keys.keys().all(|key| !key.starts_with(PREFIX)));
            }
            Err(e) => assert!(e.report().len() < 4096 + 8 * bytes.len()),
        }
    }
});
