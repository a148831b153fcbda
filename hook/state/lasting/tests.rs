use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use super::*;
use crate::state::Paths;
use crate::state::lock::Deadline;

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
