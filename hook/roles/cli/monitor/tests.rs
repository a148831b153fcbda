use super::*;
use crate::inspect::PolicyWord;
use crate::types::direction::Direction;
use crate::types::record::EndpointRecord;

fn denied(port: u16, count: u64) -> Denied {
    Denied {
        direction: Direction::Egress,
        remote: "192.0.2.7".parse().ok(),
        name: None,
        protocol: 6,
        port,
        reason: 17,
        passed: false,
        count,
        first_ms: 0,
        last_ms: 1000,
    }
}

#[test]
fn only_what_was_added_is_told() {
    let view = EndpointView {
        record: EndpointRecord::example(),
        alive: Vec::new(),
        has_primary: true,
        attached: Vec::new(),
        policy: PolicyWord::default(),
    };
    let mut before = HashMap::new();
    let mut look = |list: &[Denied]| -> Vec<(Option<u16>, u64)> {
        let events = added(&view, list, &mut before);
        events.iter().map(|e| (e.row.port, e.added)).collect()
    };
    assert_eq!(look(&[denied(1, 3)]), [(Some(1), 3)]);
    assert_eq!(look(&[denied(1, 3), denied(2, 1)]), [(Some(2), 1)]);
    assert_eq!(look(&[denied(1, 5), denied(2, 1)]), [(Some(1), 2)]);
    // It made room for others and came back.
    assert_eq!(look(&[denied(2, 1)]), []);
    assert_eq!(look(&[denied(1, 1), denied(2, 1)]), [(Some(1), 1)]);
    let event = &added(&view, &[denied(1, 2)], &mut before)[0];
    assert_eq!(
        text(event, Output::default()).unwrap(),
        "1970-01-01T00:00:01Z  web  egress tcp 192.0.2.7 1  refused as no-rule (+1)\n"
    );
}
