use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use super::*;
use crate::state::Paths;
use crate::state::lock::Deadline;
use crate::types::id::NetnsCookie;
use crate::types::record::EndpointRecord;

/// Directories that go with the test.
struct Place(Paths);

impl Place {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("nk-lasting-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        Self(Paths {
            state_dir: dir.join("state"),
            lasting_dir: dir.join("lasting"),
            bpffs_dir: dir.join("bpf"),
        })
    }

    fn store(&self) -> (Store, LedgerLock) {
        let store = Store::open(&self.0).unwrap();
        let deadline = Deadline::after(Duration::from_secs(1));
        let lock = store.lock_ledger(&deadline).unwrap();
        (store, lock)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0.state_dir.parent().unwrap());
    }
}

#[test]
fn prefix_is_drawn_as_rfc_4193_says() {
    let (one, two) = (draw_ula().unwrap(), draw_ula().unwrap());
    assert_ne!(one, two);
    for net in [one, two] {
        assert_eq!(net, net.trunc());
        let octets = net.addr().octets();
        assert_eq!((octets[0], &octets[6..8]), (0xfd, &[0, 0][..]), "{net}");
    }
}

#[test]
fn prefix_is_kept_for_root_alone_and_only_when_it_is_needed() {
    let place = Place::new("ula");
    let (store, lock) = place.store();
    assert_eq!(store.view().ula(), None);
    assert!(!place.0.lasting_dir.exists(), "nobody needed it yet");
    let ula = draw_ula().unwrap();
    store.keep_ula(&lock, ula).unwrap();
    store.keep_ula(&lock, ula).unwrap();
    assert_eq!(View::new(&place.0).ula(), Some(ula));
    let mode = |name| fs::metadata(place.0.lasting_dir.join(name)).unwrap().mode() & 0o777;
    assert_eq!((mode(""), mode(ULA)), (0o700, 0o600));
    store.destroy(lock).unwrap();
    assert_eq!(View::new(&place.0).ula(), Some(ula), "unload leaves it");
}

#[test]
fn damaged_prefix_counts_as_none_and_is_written_anew() {
    let place = Place::new("damaged");
    let (store, lock) = place.store();
    store.keep_ula(&lock, draw_ula().unwrap()).unwrap();
    for damage in ["", "{", "\"fd00::/8\"", "\"2001:db8::/64\""] {
        fs::write(place.0.lasting_dir.join(ULA), damage).unwrap();
        assert_eq!(store.view().ula(), None, "{damage}");
    }
    let ula = draw_ula().unwrap();
    store.keep_ula(&lock, ula).unwrap();
    assert_eq!(store.view().ula(), Some(ula));
}

fn lease(name: &str, addresses: &[&str]) -> Lease {
    Lease {
        name: name.into(),
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
    }
}

/// Addresses, oldest first.
fn known(store: &Store) -> Vec<String> {
    let leases = store.view().leases();
    leases.oldest_first().map(|addr| addr.to_string()).collect()
}

fn of(store: &Store, name: &str) -> Vec<String> {
    let leases = store.view().leases();
    leases.of(name).map(|addr| addr.to_string()).collect()
}

#[test]
fn taking_and_giving_back_is_remembered_in_order_for_good() {
    let place = Place::new("order");
    let (store, lock) = place.store();
    let record = |cookie, name: &str, addr: &str| EndpointRecord {
        cookie: NetnsCookie(cookie),
        name: name.into(),
        addresses: vec![addr.parse().unwrap()],
        ..EndpointRecord::example()
    };
    store
        .reserve(&lock, &record(5, "web", "192.0.2.2/24"))
        .unwrap();
    store
        .reserve(&lock, &record(6, "db", "2001:db8::2/128"))
        .unwrap();
    assert_eq!(known(&store), ["192.0.2.2", "2001:db8::2"]);
    store.remove(&lock, NetnsCookie(5), "boot").unwrap();
    store.remove(&lock, NetnsCookie(5), "boot").unwrap();
    assert_eq!(known(&store), ["2001:db8::2", "192.0.2.2"]);
    store.remove(&lock, NetnsCookie(6), "boot").unwrap();
    store.destroy(lock).unwrap();
    let (store, _lock) = place.store();
    assert_eq!(known(&store), ["192.0.2.2", "2001:db8::2"]);
    assert_eq!(of(&store, "web"), ["192.0.2.2"]);
    assert_eq!(of(&store, "db"), ["2001:db8::2"]);
    let file = place.0.lasting_dir.join(LEASES);
    assert_eq!(fs::metadata(file).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn damage_costs_what_is_damaged_only() {
    let place = Place::new("damage");
    let (store, _lock) = place.store();
    let file = place.0.lasting_dir.join(LEASES);
    store.note(&lease("web", &["192.0.2.2", "2001:db8::2"]));
    let whole = fs::read(&file).unwrap();
    for cut in 0..whole.len() {
        fs::write(&file, &whole[..cut]).unwrap();
        store.note(&lease("db", &["192.0.2.3"]));
        let before = ["192.0.2.2", "2001:db8::2"].iter();
        let before = before.take(cut.saturating_sub(HEAD.len()) / EVENT);
        let wanted: Vec<&str> = before.copied().chain(["192.0.2.3"]).collect();
        assert_eq!(known(&store), wanted, "cut off at {cut}");
        assert_eq!(of(&store, "db"), ["192.0.2.3"]);
    }
    // As a power cut leaves it, and of an older version.
    for bytes in [&b""[..], &[0; 4096], b"\0\x01web\0"] {
        fs::write(&file, bytes).unwrap();
        assert_eq!(known(&store), [""; 0]);
        store.note(&lease("db", &["192.0.2.3"]));
        assert_eq!(known(&store), ["192.0.2.3"]);
    }
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert_eq!(
        known(&store),
        [""; 0],
        "cannot be read, and is no reason to fail"
    );
    store.note(&lease("db", &["192.0.2.3"]));
}

#[test]
fn the_file_stays_small_and_keeps_the_newest() {
    let place = Place::new("size");
    let (store, _lock) = place.store();
    let file = place.0.lasting_dir.join(LEASES);
    let count = || (fs::read(&file).unwrap().len() - HEAD.len()) / EVENT;
    store.note(&lease("first", &["192.0.2.2"]));
    for n in 0..8_000u32 {
        store.note(&Lease {
            name: format!("{n:064}"),
            addresses: vec![std::net::Ipv4Addr::from_bits(0x0a57_8000 + n).into()],
        });
        assert!(count() <= MOST_EVENTS + 1, "{}", count());
    }
    let known = known(&store);
    assert!(known.len() >= KEPT_EVENTS, "{}", known.len());
    assert_eq!(known.last().unwrap(), "10.87.159.63");
    assert!(of(&store, "first").is_empty());
    // The same again and again is one.
    for _ in 0..2 * MOST_EVENTS {
        store.note(&lease("again", &["192.0.2.9"]));
    }
    assert!(of(&store, "again") == ["192.0.2.9"] && known.len() <= MOST_EVENTS);
}
