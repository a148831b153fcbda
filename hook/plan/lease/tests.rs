use super::*;
use crate::types::lease::{Event, Lease};
use crate::types::reach::Reach;

fn free(prefix: &str, taken: &[&str]) -> Option<String> {
    let taken: AddrSet = taken.iter().map(|a| a.parse().unwrap()).collect();
    first_free(&prefix.parse().unwrap(), [&taken, &AddrSet::default()]).map(|a| a.to_string())
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

fn pool(prefix: &str) -> Pool {
    Pool {
        prefix: prefix.parse().unwrap(),
        reach: Reach::Masquerade,
    }
}

fn event(name: &str, addresses: &[&str]) -> Lease {
    Lease {
        name: name.into(),
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
    }
}

/// What a name is given of pools, after these events and with these addresses taken.
fn given(name: &str, events: &[(&str, &[&str])], taken: &[&str], pools: &[&str]) -> Option<String> {
    let events: Vec<Lease> = events.iter().map(|(n, addrs)| event(n, addrs)).collect();
    let leases = Leases::new(events.iter().flat_map(Event::all).collect());
    let taken = taken.iter().map(|a| a.parse().unwrap()).collect();
    let pools: Vec<Pool> = pools.iter().map(|p| pool(p)).collect();
    let mut giver = Giver::new(name, &leases, taken);
    let given = giver.give(&pools.iter().collect::<Vec<_>>());
    given.map(|(addr, _)| addr.to_string())
}

#[test]
fn a_name_has_its_last_address_again() {
    let events: [(&str, &[&str]); 4] = [
        ("web", &["192.0.2.2", "2001:db8::1"]),
        ("db", &["192.0.2.3"]),
        ("web", &["192.0.2.9"]),
        ("x", &["192.0.2.4"]),
    ];
    let of = |taken: &[&str], pools: &[&str]| given("web", &events, taken, pools).unwrap();
    assert_eq!(of(&[], &["192.0.2.0/24"]), "192.0.2.9");
    assert_eq!(of(&["192.0.2.9"], &["192.0.2.0/24"]), "192.0.2.2");
    assert_eq!(of(&[], &["2001:db8::/64"]), "2001:db8::1");
    assert_eq!(
        of(&[], &["198.51.100.0/24"]),
        "198.51.100.2",
        "another pool"
    );
}

#[test]
fn what_another_had_since_is_no_longer_the_names() {
    let events: [(&str, &[&str]); 2] = [("web", &["192.0.2.2"]), ("db", &["192.0.2.2"])];
    let of = |name| given(name, &events, &[], &["192.0.2.0/24"]).unwrap();
    assert_eq!(of("web"), "192.0.2.3");
    assert_eq!(of("db"), "192.0.2.2");
}

#[test]
fn what_nobody_had_comes_first_then_what_was_given_back_longest_ago() {
    let of = |events: &[(&str, &[&str])], taken: &[&str]| {
        given("new", events, taken, &["192.0.2.0/29", "198.51.100.0/24"])
    };
    // The /29 has .2 to .6.
    let mut events: Vec<(&str, &[&str])> = vec![
        ("a", &["192.0.2.4"]),
        ("b", &["192.0.2.2"]),
        ("c", &["192.0.2.3"]),
        ("d", &["192.0.2.5"]),
    ];
    assert_eq!(of(&events, &[]).unwrap(), "192.0.2.6");
    // What is taken and what somebody had lie between each other.
    assert_eq!(
        of(&events[..2], &["192.0.2.3", "192.0.2.5"]).unwrap(),
        "192.0.2.6"
    );
    events.push(("e", &["192.0.2.6"]));
    assert_eq!(of(&events, &[]).unwrap(), "192.0.2.4");
    events.push(("a", &["192.0.2.4"]));
    assert_eq!(of(&events, &[]).unwrap(), "192.0.2.2");
    let all = [
        "192.0.2.2",
        "192.0.2.3",
        "192.0.2.4",
        "192.0.2.5",
        "192.0.2.6",
    ];
    assert_eq!(of(&events, &all).unwrap(), "198.51.100.2", "the next pool");
}

#[test]
fn an_address_is_given_once() {
    let leases = Leases::default();
    let pool = pool("192.0.2.0/30");
    let mut giver = Giver::new("web", &leases, AddrSet::default());
    assert!(giver.give(&[&pool]).is_some());
    assert!(giver.give(&[&pool]).is_none());
}
