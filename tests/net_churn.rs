//! Many containers come and go, round after round: nothing is left of them, no two that run at once
//! share an address, and the host does as much for the last as it did for the first.
//!
//! By default a few rounds. `OCI_NETKIT_CHURN=20x200+10` makes it 20 rounds of 200 bundles and 10
//! containers of podman, `OCI_NETKIT_SOAK=10000` so many processes in namespaces of their own:
//! tests/soak is for these.

mod rig;

mod guest {
    use std::collections::BTreeSet;
    use std::fs;
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use libbpf_rs::query::{MapInfoIter, ProgInfoIter};
    use libbpf_rs::{MapCore as _, MapHandle, MapType};

    use crate::rig::hook::{
        ADDRESS, Run, assert_as_before, begin, create, has_network, poststop, process_has_network,
        warm_up,
    };
    use crate::rig::{cli, container, host, say};

    /// How many begin or end at once.
    const AT_ONCE: usize = 10;
    /// How many bare namespaces there are at once.
    const BATCH: usize = 8;

    /// Everything that must be the same after each round.
    struct Before {
        host: host::Snapshot,
        elements: Vec<String>,
        calls: usize,
    }

    impl Before {
        fn take() -> Self {
            let calls = calls_of_a_create();
            Self {
                host: host::Snapshot::take(),
                elements: elements(),
                calls,
            }
        }

        #[track_caller]
        fn assert_same(&self, what: &str) {
            assert_as_before(&self.host, what);
            assert_eq!(elements(), self.elements, "{what}");
        }

        /// What a start costs in system calls, which no busy machine changes much.
        #[track_caller]
        fn assert_as_cheap(&self) {
            let calls = calls_of_a_create();
            say(&format!(
                "system calls of a create: {} before, {calls} after",
                self.calls
            ));
            assert!(calls * 10 < self.calls * 11, "it has more to do");
        }
    }

    /// How many elements each of the shared hash maps has.
    fn elements() -> Vec<String> {
        let mut found = Vec::new();
        for abi in fs::read_dir(host::PINS).expect("our pins").flatten() {
            for pin in fs::read_dir(abi.path().join("maps")).into_iter().flatten() {
                let path = pin.expect("a pin").path();
                let map = MapHandle::from_pinned_path(&path).expect("open the map");
                if matches!(map.map_type(), MapType::Hash | MapType::PercpuHash) {
                    found.push(format!("{}: {}", path.display(), map.keys().count()));
                }
            }
        }
        assert!(found.len() > 2, "{found:?}");
        found.sort();
        found
    }

    fn calls_of_a_create() -> usize {
        const LOG: &str = "/tmp/calls-of-a-create";
        let sleeper = host::Sleeper::new();
        let run = create("counted", ADDRESS, &sleeper);
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", LOG, cli::BINARY]);
        command.args(run.args);
        let status = begin(command, &run.input).wait().expect("it ended");
        assert!(status.success(), "{status:?}");
        drop(sleeper);
        poststop("counted").whole();
        let text = fs::read_to_string(LOG).expect("strace's log");
        // Waits for locks and answers are as many as the machine is slow.
        let waits = ["nanosleep", "futex", "epoll", "resumed", "poll("];
        let counts = |line: &&str| !waits.iter().any(|w| line.contains(w));
        text.lines().filter(counts).count()
    }

    /// What the kernel keeps, in KiB.
    #[derive(Clone, Copy)]
    struct Memory {
        slab: u64,
        percpu: u64,
        available: u64,
        /// Slab, percpu, vmalloc, stacks and page tables, without what can be reclaimed.
        kernel: u64,
    }

    impl Memory {
        fn take() -> Self {
            // What has no use, of dead cgroups too, is no leak.
            fs::write("/proc/sys/vm/drop_caches", "3").expect("drop caches");
            let text = fs::read_to_string("/proc/meminfo").expect("meminfo");
            let of = |key: &str| -> u64 {
                let line = text.lines().find(|l| l.split(':').next() == Some(key));
                let number = line.and_then(|l| l.split_whitespace().nth(1));
                number.and_then(|n| n.parse().ok()).expect("a number")
            };
            let kernel = [
                "SUnreclaim",
                "Percpu",
                "VmallocUsed",
                "KernelStack",
                "PageTables",
            ];
            Self {
                slab: of("Slab"),
                percpu: of("Percpu"),
                available: of("MemAvailable"),
                kernel: kernel.into_iter().map(of).sum(),
            }
        }

        /// It has not grown by what so many containers could have left: a page each.
        #[track_caller]
        fn assert_kept(self, first: Self, containers: usize) {
            let allowed = 6 * 1024 + 4 * containers as u64;
            let grown = self.kernel.saturating_sub(first.kernel);
            assert!(
                grown < allowed,
                "{grown} KiB more than before {containers} containers; at most {allowed}"
            );
        }
    }

    /// A line of the report.
    fn report(what: &str, time: Duration) -> Memory {
        let memory = Memory::take();
        say(&format!(
            "{what}: {:.1} s; KiB: Slab {}, Percpu {}, kernel {}, MemAvailable {}; \
             BPF maps {}, programs {}",
            time.as_secs_f64(),
            memory.slab,
            memory.percpu,
            memory.kernel,
            memory.available,
            MapInfoIter::default().count(),
            ProgInfoIter::default().count(),
        ));
        memory
    }

    /// A machine has other things to do, but not ten times as many.
    fn assert_as_quick(times: &[Duration]) {
        let third = times.len().div_ceil(3);
        let best = |of: &[Duration]| of.iter().min().expect("a round").as_secs_f64();
        let ratio = best(&times[times.len() - third..]) / best(&times[..third]);
        say(&format!(
            "the best of the last third took {ratio:.2} times the best of the first"
        ));
        assert!(ratio < 10.0, "{times:?}");
    }

    /// Each endpoint has addresses, and no other has them.
    #[track_caller]
    fn assert_no_collision(count: usize) {
        let list = cli::list();
        assert_eq!(list.len(), count);
        let of = |e: &serde_json::Value| e["addresses"].as_array().expect("addresses").clone();
        let all: Vec<String> = list.iter().flat_map(of).map(|a| a.to_string()).collect();
        let distinct: BTreeSet<&String> = all.iter().collect();
        assert_eq!(distinct.len(), all.len(), "{all:?}");
        assert_eq!(all.len(), 2 * count, "{all:?}");
    }

    /// What runtimes say; a pipe would stay open as long as the containers do.
    const LOG: &str = "/run/oci-netkit-tests/churn.log";

    fn command(argv: &[&str]) -> Command {
        let mut command = Command::new(argv[0]);
        let log = fs::OpenOptions::new().create(true).append(true).open(LOG);
        command.stderr(log.expect("open the log"));
        command
            .args(&argv[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    /// Runs them side by side.
    #[track_caller]
    fn run_all(commands: Vec<Command>) {
        let mut commands = commands.into_iter().peekable();
        while commands.peek().is_some() {
            let batch: Vec<(String, Child)> = commands
                .by_ref()
                .take(AT_ONCE)
                .map(|mut c| (format!("{c:?}"), c.spawn().expect("start it")))
                .collect();
            for (what, mut child) in batch {
                let status = child.wait().expect("it ended");
                assert!(
                    status.success(),
                    "{what}: {status}; {}; {:#?}",
                    fs::read_to_string(LOG).unwrap_or_default(),
                    cli::json(&["errors"])
                );
            }
        }
    }

    /// Rounds, bundles, containers of podman.
    fn churn_size() -> (usize, usize, usize) {
        let text = std::env::var("OCI_NETKIT_CHURN").unwrap_or_else(|_| "2x12+1".into());
        let numbers: Vec<usize> = text
            .split(['x', '+'])
            .filter_map(|n| n.parse().ok())
            .collect();
        let [rounds, bundles, podman] = numbers[..] else {
            panic!("OCI_NETKIT_CHURN={text} is not ROUNDSxBUNDLES+PODMAN");
        };
        (rounds, bundles, podman)
    }

    /// Containers of a runtime and of podman that only wait.
    struct Crowd {
        runtime: String,
        bundles: Vec<(String, String)>,
        podman: Vec<String>,
    }

    impl Crowd {
        fn new(bundles: usize, podman: usize) -> Self {
            let bundle = |n| {
                let spec = container::bundle(&format!("crowd{n}"));
                spec.address("auto").egress("udp:any").waiting_bundle()
            };
            Self {
                runtime: container::runtime(),
                bundles: (0..bundles).map(bundle).collect(),
                podman: (0..podman).map(|n| format!("crowd{n}")).collect(),
            }
        }

        fn len(&self) -> usize {
            self.bundles.len() + self.podman.len()
        }

        fn start(&self) {
            let run = |(id, dir): &(String, String)| {
                command(&[&self.runtime, "run", "--detach", "--bundle", dir, id])
            };
            run_all(self.bundles.iter().map(run).collect());
            let run = |name: &String| {
                let mut run = command(&["podman", "--runtime", &self.runtime, "run", "--detach"]);
                run.args(["--name", name, "--network", "none"]);
                run.args(["--annotation", "io.oci-netkit.address=auto"]);
                run.args(["--annotation", "io.oci-netkit.egress=udp:any"]);
                run.args(["--rootfs", "/:O", "sleep", "3600"]);
                run
            };
            run_all(self.podman.iter().map(run).collect());
        }

        fn remove(&self) {
            let delete =
                |(id, _): &(String, String)| command(&[&self.runtime, "delete", "--force", id]);
            run_all(self.bundles.iter().map(delete).collect());
            let mut remove = command(&["podman", "rm", "--force", "--time", "0"]);
            remove.args(&self.podman);
            run_all(vec![remove]);
        }

        /// One of each kind uses its network.
        #[track_caller]
        fn assert_networks(&self) {
            let (id, _) = self.bundles.first().expect("a bundle");
            let state = host::run(&[&self.runtime, "state", id]);
            let state: serde_json::Value = serde_json::from_str(&state).expect("its state");
            let name = self.podman.first().expect("a container");
            let podman = host::run(&["podman", "inspect", "--format", "{{.State.Pid}}", name]);
            for pid in [state["pid"].to_string(), podman.trim().to_owned()] {
                let pid = pid.parse().expect("a pid");
                host::eventually("an answer", || process_has_network(pid));
            }
        }
    }

    impl Drop for Crowd {
        /// Only a failed test has not removed them.
        fn drop(&mut self) {
            if std::thread::panicking() {
                for (id, _) in &self.bundles {
                    host::attempt(&[&self.runtime, "delete", "--force", id]);
                }
                for name in &self.podman {
                    host::attempt(&["podman", "rm", "--force", "--time", "0", name]);
                }
            }
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn containers_of_crun_and_podman_come_and_go_by_the_hundred_without_a_trace() {
        host::start_clean();
        let (rounds, bundles, podman) = churn_size();
        let crowd = Crowd::new(bundles, podman);
        warm_up();
        let before = Before::take();
        let (mut times, mut first) = (Vec::new(), None);
        for round in 1..=rounds {
            let start = Instant::now();
            crowd.start();
            let started = start.elapsed();
            assert_no_collision(crowd.len());
            crowd.assert_networks();
            let start = Instant::now();
            crowd.remove();
            times.push(started + start.elapsed());
            before.assert_same(&format!("round {round}"));
            let memory = report(
                &format!("{} started and removed", crowd.len()),
                times[round - 1],
            );
            // What the first of a kind brings, such as podman's own, stays.
            let first = *first.get_or_insert(memory);
            memory.assert_kept(first, (round - 1) * crowd.len());
        }
        assert_as_quick(&times);
        before.assert_as_cheap();
    }

    /// Begins them all, then waits for each.
    #[track_caller]
    fn run_hooks(runs: &[Run]) {
        let hooks: Vec<Child> = runs.iter().map(Run::begin).collect();
        for (mut hook, run) in hooks.into_iter().zip(runs) {
            let status = hook.wait().expect("it ended");
            assert!(
                status.success(),
                "{run:?}: {status}; {:#?}",
                cli::json(&["errors"])
            );
        }
    }

    /// As a runtime does it, for processes that only wait.
    fn batch_comes_and_goes() {
        let sleepers: Vec<host::Sleeper> = (0..BATCH).map(|_| host::Sleeper::new()).collect();
        let ids: Vec<String> = (0..BATCH).map(|n| format!("soak{n}")).collect();
        let creates = ids
            .iter()
            .zip(&sleepers)
            .map(|(id, s)| create(id, "auto", s));
        run_hooks(&creates.collect::<Vec<_>>());
        assert_no_collision(BATCH);
        assert!(has_network(&sleepers[0]));
        drop(sleepers);
        run_hooks(&ids.iter().map(|id| poststop(id)).collect::<Vec<_>>());
    }

    #[test]
    #[ignore = "needs the guest"]
    fn bare_namespaces_come_and_go_for_long_without_a_trace() {
        host::start_clean();
        let size = std::env::var("OCI_NETKIT_SOAK").unwrap_or_else(|_| "32".into());
        let size: usize = size.parse().expect("OCI_NETKIT_SOAK is a number");
        let batches = size.div_ceil(BATCH);
        let per_report = (batches / 40).max(5);
        warm_up();
        batch_comes_and_goes();
        let before = Before::take();
        let first = report("before", Duration::ZERO);
        let (mut times, mut done) = (Vec::new(), 0);
        while done < batches {
            let some = per_report.min(batches - done);
            let start = Instant::now();
            (0..some).for_each(|_| batch_comes_and_goes());
            times.push(start.elapsed() / u32::try_from(some).expect("a few"));
            done += some;
            before.assert_same(&format!("after {}", done * BATCH));
            let memory = report(&format!("the last {}", some * BATCH), start.elapsed());
            memory.assert_kept(first, done * BATCH);
        }
        assert_as_quick(&times);
        before.assert_as_cheap();
    }
}
