use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::types::id::ContainerId;
use crate::types::record::Member;

/// A private state directory that goes with the test.
struct Place(Paths);

impl Place {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("nk-store-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        Self(Paths {
            state_dir: dir.clone(),
            lasting_dir: dir.join("lasting"),
            bpffs_dir: dir,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0.state_dir);
    }
}

fn now() -> Deadline {
    Deadline::after(Duration::from_secs(1))
}

fn record(cookie: u64, boot: &str) -> EndpointRecord {
    EndpointRecord {
        boot_id: boot.into(),
        cookie: NetnsCookie(cookie),
        members: vec![Member {
            container_id: ContainerId::new("c1").unwrap(),
            pid: 42,
            start_time: 1,
        }],
        keys: BTreeMap::from([("address".into(), "auto".into())]),
        addresses: vec!["10.87.128.2/32".parse().unwrap()],
        ..EndpointRecord::example()
    }
}

#[test]
fn reserved_record_is_creating_then_active_then_gone() {
    let place = Place::new("life");
    let store = Store::open(&place.0).unwrap();
    let lock = store.lock_ledger(&now()).unwrap();
    let mut r = record(5, "boot");
    store.reserve(&lock, &r).unwrap();
    assert_eq!(
        store.view().find(r.cookie).unwrap().unwrap().phase,
        Phase::Creating
    );
    assert_eq!(store.reserve(&lock, &r).unwrap_err().kind(), Kind::Conflict);
    r.primary_ifindex = 9;
    store.activate(&lock, &mut r).unwrap();
    assert_eq!(store.view().records("boot").unwrap(), vec![r.clone()]);
    store.remove(&lock, r.cookie, "boot").unwrap();
    store.remove(&lock, r.cookie, "boot").unwrap();
    assert!(store.view().contents().unwrap().records.is_empty());
    assert_eq!(store.update(&lock, &r).unwrap_err().kind(), Kind::Conflict);
}

#[test]
fn state_is_tidy_with_finished_files_of_the_living_only() {
    let place = Place::new("tidy");
    let store = Store::open(&place.0).unwrap();
    let is_tidy_of = |claims: &[Claim]| store.view().is_tidy(claims).unwrap();
    let is_tidy = || is_tidy_of(&[Claim::from(&record(5, "boot"))]);
    assert!(is_tidy());
    let r = record(5, "boot");
    store
        .reserve(&store.lock_ledger(&now()).unwrap(), &r)
        .unwrap();
    drop(store.lock_endpoint(r.cookie, &now()).unwrap());
    assert!(is_tidy());
    assert!(!is_tidy_of(&[]));
    let record = store.view().record_path(r.cookie);
    for left in [
        store.view().record_path(NetnsCookie(6)),
        record.with_extension("tmp-4194305"),
        record.with_file_name("6.lock"),
        record.with_file_name("odd.json"),
        store.view().journal_path(r.cookie),
        place.0.state_dir.join("errors.tmp-4194305"),
        place.0.state_dir.join("errors.json"),
        place.0.state_dir.join("fresh.json"),
        place.0.lasting_dir.join("leases.tmp-4194305"),
    ] {
        fs::create_dir_all(left.parent().unwrap()).unwrap();
        fs::write(&left, "{").unwrap();
        assert!(!is_tidy(), "{}", left.display());
        fs::remove_file(&left).unwrap();
        assert!(is_tidy());
    }
    // Of one that is being built.
    let building = EndpointRecord {
        phase: Phase::Creating,
        ..r
    };
    fs::write(store.view().journal_path(building.cookie), "{").unwrap();
    assert!(is_tidy_of(&[Claim::from(&building)]));
}

#[test]
fn a_record_that_cannot_be_read_may_be_any() {
    let place = Place::new("any");
    let store = Store::open(&place.0).unwrap();
    let lock = store.lock_ledger(&now()).unwrap();
    store.reserve(&lock, &record(5, "boot")).unwrap();
    let has = |cookie: u64| {
        let is_so = |r: &EndpointRecord| r.cookie == NetnsCookie(cookie);
        store.view().has_any(&is_so).unwrap()
    };
    assert!(has(5) && !has(6));
    let path = store.view().record_path(NetnsCookie(6));
    fs::write(&path, "{").unwrap();
    assert!(has(6) && has(7));
    fs::remove_file(path).unwrap();
    assert!(!has(7));
}

#[test]
fn record_of_another_boot_gives_way_and_is_not_removed_by_ours() {
    let place = Place::new("boot");
    let store = Store::open(&place.0).unwrap();
    let lock = store.lock_ledger(&now()).unwrap();
    store.reserve(&lock, &record(5, "old")).unwrap();
    assert!(store.view().records("new").unwrap().is_empty());
    store.remove(&lock, NetnsCookie(5), "new").unwrap();
    assert!(store.view().find(NetnsCookie(5)).unwrap().is_some());
    store.reserve(&lock, &record(5, "new")).unwrap();
    assert_eq!(store.view().records("new").unwrap().len(), 1);
}

#[test]
fn damaged_record_is_reported_and_hides_no_other() {
    let place = Place::new("damaged");
    let store = Store::open(&place.0).unwrap();
    let lock = store.lock_ledger(&now()).unwrap();
    store.reserve(&lock, &record(1, "boot")).unwrap();
    let dir = place.0.state_dir.join(ENDPOINTS);
    fs::write(dir.join("0000000000000002.json"), "{").unwrap();
    fs::copy(
        dir.join("0000000000000001.json"),
        dir.join("0000000000000003.json"),
    )
    .unwrap();
    let contents = store.view().contents().unwrap();
    assert_eq!(contents.records.len(), 1);
    assert_eq!(contents.faulty.len(), 2);
}

#[test]
fn view_creates_nothing() {
    let place = Place::new("view");
    let view = View::new(&place.0);
    assert_eq!(view.contents().unwrap(), Contents::default());
    assert!(view.failures().unwrap().is_empty());
    assert!(view.journals().unwrap().is_empty());
    assert!(!place.0.state_dir.exists());
}

#[test]
fn failures_are_bounded_and_survive_a_damaged_list() {
    let place = Place::new("failures");
    let store = Store::open(&place.0).unwrap();
    fs::write(place.0.state_dir.join(FAILURES), "[[").unwrap();
    for time in 0..(FAILURES_KEPT as u64 + 5) {
        let failure = Failure {
            time,
            container_id: None,
            command: "hook create".into(),
            kind: "kernel".into(),
            exit_code: 71,
            text: "x".into(),
        };
        store.remember(failure, &now()).unwrap();
    }
    let list = store.view().failures().unwrap();
    assert_eq!(list.len(), FAILURES_KEPT);
    assert_eq!(list[0].time, 5);
}

#[test]
fn directory_that_others_may_enter_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new("mode");
    fs::create_dir(&place.0.state_dir).unwrap();
    fs::set_permissions(&place.0.state_dir, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(
        Store::open(&place.0).unwrap_err().kind(),
        Kind::NotPermitted
    );
}

#[test]
fn only_an_empty_store_is_destroyed() {
    let place = Place::new("destroy");
    let store = Store::open(&place.0).unwrap();
    let lock = store.lock_ledger(&now()).unwrap();
    store.reserve(&lock, &record(1, "boot")).unwrap();
    assert!(store.clone().destroy(lock).is_err());
    let lock = store.lock_ledger(&now()).unwrap();
    store.remove(&lock, NetnsCookie(1), "boot").unwrap();
    store.destroy(lock).unwrap();
    assert!(!place.0.state_dir.exists());
}
