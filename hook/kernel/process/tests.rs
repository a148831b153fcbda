use super::*;

#[test]
fn start_time_survives_odd_names() {
    let tail = " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 424242 20 21";
    for name in ["sh", "a b", "x) y", ") S 1 (", "((("] {
        assert_eq!(
            start_time(&format!("17 ({name}){tail}")),
            Some(424_242),
            "{name}"
        );
    }
    assert_eq!(start_time("17 (sh) S 1"), None);
    assert_eq!(start_time(""), None);
}

#[test]
fn pids_that_are_none_are_bad_input() {
    for pid in [0, -1, i32::MIN, i32::MAX] {
        assert_eq!(
            Process::open(pid).unwrap_err().kind(),
            Kind::BadInput,
            "{pid}"
        );
    }
}

#[test]
fn own_process_lives_and_a_reaped_child_does_not() {
    let own = Process::open(i32::try_from(std::process::id()).unwrap()).unwrap();
    assert!(own.is_alive().unwrap());
    let start = own.start_time().unwrap();
    assert!(!is_dead(own.pid(), start));
    assert!(is_dead(own.pid(), start + 1));
    let mut child = std::process::Command::new("/bin/sleep")
        .arg("60")
        .spawn()
        .unwrap();
    let process = Process::open(i32::try_from(child.id()).unwrap()).unwrap();
    let start = process.start_time().unwrap();
    assert!(!is_dead(process.pid(), start));
    child.kill().unwrap();
    // A zombie, for as long as nobody waits for it.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !is_dead(process.pid(), start) {
        assert!(std::time::Instant::now() < end);
        std::thread::yield_now();
    }
    child.wait().unwrap();
    assert!(process.check_alive().is_err());
    assert!(process.start_time().is_err());
    assert!(is_dead(process.pid(), start));
}

#[test]
fn capabilities_of_any_set_count_and_no_sets_mean_all() {
    let spec = |caps: &str| -> Bundle {
        serde_json::from_str(&format!(
            r#"{{"ociVersion":"1.0.0","process":{{"user":{{"uid":0,"gid":0}},"cwd":"/"{caps}}}}}"#
        ))
        .unwrap()
    };
    assert_eq!(dangerous(&spec("")), ["CAP_NET_ADMIN", "CAP_SYS_ADMIN"]);
    assert!(dangerous(&spec(r#","capabilities":{"bounding":["CAP_CHOWN"]}"#)).is_empty());
    for set in [
        "bounding",
        "effective",
        "permitted",
        "inheritable",
        "ambient",
    ] {
        let caps = format!(r#","capabilities":{{"{set}":["CAP_NET_ADMIN"]}}"#);
        assert_eq!(dangerous(&spec(&caps)), ["CAP_NET_ADMIN"], "{set}");
    }
}

#[test]
fn only_the_full_identity_map_is_the_hosts() {
    assert!(is_identity("         0          0 4294967295\n"));
    assert!(!is_identity("0 100000 65536\n"));
    assert!(!is_identity("0 1000 1\n1 100000 65536\n"));
    assert!(!is_identity(""));
}

#[test]
fn prepared_resolv_conf_in_an_own_namespace_means_a_network_comes() {
    let spec = |namespace: &str, source: &str| -> Bundle {
        serde_json::from_str(&format!(
            r#"{{"ociVersion":"1.0.0","linux":{{"namespaces":[{{"type":"network"{namespace}}}]}},
                "mounts":[{{"destination":"/etc/resolv.conf","source":"{source}"}}]}}"#
        ))
        .unwrap()
    };
    let expects = |s: &Bundle| makes_own_namespace(s) && has_prepared_resolv_conf(s);
    let podmans = "/run/containers/storage/overlay-containers/abc/userdata/resolv.conf";
    assert!(expects(&spec("", podmans)));
    assert!(!expects(&spec("", "/home/me/resolv.conf")));
    assert!(!expects(&spec(r#","path":"/run/netns/x""#, podmans)));
}

#[test]
fn the_way_up_ends_at_the_first_process() {
    let mut pid = i32::try_from(std::process::id()).unwrap();
    assert_eq!(parent(pid).unwrap(), nix::unistd::getppid().as_raw());
    while pid > 1 {
        pid = parent(pid).unwrap();
    }
    assert!(parent(i32::MAX).is_err());
}
