//! What the hook stands on fails: the ledger is locked by a process that does not go on, the disk is
//! full, the BPF file system is unmounted under running containers. Containers fail closed with an
//! error that says why, and afterwards the host is as it was before.

mod rig;

mod guest {
    use std::fs;
    use std::process::{Child, Command};
    use std::time::{Duration, Instant};

    use crate::rig::hook::{
        ADDRESS, Run, assert_as_before, come_and_go, create, devices, gc, has_network, poststop,
        warm_up,
    };
    use crate::rig::{cli, host};

    /// Exit code for "try again later", after sysexits.
    const TEMPORARY: i32 = 75;
    /// For a call that the kernel refused.
    const FULL: i32 = 71;

    /// A process that holds a lock and is stopped.
    struct StoppedHolder(Child);

    impl StoppedHolder {
        fn of(lock: &str) -> Self {
            let lock = format!("{}/{lock}", host::STATE);
            let holder = Command::new("flock")
                .args(["--exclusive", "--no-fork", &lock, "sleep", "600"])
                .spawn()
                .expect("hold the lock");
            host::eventually("the lock is held", || {
                !host::attempt(&["flock", "--nonblock", &lock, "true"])
            });
            host::run(&["kill", "-STOP", &holder.id().to_string()]);
            Self(holder)
        }
    }

    impl Drop for StoppedHolder {
        fn drop(&mut self) {
            self.0.kill().expect("end it");
            self.0.wait().expect("it ended");
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn two_hundred_creates_give_up_beside_a_stopped_process_that_holds_the_ledger() {
        host::start_clean();
        warm_up();
        let before = host::Snapshot::take();
        let holder = StoppedHolder::of("ledger.lock");
        let sleepers: Vec<host::Sleeper> = (0..200).map(|_| host::Sleeper::new()).collect();
        let runs: Vec<Run> = sleepers
            .iter()
            .enumerate()
            .map(|(n, sleeper)| {
                let address = format!("198.51.100.{}", n + 20);
                create(&format!("many{n}"), &address, sleeper)
            })
            .collect();
        let hooks: Vec<Child> = runs.iter().map(Run::begin).collect();
        for mut hook in hooks {
            let status = hook.wait().expect("it ended");
            assert_eq!(status.code(), Some(TEMPORARY), "{status:?}");
        }
        let error = cli::last_error();
        let text = error["error"].as_str().expect("a text");
        assert!(text.contains("ledger.lock is locked by"), "{error}");
        drop(holder);
        for sleeper in &sleepers {
            assert_eq!(devices(sleeper), 0);
        }
        assert_as_before(&before, "two hundred creates beside a stopped process");
        create("one", ADDRESS, &sleepers[0]).whole();
        assert!(has_network(&sleepers[0]));
        drop(sleepers);
        poststop("one").whole();
        assert_as_before(&before, "after a create that got the lock");
    }

    #[test]
    #[ignore = "needs the guest"]
    fn create_gives_up_in_time_beside_a_stopped_process_that_holds_what_is_shared() {
        host::start_clean();
        warm_up();
        let before = host::Snapshot::take();
        let sleepers = [host::Sleeper::new(), host::Sleeper::new()];
        let ended = host::Sleeper::new();
        create("ended", "198.51.100.82", &ended).whole();
        let holder = StoppedHolder::of("generation.lock");
        // Two things to take down, each of which waits for the lock as well.
        drop(ended);
        let start = Instant::now();
        for (id, sleeper) in ["one", "two"].into_iter().zip(&sleepers) {
            let ran = create(id, ADDRESS, sleeper).ran();
            assert_eq!(ran.code, TEMPORARY, "{ran:?}");
            assert_eq!(cli::last_error()["container_id"], id);
            assert_eq!(devices(sleeper), 0);
        }
        // The runtime would kill each after 30 s, and nobody would know why.
        let time = start.elapsed();
        assert!(time < Duration::from_secs(75), "{time:?}");
        drop(holder);
        drop(sleepers);
        gc().whole();
        assert_as_before(&before, "creates beside a stopped process");
    }

    /// Puts a file system of some pages in the place of the state, and fills it as wished.
    struct SmallDisk;

    impl SmallDisk {
        const PAGE: u64 = 4096;
        const FILLER: &str = "/run/oci-netkit/filler";

        fn new() -> Self {
            let options = "mode=0700,size=256k";
            host::run(&["mount", "-t", "tmpfs", "-o", options, "none", host::STATE]);
            Self
        }

        /// Fills it but for some pages.
        fn leave(&self, pages: u64) {
            let fill = [
                "dd",
                "if=/dev/zero",
                &format!("of={}", Self::FILLER),
                "bs=4k",
            ];
            assert!(!host::attempt(&fill), "it must not fit");
            let file = fs::OpenOptions::new().write(true).open(Self::FILLER);
            let file = file.expect("the filler");
            let size = file.metadata().expect("its size").len();
            file.set_len(size - pages * Self::PAGE).expect("shorten it");
        }

        fn clear(&self) {
            let _ = fs::remove_file(Self::FILLER);
        }
    }

    impl Drop for SmallDisk {
        fn drop(&mut self) {
            host::run(&["umount", host::STATE]);
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn full_disk_refuses_a_create_wherever_it_fills_up() {
        host::start_clean();
        warm_up();
        let disk = SmallDisk::new();
        warm_up();
        let before = host::Snapshot::take();
        let mut refused = 0;
        for pages in 0.. {
            let what = format!("create with {pages} free pages");
            disk.leave(pages);
            let sleeper = host::Sleeper::new();
            let ran = create("full", ADDRESS, &sleeper).ran();
            if ran.code == 0 {
                assert!(has_network(&sleeper), "{what}");
                // Not even a record can be written anew now.
                disk.leave(0);
                drop(sleeper);
                let ended = poststop("full").ran();
                disk.clear();
                // The endpoint waits for a moment in which its end can be written down.
                assert_eq!(ended.code, FULL, "{ended:?}");
                gc().whole();
                assert_as_before(&before, "poststop on a full disk");
                break;
            }
            refused += 1;
            assert_eq!(ran.code, FULL, "{what}: {ran:?}");
            let says = ["no space left on device", "free some space"];
            assert!(says.iter().all(|s| ran.err.contains(s)), "{what}: {ran:?}");
            assert_eq!(devices(&sleeper), 0, "{what}");
            disk.clear();
            drop(sleeper);
            assert_as_before(&before, &what);
        }
        assert!(
            refused > 1,
            "only {refused} creates met the end of the disk"
        );
    }

    /// The BPF file system, away for a while.
    struct Unmounted;

    impl Unmounted {
        fn new() -> Self {
            host::run(&["umount", "/sys/fs/bpf"]);
            Self
        }
    }

    impl Drop for Unmounted {
        fn drop(&mut self) {
            host::run(&["mount", "-t", "bpf", "bpf", "/sys/fs/bpf"]);
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn unmounted_bpffs_closes_running_containers_and_refuses_new_ones() {
        host::start_clean();
        cli::run(&["unload"]).success();
        let before = host::Snapshot::take();
        let (running, ending, new) = (
            host::Sleeper::new(),
            host::Sleeper::new(),
            host::Sleeper::new(),
        );
        create("running", ADDRESS, &running).whole();
        create("ending", "198.51.100.82", &ending).whole();
        assert!(has_network(&running) && has_network(&ending));

        let unmounted = Unmounted::new();
        // Without their pins, the programs go; what is left of the devices lets nothing pass.
        host::eventually("the running one is closed", || !has_network(&running));
        let refused = create("new", "198.51.100.83", &new).ran();
        assert_eq!(refused.code, cli::UNSUPPORTED, "{refused:?}");
        assert!(refused.err.contains("/sys/fs/bpf"), "{refused:?}");
        assert_eq!(devices(&new), 0);
        let doctor = cli::run(&["doctor"]);
        assert_ne!(doctor.code, 0, "{doctor:?}");
        assert!(doctor.out.contains("bpf"), "{doctor:?}");
        assert!(doctor.out.contains("running is broken"), "{doctor:?}");
        drop(ending);
        poststop("ending").whole();
        assert_eq!(cli::list().len(), 1);

        drop(unmounted);
        // What runs without its programs stays closed beside new ones; it has to start again.
        create("new", "198.51.100.83", &new).whole();
        assert!(has_network(&new) && !has_network(&running));
        let view = cli::show("running");
        assert_eq!(view["broken"], true, "{view:#}");
        let doctor = cli::run(&["doctor"]);
        assert!(doctor.out.contains("restart the container"), "{doctor:?}");
        drop(running);
        poststop("running").whole();
        come_and_go("running", ADDRESS);
        drop(new);
        poststop("new").whole();
        cli::run(&["unload"]).success();
        assert_as_before(&before, "after the BPF file system was away");
    }
}
