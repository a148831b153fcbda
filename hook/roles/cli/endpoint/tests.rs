use super::*;
use crate::inspect::PolicyWord;
use crate::types::id::{ContainerId, EndpointId};
use crate::types::record::{EndpointRecord, Member};

fn view(id: u32, name: &str, container: &str) -> EndpointView {
    let member = Member {
        container_id: ContainerId::new(container).unwrap(),
        pid: 1,
        start_time: 1,
    };
    EndpointView {
        record: EndpointRecord {
            id: EndpointId(id),
            name: name.into(),
            members: vec![member],
            ..EndpointRecord::example()
        },
        alive: vec![true],
        has_primary: true,
        attached: vec!["from_container".into(), "to_container".into()],
        policy: PolicyWord { epoch: 1, slot: 0 },
    }
}

#[test]
fn a_name_an_id_and_a_unique_prefix_all_find_it() {
    let views = [view(0, "web", "aaa111"), view(1, "db", "aab222")];
    for (wanted, id) in [("web", 0), ("aab222", 1), ("aaa", 0), ("d", 1)] {
        assert_eq!(choose(&views, wanted).unwrap().record.id.0, id, "{wanted}");
    }
}

#[test]
fn an_exact_name_wins_over_a_longer_one() {
    let views = [view(0, "web2", "aaa"), view(1, "web", "bbb")];
    assert_eq!(choose(&views, "web").unwrap().record.id.0, 1);
}

#[test]
fn an_ambiguous_or_unknown_id_is_an_error_that_helps() {
    let views = [view(0, "web", "aaa111"), view(1, "db", "aab222")];
    assert!(
        choose(&views, "aa")
            .unwrap_err()
            .to_string()
            .contains("web and db")
    );
    assert!(choose(&views, "").is_err());
    assert!(choose(&views, "zzz").unwrap_err().hint().is_some());
}

#[test]
fn an_endpoint_without_its_programs_or_rules_is_not_alive_and_broken_while_a_member_runs() {
    let whole = Summary::from(&view(0, "web", "a"));
    assert!(whole.alive && !whole.broken);
    let creating = |v: &mut EndpointView| {
        v.record.phase = Phase::Creating;
        v.policy.epoch = 0;
    };
    type Loss<'a> = (&'a dyn Fn(&mut EndpointView), bool);
    let losses: [Loss<'_>; 5] = [
        (&|v| v.policy.epoch = 0, true),
        (&|v| v.has_primary = false, true),
        (&|v| v.attached.truncate(1), true),
        (&|v| v.alive = vec![false], false),
        (&creating, false),
    ];
    for (spoil, broken) in losses {
        let mut spoilt = view(0, "web", "a");
        spoil(&mut spoilt);
        let summary = Summary::from(&spoilt);
        assert_eq!((summary.alive, summary.broken), (false, broken));
    }
}
