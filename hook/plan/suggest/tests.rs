use super::*;
use crate::plan::rules::RuleSet;

fn denied(direction: Direction, remote: &str, protocol: u8, port: u16, reason: u32) -> Denied {
    Denied {
        direction,
        remote: remote.parse().ok(),
        name: None,
        protocol,
        port,
        reason,
        passed: false,
        count: 1,
        first_ms: 0,
        last_ms: 0,
    }
}

use Direction::{Egress, Ingress};

#[test]
fn each_refusal_is_the_narrowest_rule_that_lifts_it() {
    let there = ["tcp:192.0.2.1:443".to_owned()];
    let suggestion = suggest(
        &there,
        &[],
        &[
            denied(Egress, "192.0.2.1", 6, 443, 17),
            denied(Egress, "192.0.2.7", 6, 443, 17),
            denied(Egress, "192.0.2.7", 6, 443, 17),
            denied(Egress, "2001:db8::7", 17, 53, 17),
            denied(Egress, "192.0.2.7", 1, 8, 17),
            denied(Egress, "2001:db8::7", 58, 128, 17),
            denied(Egress, "192.0.2.7", 47, 0, 24),
            denied(Egress, "10.87.0.3", 6, 5432, 19),
            denied(Egress, "172.17.0.2", 6, 6379, 20),
            denied(Ingress, "192.0.2.7", 6, 80, 17),
        ],
    );
    assert_eq!(
        suggestion.egress,
        [
            "tcp:192.0.2.1:443",
            "tcp:192.0.2.7:443",
            "udp:[2001:db8::7]:53",
            "icmp:192.0.2.7:8",
            "icmp:[2001:db8::7]:128",
            "47:192.0.2.7",
            "tcp:10.87.0.3:5432",
            "tcp:172.17.0.2:6379",
        ]
    );
    assert_eq!(suggestion.ingress, ["tcp:192.0.2.7:80"]);
    assert_eq!(suggestion.left, []);
    RuleSet::from_texts(&suggestion.egress).unwrap();
    RuleSet::from_texts(&suggestion.ingress).unwrap();
}

#[test]
fn what_a_trial_refuses_is_left_to_people() {
    let suggestion = suggest(
        &[],
        &[],
        &[
            denied(Egress, "192.0.2.2", 6, 22, 18),
            denied(Egress, "192.0.2.3", 6, 22, 18),
            denied(Egress, "169.254.169.254", 6, 80, 21),
            denied(Egress, "169.254.1.1", 6, 80, 22),
            denied(Egress, "224.0.0.251", 17, 5353, 23),
        ],
    );
    assert_eq!(suggestion.egress, [""; 0]);
    let left: Vec<&str> = suggestion.left.iter().map(|(_, r)| r.as_str()).collect();
    assert_eq!(
        left,
        [
            "tcp:host:22",
            "tcp:metadata:80",
            "tcp:link-local:80",
            "udp:multicast:5353"
        ]
    );
    RuleSet::from_texts(&left).unwrap();
}

#[test]
fn what_no_rule_lifts_is_passed_over() {
    let mut malformed = denied(Egress, "", 0, 0, 1);
    malformed.remote = None;
    let deny_rule = denied(Egress, "192.0.2.7", 6, 443, 16);
    let not_syn = denied(Ingress, "192.0.2.7", 6, 443, 25);
    let suggestion = suggest(&[], &[], &[malformed, deny_rule, not_syn]);
    assert_eq!(suggestion, Suggestion::default());
}

#[test]
fn a_port_that_many_ask_for_is_for_any() {
    let asks = |n: u8| denied(Ingress, &format!("192.0.2.{n}"), 6, 80, 17);
    let some: Vec<Denied> = (1..=8).map(asks).collect();
    assert_eq!(suggest(&[], &[], &some).ingress.len(), 8);
    let mut many: Vec<Denied> = (1..=9).map(asks).collect();
    many.push(denied(Ingress, "10.87.0.3", 6, 80, 19));
    let ingress = suggest(&[], &[], &many).ingress;
    assert_eq!(ingress, ["tcp:any:80", "tcp:10.87.0.3:80"]);
    // Where the container itself goes is said address by address, however many.
    let goes = |n: u8| denied(Egress, &format!("192.0.2.{n}"), 6, 80, 17);
    let goes: Vec<Denied> = (1..=20).map(goes).collect();
    assert_eq!(suggest(&[], &[], &goes).egress.len(), 20);
}

#[test]
fn an_address_that_was_asked_for_by_name_is_suggested_by_name() {
    let by_name = |address: &str| Denied {
        name: Some("github.com".into()),
        ..denied(Egress, address, 6, 443, 17)
    };
    let mut asked = denied(Egress, "", 0, 0, 39);
    asked.name = Some("tracker.example".into());
    let mut passed = asked.clone();
    passed.passed = true;
    let list = [by_name("192.0.2.7"), by_name("192.0.2.8"), asked, passed];
    let suggestion = suggest(&[], &[], &list);
    assert_eq!(suggestion.egress, ["tcp:github.com:443"]);
    assert_eq!(
        suggestion.left,
        [(Egress, "tcp:tracker.example:443".into())]
    );
}
