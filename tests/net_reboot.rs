//! A state directory that outlived its boot, as where /run is on a disk, with files that the power
//! cut damaged: whatever comes first works, and nothing of the old boot is left or in the way.
//!
//! tests/power/run does it with two boots; here is every kind of damage.

mod rig;

mod guest {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::Child;

    use crate::rig::hook::{
        ADDRESS, Run, assert_as_before, create, gc, has_network, leftovers, poststop, warm_up,
    };
    use crate::rig::{cli, host};

    /// Another boot's id.
    const OLD_BOOT: &str = "11111111-2222-4333-8444-555555555555";
    /// A cookie that no namespace of a test has.
    const FAR: u64 = 0xf000;

    /// What a file system that was not asked to sync may make of a file.
    fn damages(whole: &[u8]) -> [Vec<u8>; 6] {
        [
            Vec::new(),
            vec![0; whole.len()],
            whole[..whole.len() / 2].to_vec(),
            [&whole[..whole.len() / 2], b"\n"].concat(),
            b"\xff\xfe\0garbage\n\n{}\n".to_vec(),
            b"{}".to_vec(),
        ]
    }

    /// Files of the state directory by their paths in it.
    #[derive(Clone)]
    struct OldState(Vec<(PathBuf, Vec<u8>)>);

    impl OldState {
        /// Of two endpoints, one of them half built, and of more that are damaged.
        fn new() -> Self {
            let (one, two) = (host::Sleeper::new(), host::Sleeper::new());
            create("old-one", ADDRESS, &one).whole();
            create("old-two", "auto", &two).whole();
            let mut records = Vec::new();
            for entry in fs::read_dir(format!("{}/endpoints", host::STATE)).expect("records") {
                let path = entry.expect("a record").path();
                if path.extension().is_some_and(|e| e == "json") {
                    let name = path.file_name().expect("a name").to_owned();
                    records.push((name, fs::read_to_string(path).expect("a record")));
                }
            }
            assert_eq!(records.len(), 2);
            drop((one, two));
            poststop("old-one").whole();
            poststop("old-two").whole();

            let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("the boot");
            let mut old = Self(Vec::new());
            for (name, text) in &records {
                let text = text.replace(boot.trim(), OLD_BOOT);
                assert!(text.contains(OLD_BOOT), "{text}");
                old.add(Path::new("endpoints").join(name), text.into_bytes());
            }
            let (name, text) = &records[0];
            let text = text
                .replace(boot.trim(), OLD_BOOT)
                .replace("active", "creating");
            let journal = text.into_bytes();
            let name = Path::new(name).with_extension("jsonl");
            let torn = [&journal, b"\n{\"DeleteP".as_slice()].concat();
            old.add(Path::new("journal").join(name), torn);
            for (n, text) in (FAR..).zip(damages(&journal)) {
                old.add_damaged(n, text);
            }
            for name in ["errors.json", "fresh.json", "ledger.lock", "reap.lock"] {
                old.add(name.into(), b"\0\0\0[{".to_vec());
            }
            old.add("fresh.tmp-4194305".into(), Vec::new());
            old
        }

        fn add(&mut self, path: PathBuf, text: Vec<u8>) {
            self.0.push((path, text));
        }

        /// A record and a journal with this text, and what else there may be of an endpoint.
        fn add_damaged(&mut self, cookie: u64, text: Vec<u8>) {
            let path = |dir: &str, end: &str| PathBuf::from(format!("{dir}/{cookie:016x}.{end}"));
            self.add(path("endpoints", "json"), text.clone());
            self.add(path("journal", "jsonl"), text);
            self.add(path("endpoints", "lock"), b"412".to_vec());
            self.add(path("endpoints", "tmp-4194305"), b"{\"ver".to_vec());
        }

        fn put(&self) {
            for (path, text) in &self.0 {
                fs::write(Path::new(host::STATE).join(path), text).expect("write a file");
            }
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn whatever_comes_first_after_a_power_cut_works_and_nothing_of_the_old_boot_is_left() {
        host::start_clean();
        warm_up();
        let before = host::Snapshot::take();
        let old = OldState::new();
        assert_as_before(&before, "the old boot's own");

        // What only looks: there is nothing, and it says what cannot be read.
        old.put();
        assert!(cli::list().is_empty());
        assert_eq!(cli::json(&["stats"])["endpoints"], serde_json::json!([]));
        let doctor = cli::run(&["doctor"]);
        assert_ne!(doctor.code, 0);
        assert!(doctor.out.contains("oci-netkit gc"), "{doctor:?}");
        // What the boot's devices start, by a udev rule.
        cli::run(&["reconcile"]).success();
        assert!(leftovers().len() > 10, "{:?}", leftovers());
        gc().whole();
        assert_as_before(&before, "gc");
        assert!(
            cli::json(&["errors"])
                .as_array()
                .expect("a list")
                .is_empty()
        );

        old.put();
        let sleeper = host::Sleeper::new();
        // The address that one of the old boot has.
        create("new", ADDRESS, &sleeper).whole();
        assert!(has_network(&sleeper));
        assert_eq!(cli::list().len(), 1);
        let left = leftovers();
        assert!(left.len() < 3, "beside its own record: {left:?}");
        drop(sleeper);
        poststop("new").whole();
        assert_as_before(&before, "create");

        old.put();
        poststop("old-one").whole();
        gc().whole();
        assert_as_before(&before, "poststop of a container of the old boot");
        assert_eq!(cli::run(&["doctor"]).success().code, 0);

        old.put();
        cli::run(&["unload"]).success();
        assert!(!Path::new(host::STATE).exists());
    }

    /// `SO_NETNS_COOKIE` of its namespace.
    fn cookie(sleeper: &host::Sleeper) -> u64 {
        let ask =
            "import socket\nprint(int.from_bytes(socket.socket().getsockopt(1, 71, 8), 'little'))";
        let text = sleeper.inside(&["python3", "-c", ask]);
        text.trim().parse().expect("a cookie")
    }

    #[test]
    #[ignore = "needs the guest"]
    fn creates_at_once_are_not_kept_by_an_old_boots_files_of_the_same_names() {
        host::start_clean();
        warm_up();
        let before = host::Snapshot::take();
        let mut old = OldState::new();
        let whole = old.0[0].1.clone();
        let sleepers: Vec<host::Sleeper> = (0..12).map(|_| host::Sleeper::new()).collect();
        let damages = damages(&whole);
        for (n, sleeper) in sleepers.iter().enumerate() {
            old.add_damaged(cookie(sleeper), damages[n % damages.len()].clone());
        }
        // Whoever clears up is busy with these while the others go on.
        for n in 0..200 {
            old.add_damaged(FAR + 100 + n, Vec::new());
        }
        old.put();
        let named = |n: usize| format!("new{n}");
        let runs: Vec<Run> = sleepers
            .iter()
            .enumerate()
            .map(|(n, sleeper)| create(&named(n), "auto", sleeper))
            .collect();
        let hooks: Vec<Child> = runs.iter().map(Run::begin).collect();
        for mut hook in hooks {
            let status = hook.wait().expect("it ended");
            assert!(status.success(), "{status}: {:#}", cli::json(&["errors"]));
        }
        assert!(sleepers.iter().all(has_network));
        let count = sleepers.len();
        drop(sleepers);
        (0..count).for_each(|n| poststop(&named(n)).whole());
        gc().whole();
        assert_as_before(&before, "creates at once");
    }
}
