use super::*;
use crate::plan::step::{MapSpec, PairSpec};
use crate::types::id::{ContainerId, EndpointId};
use crate::types::name::IfName;
use crate::types::record::Member;

/// Writes down what is asked of it; fails where told.
struct FakeHost {
    log: Vec<String>,
    record: EndpointRecord,
    fail_at: Option<&'static str>,
    fail_undo: bool,
}

impl FakeHost {
    fn new(fail_at: Option<&'static str>) -> Self {
        Self {
            log: Vec::new(),
            record: record(),
            fail_at,
            fail_undo: false,
        }
    }
}

impl Host for FakeHost {
    fn run(&mut self, step: &Step) -> Result<()> {
        let text = step.to_string();
        let fail = self.fail_at.is_some_and(|at| text.contains(at));
        self.log.push(format!("run {text}"));
        if fail {
            Err(Error::new(Kind::Kernel, "no"))
        } else {
            Ok(())
        }
    }

    fn undo(&mut self, undo: &Undo) -> Result<()> {
        self.log.push(format!("undo {undo:?}"));
        if self.fail_undo {
            Err(Error::new(Kind::Kernel, "stuck"))
        } else {
            Ok(())
        }
    }

    fn commit(&mut self) -> Result<()> {
        self.log.push("commit".into());
        Ok(())
    }

    fn record(&self) -> &EndpointRecord {
        &self.record
    }
}

/// Notes how far the host was when each undo was written.
#[derive(Default)]
struct FakeJournal(Vec<Undo>);

impl Journal for FakeJournal {
    fn record(&mut self, undo: &Undo) -> Result<()> {
        self.0.push(undo.clone());
        Ok(())
    }
}

fn record() -> EndpointRecord {
    EndpointRecord {
        phase: Phase::Creating,
        members: vec![Member {
            container_id: ContainerId::new("c1").unwrap(),
            pid: i32::MAX,
            start_time: 1,
        }],
        ..EndpointRecord::example()
    }
}

fn steps() -> Vec<Step> {
    let pair = PairSpec {
        primary: IfName::new("onk3").unwrap(),
        peer: IfName::new("eth0").unwrap(),
        sizes: crate::plan::step::LinkSizes::default(),
    };
    let maps = MapSpec {
        id: EndpointId(3),
        policy: vec![],
        epoch: 1,
        slot: 6,
        flows_out: 1,
        flows_in: Some(1),
        denied: 1,
        names: None,
        learned: 1,
        nxdomain: false,
        guard: false,
        mtu_bytes: 1500,
        nat: None,
        budget: None,
        rate_ingress: false,
    };
    vec![
        Step::EnsureGeneration,
        Step::CreatePair(pair),
        Step::FillMaps(maps),
        Step::AddAddress("192.0.2.1/32".parse().unwrap()),
        Step::AttachPrograms { guard: false },
    ]
}

fn later() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

#[test]
fn failed_step_is_taken_back_too_and_newest_goes_first() {
    let mut host = FakeHost::new(Some("write 0 policy"));
    let mut journal = FakeJournal::default();
    let error = apply(&steps(), &record(), &mut host, &mut journal, &later()).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("write 0 policy entries to slot 6: no"),
        "{error}"
    );
    let undos: Vec<_> = host.log.iter().filter(|l| l.starts_with("undo")).collect();
    assert_eq!(undos.len(), 3, "{undos:?}");
    assert!(undos[0].contains("ClearMaps"));
    assert!(undos[1].contains("DeletePair"));
    assert!(undos[2].contains("ReleaseGeneration"));
    assert!(!host.log.iter().any(|l| l.contains("attach")));
}

#[test]
fn journal_has_each_undo_before_its_step_runs() {
    struct Watch(FakeHost, std::rc::Rc<std::cell::Cell<usize>>);
    struct Count(std::rc::Rc<std::cell::Cell<usize>>);
    impl Journal for Count {
        fn record(&mut self, _: &Undo) -> Result<()> {
            self.0.set(self.0.get() + 1);
            Ok(())
        }
    }
    impl Host for Watch {
        fn run(&mut self, step: &Step) -> Result<()> {
            let written = self.1.get();
            self.0.log.push(format!("{written} {}", step));
            Ok(())
        }
        fn undo(&mut self, undo: &Undo) -> Result<()> {
            self.0.undo(undo)
        }
        fn commit(&mut self) -> Result<()> {
            Ok(())
        }
        fn record(&self) -> &EndpointRecord {
            &self.0.record
        }
    }
    let count = std::rc::Rc::new(std::cell::Cell::new(0));
    let mut host = Watch(FakeHost::new(None), count.clone());
    apply(&steps(), &record(), &mut host, &mut Count(count), &later()).unwrap();
    let written: Vec<&str> = host.0.log.iter().map(|l| &l[..1]).collect();
    assert_eq!(written, ["1", "2", "3", "3", "4"]); // an address has no undo of its own
}

#[test]
fn journal_that_cannot_be_written_stops_the_step() {
    struct Broken;
    impl Journal for Broken {
        fn record(&mut self, _: &Undo) -> Result<()> {
            Err(Error::new(Kind::Kernel, "disk full"))
        }
    }
    let mut host = FakeHost::new(None);
    let error = apply(&steps(), &record(), &mut host, &mut Broken, &later()).unwrap_err();
    assert!(error.to_string().contains("disk full"));
    assert!(host.log.is_empty(), "{:?}", host.log);
}

#[test]
fn passed_deadline_takes_back_what_was_done() {
    let mut host = FakeHost::new(None);
    let mut journal = FakeJournal::default();
    let over = Deadline::after(Duration::ZERO);
    let error = apply(&steps(), &record(), &mut host, &mut journal, &over).unwrap_err();
    assert_eq!(error.kind(), Kind::Timeout);
    assert!(host.log.is_empty());
}

#[test]
fn both_causes_are_kept_and_teardown_never_stops() {
    let mut host = FakeHost::new(Some("attach"));
    host.fail_undo = true;
    let mut journal = FakeJournal::default();
    let error = apply(&steps(), &record(), &mut host, &mut journal, &later()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("attach from_container, to_container: no"),
        "{text}"
    );
    assert_eq!(text.matches("stuck").count(), 4, "{text}");
    assert!(error.hint().unwrap().contains("gc"));
}

/// State in a directory of its own.
struct Place(Paths);

impl Place {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("nk-apply-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).unwrap();
        Self(Paths {
            state_dir: dir.join("state"),
            lasting_dir: dir.join("lasting"),
            bpffs_dir: dir.join("no-bpffs"),
        })
    }

    fn reserve(&self) -> Store {
        let store = Store::open(&self.0).unwrap();
        let lock = store.lock_ledger(&later()).unwrap();
        store.reserve(&lock, &record()).unwrap();
        store
    }

    fn create(&self, host: &mut FakeHost) -> Result<EndpointRecord> {
        self.create_with(host, &steps())
    }

    fn create_with(&self, host: &mut FakeHost, steps: &[Step]) -> Result<EndpointRecord> {
        let store = Store::open(&self.0).unwrap();
        let lock = store.lock_endpoint(record().cookie, &later()).unwrap();
        create_on(host, &self.0, lock, &record(), steps, &later())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0.state_dir.parent().unwrap());
    }
}

#[test]
fn created_endpoint_is_active_and_leaves_no_journal() {
    let place = Place::new("create");
    let store = place.reserve();
    let mut host = FakeHost::new(None);
    host.record.primary_ifindex = 12;
    let made = place.create(&mut host).unwrap();
    assert_eq!((made.phase, made.primary_ifindex), (Phase::Active, 12));
    assert_eq!(store.view().find(made.cookie).unwrap(), Some(made));
    assert!(store.view().journals().unwrap().is_empty());
    assert_eq!(host.log.last().unwrap(), "commit");
}

#[test]
fn failed_create_leaves_neither_record_nor_journal() {
    let place = Place::new("failed");
    let store = place.reserve();
    let mut host = FakeHost::new(Some("attach"));
    place.create(&mut host).unwrap_err();
    assert_eq!(store.view().find(record().cookie).unwrap(), None);
    assert!(store.view().journals().unwrap().is_empty());
    let left: Vec<_> = std::fs::read_dir(place.0.state_dir.join("endpoints"))
        .unwrap()
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_cannot_be_taken_back_keeps_its_reservation_and_journal() {
    let place = Place::new("stuck");
    let store = place.reserve();
    let mut host = FakeHost::new(Some("attach"));
    host.fail_undo = true;
    place.create(&mut host).unwrap_err();
    assert!(store.view().find(record().cookie).unwrap().is_some());
    assert_eq!(store.view().journals().unwrap(), [record().cookie]);
}

#[test]
fn packets_are_delivered_once_the_record_says_that_all_stands() {
    let mut steps = steps();
    steps.push(Step::PublishAddresses {
        id: EndpointId(3),
        addresses: vec![],
    });
    steps.push(Step::ClaimAddresses(vec![]));
    for (fails, phase) in [
        ("attach", Phase::Creating),
        ("deliver", Phase::Active),
        ("answer for", Phase::Active),
    ] {
        let place = Place::new("opening");
        let store = place.reserve();
        let mut host = FakeHost::new(Some(fails));
        host.fail_undo = true;
        place.create_with(&mut host, &steps).unwrap_err();
        let left = store.view().find(record().cookie).unwrap().unwrap();
        assert_eq!(left.phase, phase, "{fails}");
    }
}

#[test]
fn create_without_its_reservation_does_nothing() {
    let place = Place::new("gone");
    Store::open(&place.0).unwrap();
    let mut host = FakeHost::new(None);
    let error = place.create(&mut host).unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    assert!(host.log.is_empty());
}

#[test]
fn journal_of_a_living_hook_is_left_alone() {
    let place = Place::new("living");
    let store = place.reserve();
    let held = store.lock_endpoint(record().cookie, &later()).unwrap();
    FileJournal::create(&store.view().journal_path(record().cookie), &record()).unwrap();
    let recovered = recover(&place.0, "boot", &later()).unwrap();
    assert!(recovered.endpoints.is_empty() && recovered.errors.is_empty());
    assert_eq!(store.view().journals().unwrap().len(), 1);
    drop(held);
    let recovered = recover(&place.0, "boot", &later()).unwrap();
    assert_eq!(recovered.endpoints.len(), 1, "{:?}", recovered.errors);
    assert!(store.view().journals().unwrap().is_empty());
    assert!(store.view().find(record().cookie).unwrap().is_none());
}

#[test]
fn journal_of_a_complete_endpoint_takes_nothing_back() {
    let place = Place::new("complete");
    let store = place.reserve();
    let lock = store.lock_ledger(&later()).unwrap();
    store.activate(&lock, &mut record()).unwrap();
    drop(lock);
    let path = store.view().journal_path(record().cookie);
    FileJournal::create(&path, &record()).unwrap();
    assert!(
        recover(&place.0, "boot", &later())
            .unwrap()
            .endpoints
            .is_empty()
    );
    assert!(!path.exists());
    assert!(store.view().find(record().cookie).unwrap().is_some());
}

#[test]
fn reservation_of_a_dead_hook_is_given_up() {
    let place = Place::new("reserved");
    let store = place.reserve();
    let held = store.lock_endpoint(record().cookie, &later()).unwrap();
    assert!(
        recover(&place.0, "boot", &later())
            .unwrap()
            .endpoints
            .is_empty()
    );
    assert!(store.view().find(record().cookie).unwrap().is_some());
    drop(held);
    let recovered = recover(&place.0, "boot", &later()).unwrap();
    assert_eq!(recovered.endpoints.len(), 1, "{:?}", recovered.errors);
    assert!(store.view().find(record().cookie).unwrap().is_none());
}

#[test]
fn reservation_whose_journal_cannot_begin_is_given_up() {
    let place = Place::new("no-journal");
    let store = place.reserve();
    std::fs::create_dir(store.view().journal_path(record().cookie)).unwrap();
    let mut host = FakeHost::new(None);
    assert!(place.create(&mut host).is_err());
    assert!(host.log.is_empty(), "{:?}", host.log);
    assert!(store.view().find(record().cookie).unwrap().is_none());
}

#[test]
fn damaged_journal_of_nothing_that_stands_goes_even_beside_a_damaged_record() {
    let place = Place::new("damaged");
    let store = Store::open(&place.0).unwrap();
    let path = store.view().journal_path(record().cookie);
    std::fs::write(&path, "\0\0\n").unwrap();
    std::fs::write(
        path.with_file_name("../endpoints/0000000000000009.json"),
        "",
    )
    .unwrap();
    let recovered = recover(&place.0, "boot", &later()).unwrap();
    assert!(
        recovered.errors.is_empty() && !path.exists(),
        "{recovered:?}"
    );
}
