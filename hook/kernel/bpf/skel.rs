//! The skeleton that `build.rs` generates from `bpf/`: the object, its maps and programs, and
//! every type of `bpf/abi.h` in `types`. No such type is written by hand. Neighbours load, fill
//! and attach it.

#![allow(
    missing_docs,
    unreachable_pub,
    unused_imports,
    clippy::all,
    clippy::pedantic,
    clippy::undocumented_unsafe_blocks,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::wildcard_imports,
    clippy::unwrap_used,
    reason = "generated code"
)]

include!(concat!(env!("OUT_DIR"), "/datapath.skel.rs"));

/// Sizes both sides agree on; `abi.h` asserts the same.
const _: () = {
    assert!(size_of::<types::nk_addr>() == 24);
    assert!(size_of::<types::nk_endpoint>() == 64);
    assert!(size_of::<types::nk_rule_key>() == 24);
    assert!(size_of::<types::nk_rule>() == 8);
    assert!(size_of::<types::nk_flow_key>() == 24);
    assert!(size_of::<types::nk_flow>() == 88);
    assert!(size_of::<types::nk_nat>() == 8);
    assert!(size_of::<types::nk_uplink>() == 32);
    assert!(size_of::<types::nk_settings>() == 64);
    assert!(size_of::<types::nk_passed>() == 48);
    assert!(size_of::<types::nk_dropped>() == 768);
};
