use super::*;

const RECORD: &str = r#"{"version":1,"boot_id":"b","cookie":5,"id":1,"name":"n","phase":"creating",
    "members":[],"keys":{},"interface":"eth0","primary":"onk1","primary_ifindex":0,
    "peer_ifindex":0,"addresses":[],"egress":[],"ingress":[],"resolvers":[],"mtu_bytes":1500,
    "guard":false,"generation":"","epoch":1,"created":0}"#;

fn record_line() -> String {
    RECORD.replace('\n', "") + "\n"
}

fn undo_line(undo: &Undo) -> String {
    serde_json::to_string(undo).unwrap() + "\n"
}

#[test]
fn undos_come_back_newest_first() {
    let text =
        record_line() + &undo_line(&Undo::ReleaseGeneration) + &undo_line(&Undo::ReleaseUplinks);
    let entries = parse(&text).unwrap();
    assert_eq!(
        entries.undos,
        [Undo::ReleaseUplinks, Undo::ReleaseGeneration]
    );
    assert_eq!(entries.record.unwrap().primary.as_str(), "onk1");
}

#[test]
fn journal_torn_at_any_byte_is_read_up_to_there() {
    let text = record_line() + &undo_line(&Undo::ReleaseGeneration);
    let first = record_line().len();
    for len in 0..text.len() {
        let entries = parse(&text[..len]).unwrap();
        assert_eq!(entries.record.is_some(), len >= first, "{len}");
        assert!(entries.undos.is_empty(), "{len}");
    }
    assert_eq!(parse(&text).unwrap().undos.len(), 1);
}

#[test]
fn damage_inside_is_an_error() {
    assert!(parse(&(record_line() + "{}\n")).is_err());
    assert!(parse("{}\n").is_err());
}

#[test]
fn journal_is_not_begun_over_another() {
    let path = std::env::temp_dir().join(format!("nk-journal-{}.jsonl", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let record: EndpointRecord = serde_json::from_str(&record_line()).unwrap();
    let mut journal = FileJournal::create(&path, &record).unwrap();
    journal.record(&Undo::ReleaseUplinks).unwrap();
    assert_eq!(
        FileJournal::create(&path, &record).unwrap_err().kind(),
        Kind::Conflict
    );
    let entries = read(&path).unwrap().unwrap();
    assert_eq!(
        (entries.record, entries.undos),
        (Some(record), vec![Undo::ReleaseUplinks])
    );
    journal.finish().unwrap();
    assert_eq!(read(&path).unwrap(), None);
}
