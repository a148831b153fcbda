use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::state::Paths;
use crate::state::lock::Deadline;
use crate::types::id::ContainerId;
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

    fn record_file(&self, id: u32) -> PathBuf {
        self.store.view().record_path(record(id).cookie)
    }

    /// Reserves and activates.
    fn start(&self, id: u32) -> EndpointRecord {
        let mut record = record(id);
        let lock = self.lock();
        self.store.reserve(&lock, &record).unwrap();
        self.store.activate(&lock, &mut record).unwrap();
        record
    }

    fn remove(&self, record: &EndpointRecord) {
        let removed = self.store.remove(&self.lock(), record.cookie, "boot");
        removed.unwrap();
    }

    fn mend(&self) {
        self.store.mend_claims(&self.lock(), "boot").unwrap();
    }

    fn read(&self) -> Option<Vec<Claim>> {
        Some(self.store.view().claims("boot")?.0)
    }

    /// What the file says, which is what is on record.
    fn ids(&self) -> Vec<u32> {
        let claims = self.read().unwrap();
        let told = self.store.view().ledger("boot").unwrap().claims;
        assert_eq!(claims, told);
        claims.iter().map(|c| c.id().0).collect()
    }

    /// Ids that a start which asks for the name knows, and names of the records that it read.
    fn start_knows(&self, name: &str) -> (usize, Vec<String>) {
        let interest = Interest::new(NetnsCookie(1), name, None, &[]);
        let (ledger, _) = self.store.view().ledger_for("boot", &interest).unwrap();
        let names = ledger.records.into_iter().map(|r| r.name).collect();
        (ledger.claims.len(), names)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Cookies are in the order of the ids, so that records are listed in the order of claims.
fn record(id: u32) -> EndpointRecord {
    EndpointRecord {
        cookie: NetnsCookie(100 + u64::from(id)),
        id: EndpointId(id),
        name: format!("c{id}"),
        ..EndpointRecord::example()
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
    assert_eq!(place.read(), None);
    let mut record = place.start(5);
    let other = place.start(2);
    assert_eq!(place.ids(), [2, 5]);
    record.members.push(member("joined"));
    place.store.update(&place.lock(), &record).unwrap();
    assert_eq!(place.ids(), [2, 5]);
    record.phase = Phase::Ending;
    place.store.update(&place.lock(), &record).unwrap();
    assert_eq!(place.ids(), [2, 5]);
    assert!(!place.read().unwrap()[1].is_active());
    place.remove(&record);
    assert_eq!(place.ids(), [2]);
    place.start(5);
    assert_eq!(place.ids(), [2, 5]);
    assert_eq!(place.store.view().claims("another"), None);
    place.remove(&record);
    place.remove(&other);
    assert!(!place.file().exists());
}

#[test]
fn a_start_reads_the_records_that_concern_it() {
    let place = Place::new("interest");
    for id in 0..4 {
        place.start(id);
    }
    assert_eq!(place.start_knows("new"), (4, vec![]));
    assert_eq!(place.start_knows("c2"), (4, vec!["c2".to_owned()]));
    // All of them where the file does not say.
    fs::write(place.file(), "older").unwrap();
    let all = ["c0", "c1", "c2", "c3"].map(str::to_owned).to_vec();
    assert_eq!(place.start_knows("new"), (4, all));
}

#[test]
fn a_claim_that_may_be_in_the_way_without_its_record_is_looked_at_again() {
    let place = Place::new("missing");
    place.start(1);
    place.start(2);
    let view = place.store.view();
    let look = |name: &str| {
        let interest = Interest::new(NetnsCookie(1), name, None, &[]);
        let (ledger, stamp) = view.ledger_for("boot", &interest).unwrap();
        let unreadable = ledger.unreadable.iter().map(|c| c.id().0);
        (unreadable.collect::<Vec<_>>(), stamp.is_some())
    };
    assert_eq!(look("c2"), (vec![], true));
    // As long as another start has not written it.
    fs::remove_file(place.record_file(2)).unwrap();
    assert_eq!(look("c2"), (vec![], false));
    assert_eq!(look("new"), (vec![], true));
    fs::write(place.record_file(2), "{").unwrap();
    assert_eq!(look("c2"), (vec![2], false));
    assert_eq!(look("new"), (vec![], true));
}

#[test]
fn every_change_has_a_stamp_of_its_own() {
    let place = Place::new("stamp");
    let view = place.store.view();
    let record = place.start(1);
    let mut stamps = Vec::new();
    let mut next = |what: &str| {
        let (_, stamp) = view.claims("boot").unwrap();
        assert!(view.has_claims("boot", stamp), "{what}");
        assert!(
            stamps.iter().all(|s| !view.has_claims("boot", *s)),
            "{what}"
        );
        assert!(!view.has_claims("another", stamp));
        stamps.push(stamp);
    };
    next("one");
    let other = place.start(2);
    next("another one");
    place.remove(&other);
    next("it is gone");
    fs::remove_file(place.file()).unwrap();
    place.mend();
    next("a file of the same claims");
    place.remove(&record);
    place.start(1);
    next("the first one again");
}

#[test]
fn whatever_the_file_says_that_is_not_ours_the_next_one_begins_it_anew() {
    let head = |layout, changes, boot| Head {
        layout,
        changes,
        ..Head::new(boot).unwrap()
    };
    let place = Place::new("anew");
    place.start(5);
    let whole = fs::read(place.file()).unwrap();
    let files = [
        vec![],
        b"\0\x03\x02\x05boot\0".to_vec(),
        head(*b"nkclaim9", 2, "boot").as_bytes().to_vec(),
        head(LAYOUT, 2, "another").as_bytes().to_vec(),
        // A process was killed while it wrote.
        [head(LAYOUT, 3, "boot").as_bytes(), &whole[HEAD..]].concat(),
    ];
    for bytes in files {
        fs::write(place.file(), bytes).unwrap();
        assert_eq!(place.read(), None);
        let record = place.start(6);
        assert_eq!(place.ids(), [5, 6]);
        place.remove(&record);
    }
    fs::write(place.file(), &whole[..HEAD + CLAIM / 2]).unwrap();
    place.mend();
    assert_eq!(place.ids(), [5]);
}

#[test]
fn a_killed_process_leaves_claims_of_more_than_there_is() {
    let place = Place::new("killed");
    let mut record = place.start(5);
    place.start(6);
    // Before the record of a new one was written.
    fs::remove_file(place.record_file(6)).unwrap();
    assert_eq!(place.read().unwrap().len(), 2);
    place.mend();
    assert_eq!(place.ids(), [5]);
    // After that of an old one was removed.
    record.phase = Phase::Ending;
    place.store.update(&place.lock(), &record).unwrap();
    fs::remove_file(place.record_file(5)).unwrap();
    assert!(!place.read().unwrap()[0].is_active());
    place.mend();
    assert!(!place.file().exists());
    // Between the claim and the record of one that ends.
    let record = place.start(5);
    let ending = EndpointRecord {
        phase: Phase::Ending,
        ..record
    };
    let claim = Claim::from(&ending);
    place
        .store
        .write_claim(&place.lock(), &ending, claim)
        .unwrap();
    assert!(!place.read().unwrap()[0].is_active());
    place.mend();
    assert!(place.read().unwrap()[0].is_active());
    // Between the claim and the record of one that a container joins, or leaves.
    let alone = place.start(7);
    let mut joined = alone.clone();
    joined.members = ["first", "second"].map(member).to_vec();
    let killed = |record: &EndpointRecord, before: &EndpointRecord| {
        let no = || Err(Error::new(Kind::Internal, "killed"));
        let lock = place.lock();
        let store = &place.store;
        store
            .write_claimed(&lock, record, Some(before), no)
            .unwrap_err();
        let id = ContainerId::new("second").unwrap();
        place.read().unwrap()[1].may_have(&id)
    };
    let mut first = alone.clone();
    first.members = vec![member("first")];
    place.store.update(&place.lock(), &first).unwrap();
    assert!(killed(&joined, &first));
    place.store.update(&place.lock(), &joined).unwrap();
    assert!(killed(&first, &joined));
}

#[test]
fn an_endpoint_whose_record_cannot_be_read_keeps_what_it_has() {
    let place = Place::new("unreadable");
    place.start(5);
    place.start(6);
    let before = place.read();
    fs::write(place.record_file(5), "{").unwrap();
    place.mend();
    assert_eq!(place.read(), before);
    place.start(7);
    assert_eq!(place.read().unwrap().len(), 3);
    let lock = place.lock();
    let cookie = record(5).cookie;
    place.store.remove_damaged(&lock, cookie).unwrap();
    place.store.mend_claims(&lock, "boot").unwrap();
    assert_eq!(place.ids(), [6, 7]);
}

#[test]
fn an_id_that_no_endpoint_has_is_refused() {
    let place = Place::new("id");
    place.start(5);
    let lock = place.lock();
    let error = place.store.reserve(&lock, &record(EndpointId::COUNT));
    assert_eq!(error.unwrap_err().kind(), Kind::Internal);
    assert_eq!(place.ids(), [5]);
}

#[test]
fn readers_see_claims_whole_while_others_write() {
    let place = Place::new("readers");
    place.start(0);
    let view = place.store.view().clone();
    let is_done = std::sync::atomic::AtomicBool::new(false);
    let order = std::sync::atomic::Ordering::SeqCst;
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut count = 0;
            while !is_done.load(order) {
                let Some((claims, _)) = view.claims("boot") else {
                    continue;
                };
                count += 1;
                let is_whole = |c: &Claim| {
                    let mut record = record(c.id().0);
                    let active = Claim::from(&record);
                    record.phase = Phase::Creating;
                    [active, Claim::from(&record)].contains(c)
                };
                assert!(claims.iter().all(is_whole), "{claims:?}");
            }
            count
        });
        for id in (1..60).chain(1..60) {
            let record = place.start(id);
            place.remove(&record);
        }
        is_done.store(true, order);
        assert!(reader.join().unwrap() > 0);
    });
}
