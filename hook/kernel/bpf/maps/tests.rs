use super::counters::sum;
use super::*;
use crate::types::direction::Direction;
use crate::types::drop::DROP_REASONS;
use crate::types::drop::reason;
use crate::types::scope::Scope;
use types::{nk_dir, nk_drop, nk_scope};

#[test]
fn scopes_are_numbered_as_in_the_abi() {
    let numbers = [
        nk_scope::NK_SCOPE_OUTSIDE,
        nk_scope::NK_SCOPE_HOST,
        nk_scope::NK_SCOPE_CONTAINERS,
        nk_scope::NK_SCOPE_NETWORK,
        nk_scope::NK_SCOPE_METADATA,
        nk_scope::NK_SCOPE_LINK_LOCAL,
        nk_scope::NK_SCOPE_MULTICAST,
    ];
    assert_eq!(Scope::ALL.map(|s| u32::from(s as u8)), numbers.map(|n| n.0));
    assert_eq!(Scope::ALL.len(), nk_scope::NK_SCOPES.0 as usize);
}

#[test]
fn directions_are_numbered_as_in_the_abi() {
    assert_eq!(Direction::Egress as u32, nk_dir::NK_EGRESS.0);
    assert_eq!(Direction::Ingress as u32, nk_dir::NK_INGRESS.0);
    assert_eq!(Direction::ALL.len(), nk_dir::NK_DIRS.0 as usize);
}

#[test]
fn every_drop_code_has_its_sentence() {
    let codes: Vec<u32> = DROP_REASONS.iter().map(|r| r.code).collect();
    assert_eq!(codes, (1..nk_drop::NK_DROPS.0).collect::<Vec<_>>());
    let pairs = [
        (nk_drop::NK_DROP_MALFORMED, "malformed"),
        (nk_drop::NK_DROP_SPOOFED_SOURCE, "spoofed-source"),
        (nk_drop::NK_DROP_CHECKSUM_OFFLOAD, "checksum-offload"),
        (nk_drop::NK_DROP_ICMP_UNRELATED, "icmp-unrelated"),
        (nk_drop::NK_DROP_DENY_RULE, "deny-rule"),
        (nk_drop::NK_DROP_NO_RULE, "no-rule"),
        (nk_drop::NK_DROP_METADATA, "metadata"),
        (nk_drop::NK_DROP_NOT_SYN, "not-syn"),
        (nk_drop::NK_DROP_NO_ENDPOINT, "no-endpoint"),
        (nk_drop::NK_DROP_NO_POLICY, "no-policy"),
        (nk_drop::NK_DROP_INTERNAL, "internal"),
    ];
    for (code, name) in pairs {
        assert_eq!(reason(code.0).unwrap().name, name);
    }
}

#[test]
fn policy_word_has_the_epoch_below_and_the_slot_above() {
    let word = PolicyWord {
        epoch: 0x0102_0304,
        slot: 0x0a0b_0c0d,
    };
    assert_eq!(encode_word(word), 0x0a0b_0c0d_0102_0304);
    assert_eq!(decode_word(encode_word(word)), word);
    assert_eq!(encode_word(PolicyWord::default()), 0);
}

#[test]
fn rule_key_counts_bits_from_a_network_order_table() {
    let entry = TrieEntry {
        prefix_bits: 160,
        table: 1,
        data: [7; 16],
        id: 3,
        verdict: 2,
    };
    let (key, rule) = encode_rule(&entry);
    assert_eq!(
        (key.prefixlen, key.table.to_ne_bytes(), key.data),
        (160, [0, 0, 0, 1], [7; 16])
    );
    assert_eq!((rule.id, rule.verdict), (3, 2));
}

#[test]
fn counters_add_up_over_cpus_and_keep_directions_apart() {
    let mut passed = types::nk_passed::default();
    passed.traffic[0].packets = 5;
    passed.traffic[1].bytes = 100;
    let mut dropped = types::nk_dropped::default();
    dropped.drops[1].packets[17] = 2;
    let total = sum(
        &[passed, passed, types::nk_passed::default()],
        &[dropped, dropped, types::nk_dropped::default()],
    );
    assert_eq!(total.traffic[0].packets, 10);
    assert_eq!(total.traffic[1].bytes, 200);
    assert_eq!(
        total.drops,
        vec![(Direction::Ingress, reason(17).unwrap(), 4)]
    );
}

#[test]
fn id_beyond_the_maps_is_refused() {
    assert!(checked(EndpointId(MAX_ENDPOINTS - 1)).is_ok());
    assert!(checked(EndpointId(MAX_ENDPOINTS)).is_err());
}
