//! Rules that change while a container runs: at once, for what flows already too, all or nothing, and
//! until it ends.
//!
//! ```text
//!  containers 198.51.100.N, 2001:db8:2::N ── host 192.0.2.2 ── wire ── 203.0.113.10, 2001:db8:f::10
//!  echo (TCP and UDP) on 7777 of every address of the wire
//! ```

mod rig;

mod guest {
    use std::path::Path;
    use std::time::{Duration, Instant};

    use oci_netkit::kernel::bpf::load;
    use oci_netkit::kernel::bpffs::Pins;
    use oci_netkit::plan::compile::compile;
    use oci_netkit::plan::policy::Policy;
    use oci_netkit::plan::revise::PolicyWord;
    use oci_netkit::plan::rules::RuleSet;
    use oci_netkit::types::id::EndpointId;
    use serde_json::{Value, json};

    use crate::rig::container::{self, Container};
    use crate::rig::{ELSEWHERE, OUTSIDE, OUTSIDE_6, cli, host, wire};

    const CONFIG: &str = "/etc/oci-netkit/config.toml";

    #[track_caller]
    fn policy(args: &[&str]) -> Value {
        let mut all = vec!["policy"];
        all.extend(args);
        cli::json(&all)[0].clone()
    }

    fn check(c: &Container, target: &str) -> (bool, String) {
        let ran = cli::run(&["check", &c.id, "egress", target]);
        (ran.code == 0, ran.out)
    }

    mod smoke {
        use super::*;

        #[test]
        #[ignore = "needs the guest"]
        fn a_rule_works_at_once_and_ends_at_once() {
            host::start_clean();
            let c = container::podman("live")
                .address("198.51.100.80 2001:db8:2::80")
                .egress(&format!("udp:{OUTSIDE}:7777"))
                .start();
            c.reaches("udp", OUTSIDE, 7777);
            c.is_kept_from("no-rule", "tcp", OUTSIDE, 7777);

            let tcp = format!("tcp:{OUTSIDE}:7777");
            let tcp_6 = format!("tcp:[{OUTSIDE_6}]:7777");
            let row = policy(&["allow", &c.id, "egress", &tcp, &tcp_6]);
            assert_eq!((&row["changed"], &row["epoch"]), (&json!(true), &json!(2)));
            for (name, to) in [("v4", OUTSIDE), ("v6", OUTSIDE_6)] {
                c.open_tcp(name, to, 7777).expect("allowed now");
                assert_eq!(c.say(name, "before"), Ok("before".into()));
            }
            let (allowed, words) = check(&c, &tcp);
            assert!(
                allowed && words.contains(&format!("rule {tcp} ")),
                "{words}"
            );
            let shown = cli::show(&c.id);
            let rules = json!([format!("udp:{OUTSIDE}:7777"), tcp, tcp_6]);
            assert_eq!((&shown["egress"], &shown["epoch"]), (&rules, &json!(2)));
            assert_eq!(policy(&["allow", &c.id, "egress", &tcp])["changed"], false);

            policy(&["revoke", &c.id, "egress", &tcp, &tcp_6]);
            for name in ["v4", "v6"] {
                let said = c.expect_drop("egress", "no-rule", || c.say(name, "after"));
                assert!(said.is_err(), "a live flow of a revoked rule: {said:?}");
            }
            assert!(!check(&c, &tcp).0);
            c.reaches("udp", OUTSIDE, 7777);
            // And back: the connection that was cut off goes on.
            policy(&["allow", &c.id, "egress", &tcp]);
            host::eventually("what was lost is sent again", || {
                c.say("v4", "").is_ok_and(|said| said.contains("after"))
            });
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn deny_rules_and_ingress_change_too() {
        host::start_clean();
        let c = container::bundle("doors")
            .address("198.51.100.81")
            .egress("udp:any:7777")
            .start();
        c.listen("udp", 7777);
        let asked = || wire::ask("udp", "198.51.100.81", 7777, "hello");
        assert_eq!(
            c.expect_drop("ingress", "no-rule", asked),
            Err("timeout".into())
        );
        // It began without a table of inbound flows.
        policy(&["allow", &c.id, "ingress", "udp:any:7777"]);
        assert_eq!(asked(), Ok("hello".into()));
        c.reaches("udp", ELSEWHERE, 7777);
        policy(&["allow", &c.id, "egress", &format!("!{ELSEWHERE}")]);
        c.is_kept_from("deny-rule", "udp", ELSEWHERE, 7777);
        c.reaches("udp", OUTSIDE, 7777);
        policy(&["set", &c.id, "--ingress", ""]);
        assert_eq!(
            c.expect_drop("ingress", "no-rule", asked),
            Err("timeout".into())
        );
        c.reaches("udp", OUTSIDE, 7777);
        policy(&["set", &c.id, "--ingress", "udp:any:7777", "--egress", ""]);
        assert_eq!(asked(), Ok("hello".into()));
        c.is_kept_from("no-rule", "udp", OUTSIDE, 7777);
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_config_that_was_edited_is_reloaded() {
        host::start_clean();
        let profile = |egress: &str| format!("[profile.default]\negress = \"{egress}\"\n");
        let before = std::fs::read_to_string(CONFIG).expect("the guest has a config");
        let write = |profile: &str| {
            std::fs::write(CONFIG, format!("{before}\n{profile}")).expect("write the config");
        };
        let _restored = host::OtherConfig::with("");
        write(&profile(&format!("udp:{OUTSIDE}:7777")));
        let from_profile = container::bundle("profile")
            .address("198.51.100.82")
            .start();
        let own = container::bundle("own")
            .address("198.51.100.83")
            .egress(&format!("udp:{OUTSIDE}:7777"))
            .start();
        for c in [&from_profile, &own] {
            c.reaches("udp", OUTSIDE, 7777);
        }

        write("[profile.default]\negress = \"udp:nonsense:x\"\n");
        let faulty = cli::run(&["policy", "reload"]);
        assert_eq!(faulty.code, cli::CONFIG, "{faulty:?}");
        from_profile.reaches("udp", OUTSIDE, 7777);

        write(&profile(&format!("udp:{ELSEWHERE}:7777")));
        let rows = cli::json(&["policy", "reload"]);
        let changed: Vec<bool> = rows
            .as_array()
            .expect("rows")
            .iter()
            .map(|r| r["changed"] == true)
            .collect();
        assert_eq!(changed, [true, false], "{rows}");
        from_profile.reaches("udp", ELSEWHERE, 7777);
        from_profile.is_kept_from("no-rule", "udp", OUTSIDE, 7777);
        own.reaches("udp", OUTSIDE, 7777);

        // What an administrator said by hand, an edit of the config does not undo.
        policy(&[
            "allow",
            &from_profile.id,
            "egress",
            &format!("udp:{OUTSIDE}:7777"),
        ]);
        write(&profile(""));
        assert_eq!(policy(&["reload", &from_profile.id])["changed"], false);
        from_profile.reaches("udp", OUTSIDE, 7777);
    }

    #[test]
    #[ignore = "needs the guest"]
    fn nobody_gets_above_the_ceiling() {
        host::start_clean();
        let ceiling = |egress: &str| {
            format!("ceiling = {{ egress = \"{egress}\", publish = [\"8000-8099\"] }}")
        };
        let before = host::Snapshot::take();
        let config = host::OtherConfig::with(&ceiling(&format!("udp:any:7777 !{ELSEWHERE}")));
        for (key, value, text) in [
            (
                "egress",
                "udp:any:1-7777",
                "rule \"udp:any:1-7777\" is beyond the ceiling",
            ),
            (
                "egress",
                "udp:host:7777",
                "rule \"udp:host:7777\" is beyond the ceiling",
            ),
            ("ingress", "udp:any:7777", "has no ingress under [ceiling]"),
            ("publish", "8100:80", "does not allow that port of the host"),
        ] {
            let spec = container::podman("high").address("198.51.100.88");
            spec.with(key, value).refused();
            let error = cli::last_error();
            assert_eq!(error["exit_code"], cli::NOT_PERMITTED, "{error:#}");
            let said = format!("{} {}", error["error"], error["hint"]).replace("\\\"", "\"");
            assert!(said.contains(text), "{said}");
        }
        container::podman("high").address("203.0.113.99").refused();
        assert!(cli::last_error().to_string().contains("is in no pool"));
        before.assert_same();

        let c = container::podman("low")
            .address("198.51.100.88")
            .egress("udp:203.0.113.0/24:7777")
            .start();
        c.reaches("udp", OUTSIDE, 7777);
        c.is_kept_from("deny-rule", "udp", ELSEWHERE, 7777);
        let (allowed, words) = check(&c, &format!("udp:{ELSEWHERE}:7777"));
        assert!(
            !allowed && words.contains(&format!("rule !{ELSEWHERE} ")),
            "{words}"
        );
        let more = cli::run(&["policy", "allow", &c.id, "egress", "tcp:any:7777"]);
        assert_eq!(more.code, cli::NOT_PERMITTED, "{more:?}");
        c.is_kept_from("no-rule", "tcp", OUTSIDE, 7777);

        // A lower one holds for what runs as soon as it is reloaded.
        drop(config);
        let _config = host::OtherConfig::with(&ceiling(&format!("udp:{ELSEWHERE}:7777")));
        c.reaches("udp", OUTSIDE, 7777);
        policy(&["reload", &c.id]);
        c.is_kept_from("no-rule", "udp", OUTSIDE, 7777);
    }

    #[test]
    #[ignore = "needs the guest"]
    fn what_is_wrong_changes_nothing() {
        host::start_clean();
        let c = container::bundle("stays")
            .address("198.51.100.84")
            .egress(&format!("udp:{OUTSIDE}:7777"))
            .start();
        for (args, code, text) in [
            (
                &["allow", "nobody", "egress", "any:1"][..],
                cli::BAD_INPUT,
                "no container",
            ),
            (
                &["allow", &c.id, "egress", "any:0"],
                cli::BAD_INPUT,
                "is no port",
            ),
            (
                &["allow", &c.id, "egress", ""],
                cli::BAD_INPUT,
                "no rule is given",
            ),
            (&["allow", &c.id, "egress"], cli::USAGE, "required"),
            (
                &["revoke", &c.id, "egress", "any:1"],
                cli::BAD_INPUT,
                "the egress rules are: udp:",
            ),
            (&["set", &c.id], cli::USAGE, "give --egress"),
            (
                &["set", &c.id, "--mode", "audit"],
                cli::NOT_PERMITTED,
                "audit_allowed",
            ),
        ] {
            let mut all = vec!["policy"];
            all.extend(args);
            let ran = cli::run(&all);
            assert_eq!(ran.code, code, "{args:?}: {ran:?}");
            assert!(ran.err.contains(text), "{args:?}: {ran:?}");
        }
        assert_eq!(cli::show(&c.id)["epoch"], 1);
        c.reaches("udp", OUTSIDE, 7777);
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_trial_ends_without_a_restart() {
        host::start_clean();
        let _config = host::OtherConfig::with("audit_allowed = true");
        let c = container::bundle("trial")
            .address("198.51.100.85")
            .with("mode", "audit")
            .start();
        c.reaches("udp", OUTSIDE, 7777);
        c.reaches("tcp", OUTSIDE, 7777);
        let rule = format!("udp:{OUTSIDE}:7777");
        policy(&["set", &c.id, "--mode", "enforce", "--egress", &rule]);
        c.reaches("udp", OUTSIDE, 7777);
        c.is_kept_from("no-rule", "tcp", OUTSIDE, 7777);
        assert_eq!(cli::show(&c.id)["mode"], "enforce");
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_change_that_was_killed_is_put_in_force_by_reconcile() {
        host::start_clean();
        let c = container::bundle("killed").address("198.51.100.86").start();
        let dir = Path::new(host::STATE).join("endpoints");
        let files = std::fs::read_dir(dir).expect("records").flatten();
        let path = files
            .map(|f| f.path())
            .find(|p| p.extension().is_some_and(|e| e == "json"))
            .expect("a record");
        // As `policy allow` leaves it when it dies between the record and the switch.
        let text = std::fs::read_to_string(&path).expect("a record");
        let mut record: Value = serde_json::from_str(&text).expect("JSON");
        record["epoch"] = json!(2);
        record["egress"] = json!([format!("udp:{OUTSIDE}:7777")]);
        std::fs::write(&path, record.to_string()).expect("write the record");
        c.is_kept_from("no-rule", "udp", OUTSIDE, 7777);
        let answer = cli::json(&["reconcile"]);
        assert_eq!(answer["revised"], json!([c.id]));
        c.reaches("udp", OUTSIDE, 7777);
        assert_eq!(cli::json(&["reconcile"])["revised"], json!([]));
    }

    /// Sends to an allowed and to a forbidden port, each from new ports, until told that it is enough.
    const LOAD: &str = r#"
import os, socket, sys
sent = 0
while not os.path.exists("/tmp/enough"):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"allowed", (sys.argv[1], 9999))
        try:
            sock.sendto(b"forbidden", (sys.argv[2], 9999))
        except OSError:
            pass
    sent += 1
    if sent == int(sys.argv[3]):
        open("/tmp/plenty", "w")
print(sent)
"#;

    #[test]
    #[ignore = "needs the guest"]
    fn no_packet_is_judged_by_half_a_policy() {
        const SWAPS: u32 = 1000;
        const PATIENCE_S: u64 = 140;
        host::start_clean();
        let c = container::bundle("swaps")
            .address("198.51.100.87")
            .egress("udp:any:9999")
            .start();
        let id = u32::try_from(cli::show(&c.id)["id"].as_u64().expect("an id")).expect("small");
        // The same two packets, one allowed and one not, by rules that have nothing in common: a mix of
        // the two would allow both or none.
        let compiled = [
            format!("udp:{OUTSIDE}:9999 tcp:{ELSEWHERE}:9999"),
            format!("udp:any:9000-9999 !udp:{ELSEWHERE}:9999"),
        ]
        .map(|egress| {
            let policy = Policy {
                egress: RuleSet::parse(&egress).expect("rules"),
                ..Policy::default()
            };
            compile(&policy).expect("they compile").rules
        });
        let before = cli::show(&c.id);
        let cursor = wire::cursor();
        let root = format!("/proc/{}/root/tmp", c.pid());
        let (swaps, sent): (u32, u64) = std::thread::scope(|scope| {
            let swapper = scope.spawn(|| {
                let maps = load::open_maps(&Pins::new(Path::new(host::PINS))).expect("the maps");
                let plenty = Path::new(&root).join("plenty");
                // No longer than the sender may take: it may have failed.
                let end = Instant::now() + Duration::from_secs(PATIENCE_S);
                let mut n = 0;
                while n < SWAPS || (!plenty.exists() && Instant::now() < end) {
                    n += 1;
                    let slot = 2 * id + n % 2;
                    let half = usize::try_from(n % 2).expect("small");
                    maps.fill_rules(slot, &compiled[half]).expect("fill");
                    let word = PolicyWord { epoch: 1 + n, slot };
                    maps.switch(EndpointId(id), word).expect("switch");
                }
                std::fs::write(format!("{root}/enough"), "").expect("say that it is enough");
                n
            });
            let pairs = (SWAPS + 1).to_string();
            let argv = ["python3", "-c", LOAD, OUTSIDE, ELSEWHERE, &pairs];
            let ran = c.ask(&json!({"op": "run", "argv": argv, "timeout": PATIENCE_S}));
            assert_eq!(ran["ok"], true, "{ran}");
            let out = ran["out"].as_str().expect("a text").trim();
            let swaps = swapper.join().expect("it swapped");
            (swaps, out.parse().expect("a count"))
        });
        let after = cli::show(&c.id);
        let count = |shown: &Value, path: &str| shown.pointer(path).and_then(Value::as_u64);
        let grown =
            |path: &str| count(&after, path).unwrap_or(0) - count(&before, path).unwrap_or(0);
        let dropped = grown("/drops/egress/no-rule") + grown("/drops/egress/deny-rule");
        println!("{swaps} swaps under {sent} pairs of packets");
        assert!(sent > u64::from(SWAPS), "a packet for each swap and more");
        assert_eq!(
            grown("/traffic/egress/packets"),
            sent,
            "each that is allowed"
        );
        assert_eq!(dropped, sent, "each that is not");
        let drops = cli::added(&cli::Drops::new(), &c.drops("egress"));
        assert!(
            drops.keys().all(|r| r == "no-rule" || r == "deny-rule"),
            "{drops:?}"
        );
        let frames = cursor.sent_by_guest();
        let forbidden = frames
            .iter()
            .filter(|f| f.data.ends_with(b"forbidden"))
            .count();
        assert_eq!(forbidden, 0, "on the wire");
    }
}
