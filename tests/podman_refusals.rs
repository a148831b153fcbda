//! Bad input: the container does not start, `errors` says why in words that name what is wrong, and
//! the host is as it was. Through podman, through bare bundles, and by calling the hook itself where
//! no runtime would ever pass such input on.

mod rig;

mod guest {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, Stdio};

    use serde_json::{Value, json};

    use crate::rig::container::{self, Spec};
    use crate::rig::{OUTSIDE, cli, host};

    /// The newest record says this container failed, with this exit code and all of these texts.
    #[track_caller]
    fn expect_error(id: Option<&str>, code: i32, texts: &[&str]) {
        let error = cli::last_error();
        assert_eq!(error["exit_code"], code, "{error:#}");
        if let Some(id) = id {
            assert_eq!(error["container_id"], id, "{error:#}");
        }
        let said = format!(
            "{} {}",
            error["error"].as_str().expect("a text"),
            error["hint"].as_str().unwrap_or_default()
        );
        for text in texts {
            assert!(said.contains(text), "{text:?} is not in {said:?}");
        }
    }

    /// The container is refused by its runtime, and this is what is remembered of it.
    #[track_caller]
    fn expect_refusal(spec: Spec, code: i32, texts: &[&str]) {
        let before = cli::error_count();
        let refused = spec.refused();
        assert_ne!(refused.code, 0);
        // The record may be full, and then its length stays.
        assert!(cli::error_count() >= before.min(1), "{refused:?}");
        expect_error(None, code, texts);
        assert!(cli::list().is_empty(), "{refused:?}");
    }

    /// What a runtime writes to the hook.
    fn state(id: &str, pid: i64, annotations: &Value) -> Value {
        json!({
            "ociVersion": "1.0.2", "id": id, "status": "created", "pid": pid,
            "bundle": host::bundle(), "annotations": annotations,
        })
    }

    fn good() -> Value {
        json!({"io.oci-netkit.address": "auto"})
    }

    /// `hook create` with these bytes on its input.
    #[track_caller]
    fn hook_refuses(stdin: &[u8], code: i32, texts: &[&str]) {
        let ran = cli::run_with(&["hook", "create"], stdin);
        assert_eq!(ran.code, code, "{ran:?}");
        assert_eq!(ran.out, "", "the hook's standard output stays empty");
        for text in texts {
            assert!(ran.err.contains(text), "{text:?} is not in {ran:?}");
        }
        expect_error(None, code, texts);
    }

    mod smoke {
        use super::*;

        #[test]
        #[ignore = "needs the guest"]
        fn podman_run_with_a_wrong_annotation_does_not_start_and_errors_says_why() {
            host::start_clean();
            let before = host::Snapshot::take();
            let wrong = || container::podman("wrong");
            expect_refusal(
                wrong().with("adress", "auto"),
                cli::BAD_INPUT,
                &["adress", "address"],
            );
            expect_refusal(
                wrong().address("auto").egress("tcp:2001:db8:f::10:443"),
                cli::BAD_INPUT,
                &["egress", "tcp:2001:db8:f::10:443", "[2001:db8:f::10]:443"],
            );
            expect_refusal(
                wrong().address("auto").capability("NET_ADMIN"),
                cli::NOT_PERMITTED,
                &["CAP_NET_ADMIN"],
            );
            before.assert_same();
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn each_bad_annotation_has_its_own_message() {
        host::start_clean();
        let before = host::Snapshot::take();
        let spec = || container::bundle("bad");
        let auto = || spec().address("auto");
        let cases: Vec<(Spec, &[&str])> = vec![
            (auto().with("egres", "tcp:any"), &["egres", "egress"]),
            (spec().with("adress", "auto"), &["adress", "address"]),
            (spec().with("egress", "tcp:any"), &["address", "missing"]),
            (spec().address(""), &["address", "empty"]),
            (
                spec().address("198.51.100.300"),
                &["address", "198.51.100.300"],
            ),
            (
                spec().address("auto 198.51.100"),
                &["address", "198.51.100"],
            ),
            (spec().address("127.0.0.1"), &["address", "127.0.0.1"]),
            (
                auto().egress("tpc:203.0.113.10:80"),
                &["egress", "tpc", "tcp"],
            ),
            (auto().egress("203.0.113.10:99999"), &["egress", "99999"]),
            (auto().ingress("udp:any:90-80"), &["ingress", "90-80"]),
            (
                auto().egress("tcp:203.0.113.10/24:80"),
                &["egress", "203.0.113.0/24"],
            ),
            (
                auto().egress("2001:db8:f::10"),
                &["egress", "[2001:db8:f::10]"],
            ),
            (
                auto().egress("tcp:2001:db8:f::10:443"),
                &["egress", "[2001:db8:f::10]:443"],
            ),
            (
                auto().egress("203.0.113.10:80,203.0.113.20:80"),
                &["egress", "comma"],
            ),
            (auto().egress("\"tcp:any\""), &["egress", "quote"]),
            (auto().egress("tcp:any:80\nudp:any"), &["egress", "newline"]),
            (
                auto().egress("tcp:*.co.uk:443"),
                &["egress", "*.co.uk", "public suffix"],
            ),
            (
                auto().with("publish", "8080:80/sctp"),
                &["publish", "8080:80/sctp", "tcp", "udp"],
            ),
            (
                auto().with("rate-egress", "10m"),
                &["rate-egress", "10m", "500k, 10M or 1G"],
            ),
            (
                auto().with("rate-ingress", "8k"),
                &["rate-ingress", "8000", "between 16k and 1000G"],
            ),
            (auto().with("mode", "trial"), &["mode", "enforce, audit"]),
            (
                auto().with("reach", "near"),
                &["reach", "near", "routed", "lan", "masquerade"],
            ),
            (auto().with("dns", "ns.example"), &["dns", "no address"]),
            (auto().with("mtu", "9"), &["mtu", "9"]),
            (auto().with("interface", "a/b"), &["interface", "a/b"]),
            (auto().with("profile", "nobody"), &["profile", "nobody"]),
            // All faults at once.
            (
                auto().egress("tpc:any").with("mtu", "9").with("x", "y"),
                &["tpc", "mtu", "unknown key"],
            ),
        ];
        let mut wrong = Vec::new();
        for (spec, texts) in cases {
            let shown = format!("{texts:?}");
            let tried = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                expect_refusal(spec, cli::BAD_INPUT, texts);
            }));
            if tried.is_err() {
                wrong.push(shown);
            }
        }
        assert_eq!(wrong, Vec::<String>::new());
        before.assert_same();
    }

    #[test]
    #[ignore = "needs the guest"]
    fn an_address_or_name_that_is_taken_is_a_conflict() {
        host::start_clean();
        let c = container::bundle("first")
            .address("198.51.100.90 2001:db8:2::90")
            .with("name", "first")
            .egress("udp:203.0.113.10:7777")
            .start();
        let before = host::Snapshot::take();
        let second = |address: &str| container::bundle("second").address(address);
        for address in ["198.51.100.90", "auto4 2001:db8:2::90"] {
            let refused = second(address).refused();
            expect_error(
                None,
                cli::CONFLICT,
                &[address.split(' ').next_back().unwrap_or_default()],
            );
            assert_ne!(refused.code, 0);
        }
        second("auto").with("name", "first").refused();
        expect_error(None, cli::CONFLICT, &["first"]);
        // The host's own address, and the wire's, are no container's.
        second("192.0.2.2").refused();
        assert_eq!(cli::list().len(), 1);
        before.assert_same();
        // The first one did not notice.
        c.reaches("udp", OUTSIDE, 7777);
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_network_beside_ours_is_refused() {
        host::start_clean();
        let before = host::Snapshot::take();
        let spec = || container::podman("beside").address("auto");
        expect_refusal(
            spec().network("host"),
            cli::NOT_PERMITTED,
            &["--network none"],
        );
        let ns = host::Sleeper::new();
        ns.inside(&["ip", "link", "add", "other1", "type", "dummy"]);
        let path = format!("/proc/{}/ns/net", ns.pid());
        expect_refusal(
            container::bundle("beside").address("auto").network(&path),
            cli::NOT_PERMITTED,
            &["other1", "--network none"],
        );
        drop(ns);
        before.assert_same();
        // A bridge leaves traces of its own, which are netavark's.
        expect_refusal(
            spec().network("bridge"),
            cli::NOT_PERMITTED,
            &["eth0", "--network none"],
        );
        host::attempt(&["ip", "link", "del", "podman0"]);
        host::attempt(&["nft", "delete", "table", "inet", "netavark"]);
        host::run(&["sysctl", "-qw", "net.ipv4.ip_forward=0"]);
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_container_that_could_go_around_its_rules_is_refused_unless_the_config_accepts_it() {
        host::start_clean();
        let before = host::Snapshot::take();
        let spec = |capability: &str| {
            container::bundle("admin")
                .address("auto4")
                .egress("udp:203.0.113.10:7777")
                .capability(capability)
        };
        for capability in ["NET_ADMIN", "SYS_ADMIN"] {
            let name = format!("CAP_{capability}");
            expect_refusal(
                spec(capability),
                cli::NOT_PERMITTED,
                &[&name, "allow_net_admin"],
            );
        }
        expect_refusal(
            container::podman("privileged")
                .address("auto")
                .podman_options(&["--privileged"]),
            cli::NOT_PERMITTED,
            &["CAP_NET_ADMIN"],
        );
        before.assert_same();
        // In its own user namespace it may.
        spec("NET_ADMIN")
            .user_namespace()
            .start()
            .reaches("udp", OUTSIDE, 7777);

        let _config = host::OtherConfig::with("allow_net_admin = true");
        let c = spec("NET_ADMIN").start();
        c.reaches("udp", OUTSIDE, 7777);
        c.is_kept_from("host", "udp", "192.0.2.2", 7777);
        // A guard stands behind its device.
        let links = host::run(&["bpftool", "net", "show", "dev", &c.primary()]);
        assert!(links.contains("tcx/ingress"), "{links}");
    }

    #[test]
    #[ignore = "needs the guest"]
    fn what_no_runtime_would_send_is_refused_by_the_hook_itself() {
        host::start_clean();
        let before = host::Snapshot::take();
        let sleeper = host::Sleeper::new();
        let pid = i64::from(sleeper.pid());
        let sound = state("sound", pid, &good());
        let with = |key: &str, value: Value| {
            let mut state = sound.clone();
            state[key] = value;
            state.to_string()
        };
        let without = |key: &str| {
            let mut state = sound.clone();
            state.as_object_mut().expect("an object").remove(key);
            state.to_string()
        };
        let own = i64::from(std::process::id());
        let dead = {
            let mut child = Command::new("true").spawn().expect("start true");
            child.wait().expect("it ends");
            i64::from(child.id())
        };
        let twice = sound.to_string().replacen('{', "{\"id\":\"another\",", 1);
        let cases: &[(&str, i32, &[&str])] = &[
            ("", cli::BAD_INPUT, &["container state"]),
            ("{", cli::BAD_INPUT, &["container state"]),
            ("[]", cli::BAD_INPUT, &["container state"]),
            (&format!("{sound} {{}}"), cli::BAD_INPUT, &["trailing"]),
            (&twice, cli::BAD_INPUT, &["id"]),
            (&without("id"), cli::BAD_INPUT, &["id"]),
            (&without("status"), cli::BAD_INPUT, &["status"]),
            (&without("pid"), cli::BAD_INPUT, &["pid"]),
            (
                &with("status", json!("stopped")),
                cli::BAD_INPUT,
                &["stopped"],
            ),
            (
                &with("id", json!("../../etc")),
                cli::BAD_INPUT,
                &["../../etc"],
            ),
            (&with("id", json!("")), cli::BAD_INPUT, &["id"]),
            (
                &with("id", json!("x".repeat(2000))),
                cli::BAD_INPUT,
                &["id"],
            ),
            (&with("pid", json!(0)), cli::BAD_INPUT, &["pid", "0"]),
            (&with("pid", json!(-1)), cli::BAD_INPUT, &["pid", "-1"]),
            (&with("pid", json!(1_u64 << 40)), cli::BAD_INPUT, &["pid"]),
            (&with("pid", json!(dead)), cli::BAD_INPUT, &["has ended"]),
            (
                &with("pid", json!(own)),
                cli::NOT_PERMITTED,
                &["host's network namespace"],
            ),
            (
                &with("annotations", json!({"io.oci-netkit.address": 7})),
                cli::BAD_INPUT,
                &["string"],
            ),
        ];
        for (stdin, code, texts) in cases {
            eprintln!("stdin: {:.200}", stdin);
            hook_refuses(stdin.as_bytes(), *code, texts);
        }
        let mut huge = sound.clone();
        huge["annotations"]["padding"] = json!("x".repeat(2 << 20));
        hook_refuses(huge.to_string().as_bytes(), cli::BAD_INPUT, &["1 MiB"]);
        before.assert_same();
        assert_eq!(sleeper.inside(&["ip", "-o", "link"]).lines().count(), 1);

        // The same state without the lie is served, so it was the lie.
        cli::run_with(&["hook", "create"], sound.to_string().as_bytes()).success();
        assert_eq!(cli::list().len(), 1);
        drop(sleeper);
        host::eventually("gc finds it dead", || {
            cli::run(&["gc"]).success();
            cli::list().is_empty()
        });
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_broken_config_refuses_every_container_and_names_the_line() {
        host::start_clean();
        let before = host::Snapshot::take();
        let overlap = "[[pool]]\nprefix = \"198.51.100.128/25\"\nreach = \"routed\"\n";
        {
            let _config = host::OtherConfig::with(overlap);
            expect_refusal(
                container::bundle("pools").address("auto"),
                cli::CONFIG,
                &["198.51.100.128/25", "198.51.100.0/24", "line"],
            );
            let checked = cli::run(&["config", "check"]);
            assert_eq!(checked.code, cli::CONFIG, "{checked:?}");
        }
        {
            let _config = host::OtherConfig::with("allow_everything = true\nuplinks = \"eth0\"");
            expect_refusal(
                container::bundle("key").address("auto"),
                cli::CONFIG,
                &["line 1", "allow_everything", "line 2", "uplinks"],
            );
        }
        before.assert_same();
        cli::run(&["config", "check"]).success();
        let missing = cli::run(&["--config", "/nowhere.toml", "config", "check"]);
        assert_eq!(missing.code, cli::CONFIG, "{missing:?}");
    }

    #[test]
    #[ignore = "needs the guest"]
    fn rootless_is_refused_in_plain_words() {
        host::start_clean();
        let before = host::Snapshot::take();
        let sleeper = host::Sleeper::new();
        let stdin = state("rootless", i64::from(sleeper.pid()), &good()).to_string();
        let another_user = [
            "setpriv",
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
        ];
        let by_another_user = cli::feed(
            Command::new(another_user[0])
                .args(&another_user[1..])
                .args([cli::BINARY, "hook", "create"]),
            stdin.as_bytes(),
        );
        // As rootless podman does it: hook and container in a user namespace of the same user.
        let script = format!(
            "unshare --net sleep 60 & sleep 0.5; sed \"s/{}/$!/\" | {} hook create; \
             code=$?; kill $!; exit $code",
            sleeper.pid(),
            cli::BINARY
        );
        let in_a_user_namespace = cli::feed(
            Command::new("unshare").args(["--user", "--map-root-user", "sh", "-c", &script]),
            stdin.as_bytes(),
        );
        for ran in [by_another_user, in_a_user_namespace] {
            assert_eq!(ran.code, cli::NOT_PERMITTED, "{ran:?}");
            assert!(ran.err.contains("rootless"), "{ran:?}");
        }
        before.assert_same();
        assert_eq!(sleeper.inside(&["ip", "-o", "link"]).lines().count(), 1);
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_host_without_bpffs_is_refused_with_the_command_that_mends_it() {
        host::start_clean();
        let before = host::Snapshot::take();
        let sleeper = host::Sleeper::new();
        let stdin = state("no-bpffs", i64::from(sleeper.pid()), &good()).to_string();
        let without_bpffs = |args: &str| {
            let script = format!("umount /sys/fs/bpf && exec {} {args}", cli::BINARY);
            cli::feed(
                Command::new("unshare").args(["--mount", "sh", "-c", &script]),
                stdin.as_bytes(),
            )
        };
        let ran = without_bpffs("hook create");
        assert_eq!(ran.code, cli::UNSUPPORTED, "{ran:?}");
        assert!(ran.err.contains("mount -t bpf bpf /sys/fs/bpf"), "{ran:?}");
        let ran = without_bpffs("doctor --json");
        assert_eq!(ran.code, 1, "{ran:?}");
        let lines = ran.json();
        let failed: Vec<&Value> = lines
            .as_array()
            .expect("a list")
            .iter()
            .filter(|l| l["ok"] == false)
            .collect();
        assert!(
            failed
                .iter()
                .any(|l| l["fix"].to_string().contains("mount -t bpf")),
            "{lines:#}"
        );
        before.assert_same();
    }

    #[test]
    #[ignore = "needs the guest"]
    fn the_command_line_is_checked_before_anything_else() {
        let before = host::Snapshot::take();
        let cases: &[(&[&str], i32)] = &[
            (&[], cli::USAGE),
            (&["frobnicate"], cli::USAGE),
            (&["hook", "prestart"], cli::USAGE),
            (&["list", "--yaml"], cli::USAGE),
            (&["show", "nobody"], cli::BAD_INPUT),
            (
                &["check", "nobody", "egress", "tcp:203.0.113.10:443"],
                cli::BAD_INPUT,
            ),
            (&["--help"], 0),
            (&["--version"], 0),
            (&["unload", "--help"], 0),
        ];
        for (args, code) in cases {
            let ran = cli::run(args);
            assert_eq!(ran.code, *code, "{args:?}: {ran:?}");
            assert!(!(ran.out.is_empty() && ran.err.is_empty()), "{args:?}");
        }
        // A reader that goes away is nobody's failure.
        let mut child = Command::new(cli::BINARY)
            .arg("doctor")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("start");
        drop(child.stdout.take());
        assert_eq!(child.wait().expect("it ends").signal(), None);
        before.assert_same();
    }

    /// In a guest of its own, booted with `initcall_blacklist=netkit_init`.
    mod without_netkit {
        use super::*;

        #[test]
        #[ignore = "needs the guest"]
        fn the_hook_and_doctor_say_so_and_touch_nothing() {
            assert!(!host::attempt(&[
                "ip", "link", "add", "nk0", "type", "netkit"
            ]));
            let before = host::Snapshot::take();
            for spec in [container::podman("kernel"), container::bundle("kernel")] {
                expect_refusal(
                    spec.address("auto"),
                    cli::UNSUPPORTED,
                    &["this kernel has no netkit device", "CONFIG_NETKIT"],
                );
            }
            let ran = cli::run(&["doctor", "--json"]);
            assert_eq!(ran.code, 1, "{ran:?}");
            let lines = ran.json();
            let failed: Vec<&Value> = lines
                .as_array()
                .expect("a list")
                .iter()
                .filter(|l| l["ok"] == false)
                .collect();
            assert!(
                failed
                    .iter()
                    .any(|l| l.to_string().contains("CONFIG_NETKIT")),
                "{lines:#}"
            );
            before.assert_same();
        }
    }
}
