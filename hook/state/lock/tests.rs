use super::*;

fn place(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("nk-lock-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

#[test]
fn second_waiter_times_out_naming_the_holder() {
    let dir = place("timeout");
    let path = dir.join("x.lock");
    let held = Lock::acquire(&path, &Deadline::after(Duration::ZERO)).unwrap();
    let error = Lock::acquire(&path, &Deadline::after(Duration::from_millis(20))).unwrap_err();
    assert_eq!(error.kind(), Kind::Timeout);
    assert!(
        error
            .to_string()
            .contains(&format!("process {}", std::process::id())),
        "{error}"
    );
    drop(held);
    Lock::acquire(&path, &Deadline::after(Duration::ZERO)).unwrap();
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn removing_a_lock_file_leaves_later_lockers_one_lock() {
    let dir = place("remove");
    let path = dir.join("x.lock");
    let first = Lock::acquire(&path, &Deadline::after(Duration::ZERO)).unwrap();
    first.remove().unwrap();
    let second = Lock::acquire(&path, &Deadline::after(Duration::ZERO)).unwrap();
    assert!(Lock::try_acquire(&path).unwrap().is_none());
    drop(second);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn passed_deadline_names_what_came_next() {
    let error = Deadline::after(Duration::ZERO)
        .check("create netkit pair")
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Timeout);
    assert!(error.to_string().contains("create netkit pair"));
}

#[test]
fn lock_is_not_taken_through_a_symlink() {
    let dir = place("symlink");
    let path = dir.join("x.lock");
    std::os::unix::fs::symlink(dir.join("elsewhere"), &path).unwrap();
    assert!(Lock::try_acquire(&path).is_err());
    std::fs::remove_dir_all(dir).unwrap();
}
