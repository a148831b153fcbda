use std::collections::BTreeMap;

use super::*;
use crate::facts::{HostRoute, Link};

fn host() -> HostFacts {
    HostFacts {
        links: vec![Link::example(2, "eth0")],
        routes: vec![HostRoute {
            destination: "0.0.0.0/0".parse().unwrap(),
            ifindex: Some(2),
            gateway: None,
        }],
        ..HostFacts::example()
    }
}

fn record(egress: &[&str], keys: &[(&str, &str)]) -> EndpointRecord {
    let keys = keys.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    EndpointRecord {
        egress: egress.iter().map(|t| (*t).to_owned()).collect(),
        keys: keys.collect::<BTreeMap<_, _>>(),
        epoch: 4,
        ..EndpointRecord::example()
    }
}

const NOW: PolicyWord = PolicyWord { epoch: 4, slot: 6 };

fn rules(text: &str) -> RuleSet {
    RuleSet::parse(text).unwrap()
}

fn revised(record: &EndpointRecord, change: &Change, config: &str) -> Option<Revision> {
    let config = Config::parse(config).unwrap();
    revise(record, change, &config, &host(), NOW).unwrap()
}

#[track_caller]
fn refused(record: &EndpointRecord, change: &Change, text: &str) {
    let e = revise(record, change, &Config::default(), &host(), NOW).unwrap_err();
    assert!(e.report().contains(text), "{}", e.report());
}

#[test]
fn a_change_takes_the_other_slot_and_the_next_epoch() {
    let there = record(&["tcp:192.0.2.1:443"], &[]);
    let change = Change::Allow(Direction::Egress, rules("udp:192.0.2.53:53"));
    let new = revised(&there, &change, "").unwrap();
    assert_eq!(new.egress, ["tcp:192.0.2.1:443", "udp:192.0.2.53:53"]);
    assert_eq!(new.next, PolicyWord { epoch: 5, slot: 7 });
    assert_eq!(new.revised, [Direction::Egress]);
    assert!(!new.tables.rules.is_empty());
    let last = PolicyWord {
        epoch: u32::MAX,
        slot: 7,
    };
    let there = EndpointRecord {
        epoch: u32::MAX,
        ..there
    };
    let new = revise(&there, &change, &Config::default(), &host(), last).unwrap();
    assert_eq!(new.unwrap().next, PolicyWord { epoch: 1, slot: 6 });
}

#[test]
fn inbound_flows_have_a_table_where_a_rule_lets_one_open() {
    let flows_in = |direction, text, mode| {
        let change = Change::Set {
            egress: (direction == Direction::Egress).then(|| rules(text)),
            ingress: (direction == Direction::Ingress).then(|| rules(text)),
            mode: Some(mode),
        };
        let config = "audit_allowed = true\n[limits]\nflows_in = 7\n";
        revised(&record(&[], &[]), &change, config)
            .unwrap()
            .flows_in
    };
    assert_eq!(
        flows_in(Direction::Egress, "tcp:any:443", Mode::Enforce),
        None
    );
    assert_eq!(
        flows_in(Direction::Ingress, "!192.0.2.1", Mode::Enforce),
        None
    );
    assert_eq!(
        flows_in(Direction::Ingress, "tcp:any:80", Mode::Enforce),
        Some(7)
    );
    assert_eq!(
        flows_in(Direction::Egress, "tcp:any:443", Mode::Audit),
        Some(7)
    );
}

#[test]
fn what_is_not_given_stays() {
    let there = EndpointRecord {
        ingress: vec!["tcp:any:80".into()],
        ..record(&["tcp:any:443"], &[])
    };
    let change = Change::Set {
        egress: Some(rules("")),
        ingress: None,
        mode: None,
    };
    let new = revised(&there, &change, "").unwrap();
    assert_eq!(new.egress, [""; 0]);
    assert_eq!(new.ingress, ["tcp:any:80"]);
    assert_eq!(new.mode, Mode::Enforce);
}

#[test]
fn rules_are_revoked_by_what_they_say() {
    let there = record(&["any:443"], &[]);
    let change = Change::Revoke(Direction::Egress, rules("tcp:any:443"));
    assert_eq!(revised(&there, &change, "").unwrap().egress, [""; 0]);
    let change = Change::Revoke(Direction::Egress, rules("tcp:any:80"));
    refused(
        &there,
        &change,
        "no egress rule says \"tcp:any:80\"\nhint: the egress rules are: any:443",
    );
    let change = Change::Revoke(Direction::Ingress, rules("tcp:any:80"));
    refused(&there, &change, "hint: there are no ingress rules");
}

#[test]
fn what_is_in_force_already_changes_nothing() {
    let there = EndpointRecord {
        revised: vec![Direction::Egress],
        ..record(&["any:443"], &[])
    };
    let change = Change::Allow(Direction::Egress, rules("tcp:any:443"));
    assert_eq!(revised(&there, &change, ""), None);
    // The record is ahead: the change was killed before it came into force.
    let ahead = EndpointRecord { epoch: 5, ..there };
    let mended = revised(&ahead, &Change::NONE, "").unwrap();
    assert_eq!(mended.next, PolicyWord { epoch: 5, slot: 7 });
    assert_eq!(mended.egress, ["any:443"]);
}

#[test]
fn a_reload_takes_what_came_from_the_config() {
    let config = "[profile.default]\negress = \"tcp:any:1\"\ningress = \"tcp:any:2\"\n\
                  [profile.web]\negress = \"tcp:any:3\"\n";
    let egress =
        |record: &EndpointRecord| revised(record, &Change::Reload, config).map(|r| r.egress);
    assert_eq!(egress(&record(&["tcp:any:9"], &[])).unwrap(), ["tcp:any:1"]);
    let web = record(&["tcp:any:9"], &[("profile", "web")]);
    assert_eq!(egress(&web).unwrap(), ["tcp:any:3"]);
    let own = record(&["tcp:any:9"], &[("egress", "tcp:any:9")]);
    let new = revised(&own, &Change::Reload, config).unwrap();
    assert_eq!(
        (new.egress, new.ingress),
        (vec!["tcp:any:9".into()], vec!["tcp:any:2".into()])
    );
    let changed = EndpointRecord {
        revised: vec![Direction::Egress, Direction::Ingress],
        ..record(&["tcp:any:9"], &[])
    };
    assert_eq!(egress(&changed), None);
    let gone = record(&[], &[("profile", "gone")]);
    refused(&gone, &Change::Reload, "the config has no profile \"gone\"");
}

#[test]
fn a_trial_begins_only_where_the_config_allows_it_and_ends_anywhere() {
    let begin = |mode| Change::Set {
        egress: None,
        ingress: None,
        mode: Some(mode),
    };
    let there = record(&["any:443"], &[]);
    refused(&there, &begin(Mode::Audit), "audit_allowed = true");
    let new = revised(&there, &begin(Mode::Audit), "audit_allowed = true").unwrap();
    assert_eq!((new.mode, new.revised), (Mode::Audit, vec![]));
    let tried = EndpointRecord {
        mode: Mode::Audit,
        ..there
    };
    let new = revised(&tried, &begin(Mode::Enforce), "").unwrap();
    assert_eq!(new.mode, Mode::Enforce);
}

#[test]
fn an_endpoint_that_does_not_stand_is_refused() {
    let change = Change::Allow(Direction::Egress, rules("any:443"));
    let creating = EndpointRecord {
        phase: Phase::Creating,
        ..record(&[], &[])
    };
    refused(&creating, &change, "has no rules in force");
    let none = PolicyWord::default();
    let e = revise(
        &record(&[], &[]),
        &change,
        &Config::default(),
        &host(),
        none,
    )
    .unwrap_err();
    assert_eq!(e.kind(), Kind::Conflict);
}
