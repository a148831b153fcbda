use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::state::Paths;
use crate::state::lock::Deadline;
use crate::types::id::ContainerId;
use crate::types::port::PortShare;
use crate::types::record::Member;

/// A store of its own that goes with the test.
struct Place {
    dir: PathBuf,
    store: Store,
}

impl Place {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("nk-claims-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let store = Store::open(&Paths {
            state_dir: dir.clone(),
            lasting_dir: dir.join("lasting"),
            bpffs_dir: dir.join("bpf"),
        });
        Self {
            store: store.unwrap(),
            dir,
        }
    }

    fn lock(&self) -> LedgerLock {
        let soon = Deadline::after(Duration::from_secs(5));
        self.store.lock_ledger(&soon).unwrap()
    }

    fn file(&self) -> PathBuf {
        self.dir.join(CLAIMS)
    }

    /// Reserves and activates.
    fn start(&self, cookie: u64) -> EndpointRecord {
        let mut record = EndpointRecord {
            cookie: NetnsCookie(cookie),
            name: format!("c{cookie}"),
            ..EndpointRecord::example()
        };
        let lock = self.lock();
        self.store.reserve(&lock, &record).unwrap();
        self.store.activate(&lock, &mut record).unwrap();
        record
    }

    /// What a start knows, which is what is on record.
    fn claims(&self) -> Vec<Claim> {
        let claims = self.claims_of("boot");
        let records = self.store.view().records("boot").unwrap();
        assert_eq!(claims, records.iter().map(Claim::from).collect::<Vec<_>>());
        claims
    }

    fn claims_of(&self, boot_id: &str) -> Vec<Claim> {
        let view = self.store.view();
        view.claims(&view.files().unwrap(), boot_id)
    }

    fn count(&self) -> usize {
        frames(&mut fs::read(self.file()).unwrap()).count()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn member(id: &str) -> Member {
    Member {
        container_id: ContainerId::new(id).unwrap(),
        pid: 42,
        start_time: 1,
    }
}

#[test]
fn claims_are_what_is_on_record_through_a_life() {
    let place = Place::new("life");
    assert!(place.claims().is_empty());
    let mut record = place.start(5);
    place.start(6);
    assert_eq!(place.claims().len(), 2);
    record.members.push(member("joined"));
    place.store.update(&place.lock(), &record).unwrap();
    assert_eq!(place.claims()[0].members.len(), 1);
    record.phase = Phase::Ending;
    place.store.update(&place.lock(), &record).unwrap();
    assert_eq!(place.claims()[0].phase, Phase::Ending);
    place
        .store
        .remove(&place.lock(), record.cookie, "boot")
        .unwrap();
    assert_eq!(place.claims()[0].cookie, NetnsCookie(6));
    assert!(place.claims_of("another").is_empty());
}

#[test]
fn active_endpoints_are_known_by_their_frame_alone() {
    let place = Place::new("frame");
    let record = place.start(5);
    fs::write(place.store.view().record_path(record.cookie), "{").unwrap();
    assert_eq!(place.claims_of("boot"), [Claim::from(&record)]);
    fs::remove_file(place.store.view().record_path(record.cookie)).unwrap();
    assert!(place.claims().is_empty());
}

#[test]
fn every_field_survives() {
    let place = Place::new("fields");
    let mut record = EndpointRecord {
        cookie: NetnsCookie(u64::MAX),
        host: Some(NetnsCookie(1)),
        members: vec![member("one"), member("two")],
        addresses: vec![
            "10.0.0.0/8".parse().unwrap(),
            "2001:db8::/128".parse().unwrap(),
        ],
        nat: Some(PortShare {
            first: 4096,
            count: 32,
        }),
        publish: vec![
            "192.0.2.1:8080:80".parse().unwrap(),
            "53:53/udp".parse().unwrap(),
        ],
        ..EndpointRecord::example()
    };
    let lock = place.lock();
    place.store.reserve(&lock, &record).unwrap();
    place.store.activate(&lock, &mut record).unwrap();
    fs::write(place.store.view().record_path(record.cookie), "{").unwrap();
    assert_eq!(place.claims_of("boot"), [Claim::from(&record)]);
}

#[test]
fn another_layout_is_read_from_the_records() {
    let place = Place::new("layout");
    let record = place.start(5);
    let mut bytes = fs::read(place.file()).unwrap();
    // Written beside ours by an older build: with the layout in each frame, and of before there were any.
    let older = (1u8, record.cookie, Some(Claim::from(&record)));
    for frame in [
        postcard::to_allocvec_cobs(&older).unwrap(),
        b"\n0000000000000005 {}\n0000000000000005 ".to_vec(),
    ] {
        bytes.extend(frame);
        fs::write(place.file(), &bytes).unwrap();
        assert_eq!(place.claims(), [Claim::from(&record)]);
        place.start(6);
        assert_eq!(place.claims().len(), 2);
        let lock = place.lock();
        place.store.remove(&lock, NetnsCookie(6), "boot").unwrap();
    }
}

#[test]
fn another_boot_or_layout_in_the_first_frame_says_nothing() {
    for first in [
        head("another").unwrap(),
        frames::frame(&(LAYOUT + 1, "boot")).unwrap(),
    ] {
        let place = Place::new("head");
        let record = place.start(5);
        let mut claim = Claim::from(&record);
        claim.name = "before".into();
        let text = [first, frame(&claim).unwrap()].concat();
        fs::write(place.file(), &text).unwrap();
        assert_eq!(place.claims(), [Claim::from(&record)]);
        // Who writes next begins it anew.
        place.start(6);
        assert_eq!(place.count(), 3, "the head, and two of the new one");
        assert_eq!(place.claims().len(), 2);
    }
}

#[test]
fn nothing_is_left_of_the_last() {
    let place = Place::new("last");
    let records = [place.start(5), place.start(6)];
    for record in &records {
        assert!(place.file().exists());
        let lock = place.lock();
        place.store.remove(&lock, record.cookie, "boot").unwrap();
    }
    assert!(!place.file().exists());
    // A start that was killed before it had a record.
    fs::write(place.file(), b"\0\x03\x01\x05\0").unwrap();
    place.store.shorten_claims(&place.lock(), "boot").unwrap();
    assert!(!place.file().exists());
}

#[test]
fn a_namespace_that_has_another_endpoint_now_claims_that() {
    let place = Place::new("again");
    let record = place.start(5);
    // Not by us, so no line says so.
    fs::remove_file(place.store.view().record_path(record.cookie)).unwrap();
    let other = EndpointRecord {
        name: "other".into(),
        ..record
    };
    place.store.reserve(&place.lock(), &other).unwrap();
    assert_eq!(place.claims()[0].name, "other");
    assert_eq!(place.claims()[0].phase, Phase::Creating);
}

#[test]
fn what_is_damaged_or_lost_is_read_from_the_records() {
    let place = Place::new("damaged");
    for cookie in 5..8 {
        place.start(cookie);
    }
    let whole = fs::read(place.file()).unwrap();
    for cut in 0..whole.len() {
        fs::write(place.file(), &whole[..cut]).unwrap();
        assert_eq!(place.claims().len(), 3, "cut off at {cut}");
    }
    // As a full disk leaves it, and what is written next.
    let mut record = place.start(8);
    assert_eq!(place.claims().len(), 4);
    record.phase = Phase::Ending;
    place.store.update(&place.lock(), &record).unwrap();
    assert_eq!(place.claims()[3].phase, Phase::Ending);
    fs::remove_file(place.file()).unwrap();
    assert_eq!(place.claims().len(), 4);
}

#[test]
fn the_file_is_bounded_by_what_there_is() {
    let place = Place::new("bounded");
    let stays = place.start(1);
    for cookie in 2..100 {
        let record = place.start(cookie);
        place
            .store
            .remove(&place.lock(), record.cookie, "boot")
            .unwrap();
        place.store.shorten_claims(&place.lock(), "boot").unwrap();
        assert!(place.count() <= 3 + SURPLUS);
        assert_eq!(place.claims().len(), 1);
    }
    fs::write(place.file(), "\0no frame".repeat(3 + SURPLUS)).unwrap();
    assert_eq!(place.claims(), [Claim::from(&stays)]);
    place.store.shorten_claims(&place.lock(), "boot").unwrap();
    assert_eq!(place.count(), 2);
    assert_eq!(place.claims(), [Claim::from(&stays)]);
}
