//! The config: the same text is the same config, and every fault counts as the config's.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci_netkit::config::Config;
use oci_netkit::error::Kind;

fuzz_target!(|text: &str| {
    match Config::parse(text) {
        Ok(config) => assert_eq!(Config::parse(text).ok(), Some(config)),
        Err(e) => assert_eq!(e.kind(), Kind::Config, "{}", e.report()),
    }
});
