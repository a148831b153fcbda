//! SIGKILL at any moment: a container whose hook was killed has no network, and the next hook or
//! `gc` leaves the host as it was before. strace(1) delivers the signal as a system call begins.
//!
//! By default after and before every line of the journal, and at some system calls and moments in
//! between; with `OCI_NETKIT_KILLS=all` at every system call that changes something. With
//! `OCI_NETKIT_HALF` at every second one of these: another guest takes the others.

mod rig;

mod guest {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, ExitStatus};
    use std::thread;
    use std::time::{Duration, Instant};

    use serde_json::Value;

    use crate::rig::hook::{
        ADDRESS, Run, assert_as_before, begin, come_and_go, create, gc, has_network, poststop,
        warm_up,
    };
    use crate::rig::{cli, host};

    /// Calls that change something, or come before one that does.
    const CALLS: &str = "write,rename,sendto,bpf,unlink,unlinkat,mkdir,rmdir,flock,setns,clone3";
    const LOG: &str = "/tmp/calls";
    const SIGKILL: i32 = 9;

    /// The how-manieth call of its name in the hook's main thread.
    type Call = (String, usize);

    fn under_strace(options: &[&str], run: &Run) -> ExitStatus {
        let mut command = Command::new("strace");
        command
            .args(["-qq", "-y", "-o", LOG, "-e"])
            .arg(format!("trace={CALLS}"));
        command.args(options).arg(cli::BINARY).args(run.args);
        begin(command, &run.input).wait().expect("it ended")
    }

    /// Runs it whole and says which calls its main thread made, in order, with their text.
    fn calls(what: &Run) -> Vec<(Call, String)> {
        let all_threads = ["-f", "--seccomp-bpf"];
        assert!(under_strace(&all_threads, what).success(), "{what:?}");
        let text = fs::read_to_string(LOG).expect("strace's log");
        let main = text.split_whitespace().next().expect("a pid").to_owned();
        let mut counts = BTreeMap::<String, usize>::new();
        let mut found = Vec::new();
        for line in text.lines() {
            let (pid, rest) = line.split_once(' ').expect("pid and call");
            let Some((name, _)) = rest.trim_start().split_once('(') else {
                continue;
            };
            if pid == main && !name.contains(' ') && !name.contains('<') {
                let count = counts.entry(name.to_owned()).or_default();
                *count += 1;
                found.push(((name.to_owned(), *count), rest.trim_start().to_owned()));
            }
        }
        found
    }

    /// Kills it as its main thread makes that call; false if it ended before, since no two runs are
    /// the same. The other threads go untraced, which is quicker; strace 6.13 injects no signal
    /// under `--seccomp-bpf`.
    fn kill_at(call: &Call, what: &Run) -> bool {
        let (name, count) = call;
        let inject = format!("inject={name}:signal=SIGKILL:when={count}");
        under_strace(&["-e", &inject], what).signal() == Some(SIGKILL)
    }

    fn kill_after(time: Duration, run: &Run) -> bool {
        let mut child = run.begin();
        thread::sleep(time);
        child.kill().expect("kill it");
        child.wait().expect("it ended").signal() == Some(SIGKILL)
    }

    /// Where to kill: around each line of the journal, and some of the others.
    fn chosen(calls: &[(Call, String)], others: usize) -> Vec<Call> {
        let all = std::env::var("OCI_NETKIT_KILLS").is_ok_and(|v| v == "all");
        let mut chosen = BTreeSet::new();
        let step = (calls.len() / others.max(1)).max(1);
        for (at, (_, text)) in calls.iter().enumerate() {
            if text.contains("/journal/") && text.starts_with("write") {
                chosen.extend([at, at + 1]);
            }
            // At the end an endpoint opens, or its last trace goes.
            let is_late = at + 10 >= calls.len();
            if all || is_late || at % step == step / 2 {
                chosen.insert(at);
            }
        }
        let in_order = chosen.into_iter().filter_map(|at| calls.get(at));
        host::sample(in_order.map(|(call, _)| call.clone()).collect())
    }

    /// The record says that all of it stands.
    fn is_complete() -> bool {
        let dir = format!("{}/endpoints", host::STATE);
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let mut records = entries.filter(|e| e.path().extension().is_some_and(|e| e == "json"));
        records.any(|e| {
            let record: Value =
                serde_json::from_slice(&fs::read(e.path()).unwrap_or_default()).unwrap_or_default();
            record["phase"] == "active"
        })
    }

    /// A later container's hooks, or `gc`.
    fn clear_up(by_hook: bool) {
        if by_hook {
            come_and_go("next", "198.51.100.82");
        } else {
            gc().whole();
        }
    }

    /// One killed create and all that follows.
    fn killed_create(
        before: &host::Snapshot,
        by_hook: bool,
        what: &str,
        kill: impl Fn(&Run) -> bool,
    ) -> bool {
        let sleeper = host::Sleeper::new();
        let killed = kill(&create("killed", ADDRESS, &sleeper));
        let complete = is_complete();
        assert!(
            complete || !has_network(&sleeper),
            "{what}: it has a network"
        );
        let mut sleeper = Some(sleeper);
        if complete {
            // The runtime ends the container whose hook did not succeed.
            sleeper = None;
        }
        clear_up(by_hook);
        if let Some(sleeper) = &sleeper {
            let devices = sleeper.inside(&["ip", "-o", "link"]);
            assert_eq!(devices.lines().count(), 1, "{what}: {devices}");
        }
        drop(sleeper);
        assert_as_before(before, what);
        killed
    }

    #[test]
    #[ignore = "needs the guest"]
    fn create_killed_at_any_step_leaves_nothing() {
        host::start_clean();
        warm_up();
        let before = host::Snapshot::take();
        let sleeper = host::Sleeper::new();
        let calls = calls(&create("whole", ADDRESS, &sleeper));
        drop(sleeper);
        clear_up(false);
        before.assert_same();
        let chosen = chosen(&calls, 12);
        let mut killed = 0;
        for (n, call) in chosen.iter().enumerate() {
            let what = format!("create killed at {call:?}");
            let done = killed_create(&before, n % 4 == 3, &what, |create| kill_at(call, create));
            killed += usize::from(done);
        }
        println!("{killed} of {} runs were killed", chosen.len());
        assert!(killed * 10 >= chosen.len() * 9, "strace did not kill");
    }

    #[test]
    #[ignore = "needs the guest"]
    fn create_killed_at_random_moments_leaves_nothing() {
        host::start_clean();
        warm_up();
        let before = host::Snapshot::take();
        let start = Instant::now();
        warm_up();
        let usual = start.elapsed();
        let count = if std::env::var("OCI_NETKIT_KILLS").is_ok() {
            60
        } else {
            8
        };
        for n in host::sample((0..count).collect()) {
            let time = usual * n / count;
            let what = format!("create killed after {time:?} of {usual:?}");
            killed_create(&before, n % 4 == 3, &what, |create| {
                kill_after(time, create)
            });
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn first_create_killed_while_it_loads_leaves_nothing_loaded() {
        host::start_clean();
        cli::run(&["unload"]).success();
        let before = host::Snapshot::take();
        let sleeper = host::Sleeper::new();
        let calls = calls(&create("whole", ADDRESS, &sleeper));
        drop(sleeper);
        gc().whole();
        cli::run(&["unload"]).success();
        before.assert_same();
        // Around the renames that make a directory of pins count, and between.
        let mut chosen: Vec<Call> = Vec::new();
        for (at, ((name, _), text)) in calls.iter().enumerate() {
            if name == "rename" && text.contains("/sys/fs/bpf/") {
                chosen.extend(calls[at..=at + 1].iter().map(|(call, _)| call.clone()));
            }
        }
        let loads: Vec<&Call> = calls
            .iter()
            .filter(|(_, text)| {
                text.starts_with("bpf(BPF_PROG_LOAD") || text.starts_with("bpf(BPF_OBJ_PIN")
            })
            .map(|(call, _)| call)
            .collect();
        assert!(chosen.len() == 4 && loads.len() > 12, "{calls:#?}");
        chosen.extend([
            loads[loads.len() / 2].clone(),
            loads[loads.len() - 4].clone(),
        ]);
        for call in &host::sample(chosen) {
            let what = format!("first create killed at {call:?}");
            assert!(
                killed_create(&before, false, &what, |create| kill_at(call, create)),
                "{what}"
            );
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn poststop_and_gc_killed_at_any_step_are_finished_by_the_next() {
        host::start_clean();
        warm_up();
        let before = host::Snapshot::take();
        let stopped = || {
            let sleeper = host::Sleeper::new();
            create("stopped", ADDRESS, &sleeper).whole();
        };
        for (what, others) in [(poststop("stopped"), 12), (gc(), 6)] {
            stopped();
            let calls = calls(&what);
            before.assert_same();
            let mut killed = 0;
            let chosen = chosen(&calls, others);
            for (n, call) in chosen.iter().enumerate() {
                stopped();
                killed += usize::from(kill_at(call, &what));
                clear_up(n % 4 == 3);
                assert_as_before(&before, &format!("{:?} killed at {call:?}", what.args));
            }
            println!("{killed} of {} runs were killed", chosen.len());
            assert!(killed * 10 >= chosen.len() * 9, "strace did not kill");
        }
    }
}
