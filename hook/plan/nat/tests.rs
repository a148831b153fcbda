use super::*;
use crate::types::claim::Claim;
use crate::types::record::EndpointRecord;

fn config(ports: &str) -> Config {
    Config {
        nat_ports: ports.parse().unwrap(),
        ..Config::default()
    }
}

fn claim(share: PortShare) -> Claim {
    Claim::from(&EndpointRecord {
        nat: Some(share),
        ..EndpointRecord::example()
    })
}

/// Shares until there are no more.
fn all(config: &Config) -> Vec<PortShare> {
    let mut ledger = Ledger::default();
    while let Ok(share) = share(config, &ledger) {
        ledger.claims.push(claim(share));
    }
    ledger.claims.iter().filter_map(Claim::nat).collect()
}

#[test]
fn shares_are_whole_chunks_inside_the_range_and_never_overlap() {
    for ports in [
        "4096-29999",
        "16384-29999",
        "1024-65535",
        "20000-20100",
        "16385-16480",
    ] {
        let config = config(ports);
        let mut used = std::collections::HashSet::new();
        let shares = all(&config);
        assert!(!shares.is_empty(), "{ports}");
        for share in shares {
            assert_eq!((share.first % CHUNK, share.count % CHUNK), (0, 0));
            assert!(share.first >= config.nat_ports.first());
            assert!(share.last() <= config.nat_ports.last());
            assert!((share.first..=share.last()).all(|p| used.insert(p)));
        }
    }
}

#[test]
fn the_first_containers_get_most_and_many_get_some() {
    let shares = all(&Config::default());
    assert_eq!(shares[0].last(), 29983);
    assert!(shares[7].first >= 16384, "{}", shares[7]);
    let sizes: Vec<u16> = shares.iter().map(|s| s.count).collect();
    assert_eq!(sizes[0], 3232);
    assert!(sizes[..12].iter().all(|s| *s >= 512), "{sizes:?}");
    assert!(sizes.is_sorted_by(|a, b| a >= b), "{sizes:?}");
    assert_eq!(sizes.last(), Some(&CHUNK));
    assert!(sizes.len() > 160, "{}", sizes.len());
    let all = 32 * 809;
    assert_eq!(sizes.iter().map(|s| u32::from(*s)).sum::<u32>(), all);
}

#[test]
fn a_narrow_range_is_for_several() {
    let config = config("20000-20511");
    assert!(all(&config).len() > 10);
}

#[test]
fn a_share_that_is_given_back_is_found_again() {
    let config = config("16384-16511");
    let mut ledger = Ledger::default();
    for first in [16384, 16448] {
        ledger.claims.push(claim(PortShare { first, count: 32 }));
    }
    assert_eq!(share(&config, &ledger).unwrap().first, 16480);
    ledger.claims.push(claim(PortShare {
        first: 16480,
        count: 32,
    }));
    assert_eq!(share(&config, &ledger).unwrap().first, 16416);
}

#[test]
fn without_a_free_port_the_range_is_named() {
    let config = config("16384-16415");
    let ledger = Ledger {
        claims: vec![claim(PortShare {
            first: 16384,
            count: 32,
        })],
        ..Ledger::default()
    };
    let error = share(&config, &ledger).unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    assert!(error.to_string().contains("16384-16415"), "{error}");
}
