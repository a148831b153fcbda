//! From the first container to the last: what is there while they run, what is gone when they are,
//! and that the host never notices.

mod rig;

mod guest {
    use std::process::Command;
    use std::thread;

    use serde_json::{Value, json};

    use crate::rig::container::{self, Container, runtime};
    use crate::rig::frames;
    use crate::rig::{HOST, HOST_6, OUTSIDE, OUTSIDE_6, WIRE, cli, hook, host, wire};

    /// Loads the programs, which then stay.
    fn warm_up() {
        container::bundle("warm").address("auto").start().stop();
        host::eventually("the warm-up is gone", || cli::list().is_empty());
    }

    fn poststop(id: &str) -> cli::Ran {
        let state =
            json!({"ociVersion": "1.0.2", "id": id, "status": "stopped", "bundle": host::bundle()});
        cli::run_with(&["hook", "poststop"], state.to_string().as_bytes())
    }

    #[track_caller]
    fn podman(args: &[&str]) -> String {
        let mut argv = vec!["podman", "--runtime"];
        let runtime = runtime();
        argv.push(&runtime);
        argv.extend(args);
        host::run(&argv)
    }

    mod smoke {
        use super::*;

        #[test]
        #[ignore = "needs the guest"]
        fn after_the_last_container_nothing_is_left_but_warm_programs() {
            host::start_clean();
            warm_up();
            let warm = host::Snapshot::take();
            for c in [container::podman("one"), container::bundle("two")] {
                let c = c.address("auto").egress("udp:203.0.113.10:7777").start();
                c.reaches("udp", OUTSIDE, 7777);
                assert_eq!(cli::list().len(), 1);
                c.stop();
                host::eventually("its endpoint is gone", || cli::list().is_empty());
            }
            warm.assert_same();
        }

        #[test]
        #[ignore = "needs the guest"]
        fn unload_leaves_nothing_and_refuses_while_containers_run() {
            host::start_clean();
            cli::run(&["unload"]).success();
            let cold = host::Snapshot::take();
            let c = container::bundle("loaded")
                .address("auto")
                .egress("udp:any")
                .start();
            let refused = cli::run(&["unload"]);
            assert_eq!(refused.code, cli::CONFLICT, "{refused:?}");
            c.reaches("udp", OUTSIDE, 7777);
            cli::run(&["unload", "--force"]).success();
            let quiet = wire::cursor();
            assert!(c.attempt("udp", OUTSIDE, 7777).is_err());
            quiet.assert_silence();
            c.stop();
            cold.assert_same();
            // And it starts again from nothing.
            let c = container::bundle("again")
                .address("auto")
                .egress("udp:any")
                .start();
            c.reaches("udp", OUTSIDE, 7777);
            c.stop();
            host::eventually("gone", || cli::list().is_empty());
            cli::run(&["unload"]).success();
            cold.assert_same();
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn podman_stops_starts_restarts_and_removes_a_container() {
        host::start_clean();
        let name = "cycle";
        podman(&[
            "run",
            "--detach",
            "--name",
            name,
            "--network",
            "none",
            "--annotation",
            "io.oci-netkit.address=198.51.100.101",
            "--annotation",
            "io.oci-netkit.name=cycle",
            "--annotation",
            "io.oci-netkit.egress=tcp:203.0.113.10:80",
            "--rootfs",
            "/:O",
            "sleep",
            "3600",
        ]);
        let curl = || {
            podman(&[
                "exec",
                name,
                "curl",
                "-sS",
                "--max-time",
                "10",
                "http://203.0.113.10/x",
            ])
        };
        assert!(curl().contains("client=198.51.100.101"));
        let first = cli::show("cycle");
        podman(&["stop", "--time", "0", name]);
        assert!(cli::list().is_empty(), "{:?}", cli::list());
        podman(&["start", name]);
        let second = cli::show("cycle");
        assert_eq!(first["addresses"], second["addresses"]);
        assert_ne!(first["netns_cookie"], second["netns_cookie"]);
        assert!(curl().contains("client=198.51.100.101"));
        podman(&["restart", "--time", "0", name]);
        assert!(curl().contains("client=198.51.100.101"));
        assert_eq!(cli::list().len(), 1);
        podman(&["rm", "--force", "--time", "0", name]);
        host::eventually("its endpoint is gone", || cli::list().is_empty());
    }

    #[test]
    #[ignore = "needs the guest"]
    fn poststop_twice_or_for_a_stranger_is_success_and_harms_no_one() {
        host::start_clean();
        let c = container::bundle("alive")
            .address("auto")
            .egress("udp:any")
            .start();
        let gone = container::bundle("gone").address("auto").start();
        let id = gone.id.clone();
        gone.stop();
        for id in [id.as_str(), id.as_str(), "nobody-ever"] {
            poststop(id).success();
        }
        // Even for the living one: its process is not dead.
        poststop(&c.id).success();
        assert_eq!(cli::list().len(), 1);
        c.reaches("udp", OUTSIDE, 7777);
    }

    /// podman calls no poststop for a container whose conmon was killed.
    #[test]
    #[ignore = "needs the guest"]
    fn gc_or_the_next_hook_removes_what_a_killed_conmon_left() {
        host::start_clean();
        warm_up();
        let before = host::Snapshot::take();
        for (and_container, by_hook) in [(true, false), (true, true), (false, false), (false, true)]
        {
            let c = container::podman("killed").address("auto").start();
            let pid = c.pid();
            let id = c.id.clone();
            let conmon = host::run(&["pgrep", "-f", &format!("conmon.*{id}")]);
            for conmon in conmon.split_whitespace() {
                host::attempt(&["kill", "-KILL", conmon]);
            }
            if and_container {
                host::attempt(&["kill", "-KILL", &pid.to_string()]);
            }
            // The first time podman only says that conmon ended too early.
            let runtime = runtime();
            let remove = [
                "podman",
                "--runtime",
                &runtime,
                "rm",
                "--force",
                "--time",
                "0",
                &id,
            ];
            host::eventually("podman removes it", || host::attempt(&remove));
            host::eventually("it is dead", || {
                !std::path::Path::new(&format!("/proc/{pid}")).exists()
            });
            drop(c);
            if by_hook {
                hook::come_and_go("next", hook::ADDRESS);
            } else {
                cli::run(&["gc"]).success();
            }
            assert!(cli::list().is_empty());
            cli::run(&["gc"]).success();
            let what = format!("container killed: {and_container}, by hook: {by_hook}");
            hook::assert_as_before(&before, &what);
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn the_next_start_reaps_what_a_killed_container_left() {
        host::start_clean();
        let sleeper = host::Sleeper::new();
        let state = |id: &str, pid: u32| {
            json!({
                "ociVersion": "1.0.2", "id": id, "status": "created", "pid": pid, "bundle": host::bundle(),
                "annotations": {"io.oci-netkit.address": "198.51.100.102"},
            })
            .to_string()
        };
        let create = |text: &str| cli::run_with(&["hook", "create"], text.as_bytes());
        let text = state("first", sleeper.pid());
        create(&text).success();
        // The same once more changes nothing.
        let record = cli::show("first");
        create(&text).success();
        assert_eq!(cli::list().len(), 1);
        assert_eq!(cli::show("first")["netns_cookie"], record["netns_cookie"]);
        drop(sleeper);
        // Its address is free again for whoever comes next.
        let next = host::Sleeper::new();
        create(&state("next", next.pid())).success();
        let ids: Vec<Value> = cli::list()
            .iter()
            .map(|e| e["containers"][0]["id"].clone())
            .collect();
        assert_eq!(ids, [json!("next")]);
        drop(next);
        cli::run(&["gc"]).success();
    }

    #[test]
    #[ignore = "needs the guest"]
    fn members_of_a_pod_share_one_endpoint() {
        host::start_clean();
        podman(&["pod", "create", "--name", "pod", "--network", "none"]);
        struct Pod;
        impl Drop for Pod {
            fn drop(&mut self) {
                host::attempt(&["podman", "pod", "rm", "--force", "--time", "0", "pod"]);
            }
        }
        let pod = Pod;
        let member = |name: &str| {
            container::podman(name)
                .network("")
                .podman_options(&["--pod", "pod"])
                .address("198.51.100.103")
        };
        let rules = "udp:203.0.113.10:7777";
        let one = member("one").egress(rules).start();
        let two = member("two").egress(rules).start();
        let silent = member("silent-not").egress("udp:any").refused();
        assert_ne!(silent.code, 0);
        let error = cli::last_error();
        assert_eq!(error["exit_code"], cli::CONFLICT, "{error:#}");
        assert!(
            error["error"].as_str().expect("a text").contains("egress"),
            "{error:#}"
        );
        let list = cli::list();
        assert_eq!(list.len(), 1);
        assert_eq!(
            list[0]["containers"].as_array().expect("a list").len(),
            2,
            "{list:#?}"
        );
        one.reaches("udp", OUTSIDE, 7777);
        one.stop();
        two.reaches("udp", OUTSIDE, 7777);
        assert_eq!(
            cli::list()[0]["containers"]
                .as_array()
                .expect("a list")
                .len(),
            1
        );
        two.stop();
        drop(pod);
        cli::run(&["gc"]).success();
        assert!(cli::list().is_empty());
    }

    #[test]
    #[ignore = "needs the guest"]
    fn every_command_tells_the_truth_about_live_containers() {
        host::start_clean();
        let c = container::podman("told")
            .address("198.51.100.104 2001:db8:2::104")
            .with("name", "told")
            .egress("tcp:203.0.113.10:80-81 !tcp:203.0.113.10:81 udp:any:7777")
            .ingress("tcp:192.0.2.1:8080")
            .start();
        let _other = container::bundle("other").address("auto").start();
        assert_eq!(cli::list().len(), 2);
        for id in ["told", &c.id, &c.id[..8]] {
            assert_eq!(cli::show(id)["name"], "told");
        }
        let shown = cli::show("told");
        assert_eq!(
            shown["addresses"],
            json!(["198.51.100.104/32", "2001:db8:2::104/128"])
        );
        assert_eq!(shown["interface"], "eth0");
        assert_eq!(shown["mtu_bytes"], 1500);
        assert_eq!(shown["containers"][0]["alive"], true);
        assert_eq!(
            shown["egress"].as_array().expect("rules").len(),
            3,
            "{shown:#}"
        );
        c.reaches("udp", OUTSIDE, 7777);
        c.is_kept_from("no-rule", "udp", OUTSIDE, 7);
        let stats = cli::json(&["stats"]);
        let mine = stats["endpoints"]
            .as_array()
            .expect("a list")
            .iter()
            .find(|e| e["name"] == "told")
            .expect("it is there");
        assert_eq!(mine["traffic"]["egress"]["packets"], 1);
        assert_eq!(mine["drops"]["egress"], json!({"no-rule": 1}));
        // What `check` says is what happens.
        let cases = [
            ("egress", "tcp:203.0.113.10:80", true),
            ("egress", "tcp:203.0.113.10:81", false),
            ("egress", "tcp:203.0.113.20:80", false),
            ("egress", "udp:[2001:db8:f::10]:7777", true),
            ("egress", "udp:192.0.2.2:7777", false),
            ("egress", "udp:169.254.169.254:7777", false),
            ("ingress", "tcp:192.0.2.1:8080", true),
            ("ingress", "tcp:203.0.113.10:8080", false),
        ];
        for (direction, target, allowed) in cases {
            let ran = cli::run(&["check", "told", direction, target, "--json"]);
            let said = ran.json();
            assert_eq!(said["allowed"], allowed, "{direction} {target}: {said}");
            assert_eq!(ran.code, i32::from(!allowed), "{direction} {target}");
        }
        let denied = cli::run(&["check", "told", "egress", "tcp:203.0.113.10:81", "--json"]).json();
        assert_eq!(denied["rule"], "!tcp:203.0.113.10:81");
        // The dry run of a third one.
        let before = host::Snapshot::take();
        let sleeper = host::Sleeper::new();
        let state = json!({
            "ociVersion": "1.0.2", "id": "dry", "status": "created", "pid": sleeper.pid(),
            "bundle": host::bundle(), "annotations": {"io.oci-netkit.address": "198.51.100.105"},
        });
        let plan = cli::run_with(&["plan"], state.to_string().as_bytes()).success();
        assert!(plan.out.contains("198.51.100.105"), "{plan:?}");
        before.assert_same();
        cli::run(&["doctor"]).success();
        cli::run(&["config", "check"]).success();
        // Tables for people have the same in them.
        let table = cli::run(&["list"]).success();
        assert!(
            table.out.contains("told") && table.out.contains("198.51.100.104"),
            "{table:?}"
        );
        for args in [["show", "told"], ["stats", "--json"], ["errors", "--json"]] {
            assert!(!cli::run(&args).success().out.is_empty());
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn the_hosts_own_traffic_is_not_disturbed() {
        host::start_clean();
        let echo = host::Echo::new(9002);
        host::attempt(&["ip", "link", "del", "eth0.100"]);
        host::run(&[
            "ip", "link", "add", "link", "eth0", "name", "eth0.100", "type", "vlan", "id", "100",
        ]);
        host::run(&["ip", "addr", "add", "192.0.2.130/32", "dev", "eth0.100"]);
        host::run(&["ip", "link", "set", "eth0.100", "up"]);
        let works = || {
            for to in [WIRE, "2001:db8:1::1", OUTSIDE, OUTSIDE_6] {
                assert!(host::ping(to), "{to}");
                assert_eq!(
                    host::ask("tcp", to, 7777, "out").as_deref(),
                    Ok("out"),
                    "{to}"
                );
                assert_eq!(
                    host::ask("udp", to, 7777, "out").as_deref(),
                    Ok("out"),
                    "{to}"
                );
            }
            for to in [HOST, HOST_6] {
                assert!(wire::ping(to), "{to}");
                assert_eq!(wire::ask("tcp", to, 9002, "in"), Ok("in".into()), "{to}");
                assert_eq!(wire::ask("udp", to, 9002, "in"), Ok("in".into()), "{to}");
            }
            // ARP, asked from the wire with nothing in its cache.
            wire::exec(&["ip", "neigh", "flush", "all"]).success();
            assert!(wire::ping(HOST));
            assert!(wire::ping(HOST_6));
            // A tagged frame reaches the host's VLAN device, whatever address is in it.
            let rx = "/sys/class/net/eth0.100/statistics/rx_packets";
            let count = || std::fs::read_to_string(rx).expect("a count");
            let before = count();
            let packet = frames::udp_frame(OUTSIDE, "198.51.100.110", 7777, "tagged");
            let frame = frames::tagged(frames::VLAN, 100, frames::IPV4, &packet[14..]);
            wire::send(&[frames::addressed(&frame, wire::GUEST_MAC, wire::WIRE_MAC)]);
            host::eventually("the VLAN device receives", || count() != before);
        };
        works();
        let c = container::bundle("beside")
            .address("198.51.100.110 2001:db8:2::110")
            .ingress("udp:any:7777")
            .raw_socket()
            .start();
        c.sniff("eth0");
        works();
        // Nothing of it reached the container, the tagged frame for its address neither.
        assert_eq!(c.heard_frames(0.1), Vec::<Vec<u8>>::new());
        // A fragment, a truncated packet and a strange protocol for the host go to the host.
        let odd = |protocol: u8, fragment: u16| {
            let mut p = frames::Ip4::new(OUTSIDE, HOST, protocol, vec![0; 8]);
            p.fragment = fragment;
            frames::addressed(&p.frame(), wire::GUEST_MAC, wire::WIRE_MAC)
        };
        let delivered = || {
            let text = std::fs::read_to_string("/proc/net/snmp").expect("counters");
            let line = text
                .lines()
                .filter(|l| l.starts_with("Ip:"))
                .nth(1)
                .expect("values");
            line.split(' ')
                .nth(3)
                .expect("InReceives")
                .parse::<u64>()
                .expect("a number")
        };
        let before = delivered();
        wire::send(&[
            odd(frames::UDP, 0x2000),
            odd(47, 0),
            odd(frames::UDP, 0x00b9),
        ]);
        host::eventually("the host sees all three", || delivered() >= before + 3);
        drop(c);
        drop(echo);
        host::run(&["ip", "link", "del", "eth0.100"]);
    }

    #[test]
    #[ignore = "needs the guest"]
    fn twenty_containers_may_start_at_once() {
        host::start_clean();
        let containers: Vec<Container> = thread::scope(|scope| {
            let starting: Vec<_> = (0..20)
                .map(|_| {
                    scope.spawn(|| {
                        container::bundle("crowd")
                            .address("auto")
                            .egress("udp:203.0.113.10:7777")
                            .start()
                    })
                })
                .collect();
            starting
                .into_iter()
                .map(|s| s.join().expect("it starts"))
                .collect()
        });
        let list = cli::list();
        assert_eq!(list.len(), 20);
        for key in ["addresses", "id", "primary"] {
            let mut values: Vec<String> = list.iter().map(|e| e[key].to_string()).collect();
            values.sort();
            values.dedup();
            assert_eq!(values.len(), 20, "{key}");
        }
        for c in &containers {
            c.reaches("udp", OUTSIDE, 7777);
        }
        thread::scope(|scope| {
            for c in containers {
                scope.spawn(|| c.stop());
            }
        });
        host::eventually("all of them are gone", || cli::list().is_empty());
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_failed_start_after_the_hook_leaves_nothing_for_long() {
        host::start_clean();
        warm_up();
        let before = host::Snapshot::take();
        // The command does not exist: the runtime fails after our hook has done its work.
        let ran = Command::new("podman")
            .args(["--runtime", &runtime(), "run", "--rm", "--network", "none"])
            .args(["--annotation", "io.oci-netkit.address=198.51.100.120"])
            .args(["--rootfs", "/:O", "/no/such/program"])
            .output()
            .expect("run podman");
        assert!(!ran.status.success());
        cli::run(&["gc"]).success();
        assert!(cli::list().is_empty());
        before.assert_same();
    }
}
