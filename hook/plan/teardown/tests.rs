use super::*;
use crate::types::record::Phase;

fn member(id: &str, pid: i32) -> Member {
    Member {
        container_id: ContainerId::new(id).unwrap(),
        pid,
        start_time: 1,
    }
}

fn record(cookie: u64, members: &[(&str, i32)]) -> EndpointRecord {
    EndpointRecord {
        boot_id: "now".into(),
        cookie: NetnsCookie(cookie),
        members: members.iter().map(|(id, pid)| member(id, *pid)).collect(),
        addresses: vec!["192.0.2.7/24".parse().unwrap()],
        ..EndpointRecord::example()
    }
}

/// Processes with an odd pid are dead.
fn odd(m: &Member) -> bool {
    m.pid % 2 == 1
}

#[test]
fn the_last_member_takes_the_endpoint_along_newest_first() {
    let web = ContainerId::new("web").unwrap();
    let teardown = poststop(&web, &[record(5, &[("web", 1)])], "now", &odd);
    let [(cookie, undos)] = teardown.remove.as_slice() else {
        panic!("{teardown:?}")
    };
    assert_eq!(*cookie, NetnsCookie(5));
    assert!(matches!(undos.first(), Some(Undo::RetractAddresses { .. })));
    assert!(matches!(undos.last(), Some(Undo::ReleaseGeneration)));
    let pair = undos
        .iter()
        .position(|u| matches!(u, Undo::DeletePair { .. }));
    let links = undos
        .iter()
        .position(|u| matches!(u, Undo::DetachPrograms { .. }));
    assert!(links < pair);
}

#[test]
fn other_members_keep_the_endpoint() {
    let web = ContainerId::new("web").unwrap();
    let teardown = poststop(&web, &[record(5, &[("web", 1), ("db", 2)])], "now", &odd);
    assert_eq!(teardown.leave, [(NetnsCookie(5), member("web", 1))]);
    assert!(teardown.remove.is_empty());
}

#[test]
fn poststop_of_a_restarted_container_leaves_the_new_namespace() {
    let web = ContainerId::new("web").unwrap();
    let records = [record(5, &[("web", 1)]), record(6, &[("web", 2)])];
    let teardown = poststop(&web, &records, "now", &odd);
    assert_eq!(teardown.remove.len(), 1);
    assert_eq!(teardown.remove[0].0, NetnsCookie(5));
}

#[test]
fn poststop_is_about_its_container_only() {
    let web = ContainerId::new("web").unwrap();
    assert!(poststop(&web, &[record(5, &[("db", 1)])], "now", &odd).is_empty());
    assert!(poststop(&web, &[], "now", &odd).is_empty());
    let old = EndpointRecord {
        boot_id: "before".into(),
        ..record(5, &[("web", 1)])
    };
    assert!(
        poststop(&web, &[old], "now", &odd).is_empty(),
        "the cookie may be another's now"
    );
}

#[test]
fn gc_takes_what_is_dead_stale_or_orphaned() {
    let old = EndpointRecord {
        boot_id: "before".into(),
        ..record(8, &[("x", 2)])
    };
    let half = EndpointRecord {
        phase: Phase::Creating,
        ..record(9, &[("y", 3)])
    };
    let records = [
        record(5, &[("web", 1), ("db", 3)]),
        record(6, &[("a", 2), ("b", 1)]),
        old,
        half,
    ];
    let pins = [5, 6, 7, 8].map(NetnsCookie);
    let teardown = gc(&records, &[], &pins, "now", &odd);
    let removed: Vec<u64> = teardown.remove.iter().map(|(c, _)| c.0).collect();
    assert_eq!(removed, [5, 9]);
    assert_eq!(teardown.leave, [(NetnsCookie(6), member("b", 1))]);
    assert_eq!(teardown.forget, [("before".to_owned(), NetnsCookie(8))]);
    assert_eq!(teardown.unpin, [7, 8].map(NetnsCookie));
}

#[test]
fn gc_of_a_healthy_host_does_nothing() {
    let pins = [NetnsCookie(5)];
    assert!(gc(&[record(5, &[("web", 2)])], &[], &pins, "now", &odd).is_empty());
}

#[test]
fn damaged_record_goes_unless_something_of_it_stands() {
    let damaged = [5, 6].map(NetnsCookie);
    let pins = [NetnsCookie(5)];
    let teardown = gc(&[], &damaged, &pins, "now", &odd);
    assert_eq!(teardown.damaged, [NetnsCookie(6)]);
    assert!(teardown.unpin.is_empty(), "it may be running");
}
