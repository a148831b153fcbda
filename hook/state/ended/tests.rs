use super::*;
use crate::state::Paths;
use crate::types::direction::Direction;
use crate::types::id::NetnsCookie;

fn denied() -> Denied {
    Denied {
        direction: Direction::Egress,
        remote: "192.0.2.7".parse().ok(),
        name: None,
        protocol: 6,
        port: 443,
        reason: 17,
        passed: false,
        count: 3,
        first_ms: 1,
        last_ms: 2,
    }
}

#[test]
fn the_newest_are_kept() {
    let dir = std::env::temp_dir().join(format!("nk-ended-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    let paths = Paths {
        state_dir: dir.clone(),
        lasting_dir: dir.join("lasting"),
        bpffs_dir: dir.clone(),
    };
    let store = Store::open(&paths).unwrap();
    assert_eq!(store.view().ended().unwrap(), []);
    for n in 0..KEPT + 3 {
        let record = EndpointRecord {
            name: format!("job{n}"),
            cookie: NetnsCookie(n as u64 + 1),
            ..EndpointRecord::example()
        };
        let ended = Ended::new(&record, vec![denied()]);
        store.remember_ended(&record, &ended).unwrap();
        // File times have a grain of some milliseconds.
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    fs::write(dir.join(DIR).join("0.json"), "damaged").unwrap();
    let ended = store.view().ended().unwrap();
    let names: Vec<&str> = ended.iter().map(|e| e.name.as_str()).collect();
    assert_eq!(names.len(), KEPT);
    assert_eq!((names[0], names[KEPT - 1]), ("job34", "job3"));
    assert_eq!(ended[0].denied, [denied()]);
    fs::remove_dir_all(&dir).unwrap();
}
