use super::*;

fn free(prefix: &str, taken: &[&str]) -> Option<String> {
    let taken = taken.iter().map(|a| a.parse().unwrap()).collect();
    first_free(&prefix.parse().unwrap(), &taken).map(|a| a.to_string())
}

#[test]
fn the_lowest_free_address_is_leased() {
    assert_eq!(free("192.0.2.0/24", &[]).unwrap(), "192.0.2.2");
    assert_eq!(
        free("192.0.2.0/24", &["192.0.2.2", "192.0.2.4"]).unwrap(),
        "192.0.2.3"
    );
    assert_eq!(free("2001:db8::/64", &[]).unwrap(), "2001:db8::1");
    assert_eq!(free("2001:db8::/127", &[]).unwrap(), "2001:db8::");
    assert_eq!(free("::/0", &["::1"]).unwrap(), "::2");
}

#[test]
fn small_pools_have_no_reserved_addresses() {
    assert_eq!(free("192.0.2.4/32", &[]).unwrap(), "192.0.2.4");
    assert_eq!(free("192.0.2.4/31", &["192.0.2.4"]).unwrap(), "192.0.2.5");
    assert_eq!(free("192.0.2.4/30", &[]).unwrap(), "192.0.2.6");
}

#[test]
fn a_full_pool_leases_nothing() {
    assert_eq!(free("192.0.2.4/30", &["192.0.2.6"]), None);
    assert_eq!(free("192.0.2.4/32", &["192.0.2.4"]), None);
    assert_eq!(free("255.255.255.252/30", &["255.255.255.254"]), None);
}
