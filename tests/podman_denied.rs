//! What is refused is on record, for as long as somebody may ask; and a trial shows what a workload
//! needs, as rules to paste back.
//!
//! ```text
//!  containers 198.51.100.N, 2001:db8:2::N ── host 192.0.2.2 ── wire ── 203.0.113.10, 2001:db8:f::10
//!  echo (TCP and UDP) on 7777 of every address of the wire
//! ```

mod rig;

mod guest {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Child, ChildStdout, Command, Stdio};

    use serde_json::{Value, json};

    use crate::rig::container::{self, Container};
    use crate::rig::{ELSEWHERE, HOST, OUTSIDE, OUTSIDE_6, cli, host, wire};

    const METADATA: &str = "169.254.169.254";

    /// Direction, protocol, remote, port, reason, passed and count of each refusal.
    fn denied(id: &str) -> Vec<Value> {
        let answer = cli::json(&["denied", id]);
        let rows = answer["denied"].as_array().expect("a list").iter();
        let keys = [
            "direction",
            "protocol",
            "remote",
            "port",
            "reason",
            "passed",
            "count",
        ];
        rows.map(|row| {
            assert!(row["first"].as_str() <= row["last"].as_str(), "{row}");
            Value::Array(keys.iter().map(|k| row[k].clone()).collect())
        })
        .collect()
    }

    /// With one count left out, of what a sender repeats as it likes.
    fn without_count(row: &Value) -> Value {
        let mut row = row.as_array().expect("a row").clone();
        row.truncate(6);
        Value::Array(row)
    }

    mod smoke {
        use super::*;

        #[test]
        #[ignore = "needs the guest"]
        fn refusals_are_on_record_also_after_the_end() {
            host::start_clean();
            let c = container::podman("refused")
                .address("198.51.100.70 2001:db8:2::70")
                .with("name", "refused")
                .egress(&format!("udp:{OUTSIDE}:7777"))
                .start();
            c.reaches("udp", OUTSIDE, 7777);
            c.is_kept_from("no-rule", "udp", ELSEWHERE, 53);
            c.is_kept_from("no-rule", "udp", OUTSIDE_6, 7777);
            c.is_kept_from("host", "udp", HOST, 22);
            c.is_kept_from("metadata", "udp", METADATA, 80);
            c.is_kept_from("no-rule", "udp", ELSEWHERE, 53);
            let asked = c.expect_drop("ingress", "no-rule", || {
                wire::ask("udp", "198.51.100.70", 9, "anybody?")
            });
            assert_eq!(asked, Err("timeout".into()));
            let expected = [
                json!(["egress", "udp", ELSEWHERE, 53, "no-rule", false, 2]),
                json!(["egress", "udp", OUTSIDE_6, 7777, "no-rule", false, 1]),
                json!(["egress", "udp", HOST, 22, "host", false, 1]),
                json!(["egress", "udp", METADATA, 80, "metadata", false, 1]),
                json!(["ingress", "udp", "192.0.2.1", 9, "no-rule", false, 1]),
            ];
            assert_eq!(denied(&c.id), expected);
            let id = c.id.clone();
            c.stop();
            host::eventually("it has ended", || cli::list().is_empty());
            for name in [id.as_str(), &id[..12], "refused"] {
                assert_eq!(denied(name), expected, "{name}");
            }
            assert_eq!(cli::json(&["denied", "refused"])["ended"], true);
            let text = cli::run(&["denied", "refused"]).success().out;
            assert!(text.contains("egress     udp"), "{text}");
            let nobody = cli::run(&["denied", "nobody"]);
            assert_eq!(nobody.code, cli::BAD_INPUT, "{nobody:?}");
        }
    }

    /// What the workload does; whether all of it worked.
    fn works(c: &Container) -> bool {
        let mut done = vec![
            c.exchange("tcp", OUTSIDE, 7777).is_ok(),
            c.attempt("udp", OUTSIDE_6, 7777).is_ok(),
            c.attempt("icmp", OUTSIDE, 0).is_ok(),
        ];
        for address in ["198.51.100.72", "2001:db8:2::72"] {
            done.push(c.attempt("tcp", address, 7777).is_ok());
        }
        done.push(wire::ask("udp", "198.51.100.71", 7777, "hello") == Ok("hello".into()));
        done.iter().all(|d| *d)
    }

    fn start_other() -> Container {
        let other = container::bundle("other")
            .address("198.51.100.72 2001:db8:2::72")
            .ingress("tcp:containers:7777")
            .start();
        other.listen("tcp", 7777);
        other
    }

    fn workload(egress: &str, ingress: &str) -> container::Spec {
        container::podman("tried")
            .address("198.51.100.71 2001:db8:2::71")
            .with("name", "tried")
            .egress(egress)
            .ingress(ingress)
    }

    fn words(list: &Value) -> String {
        let list = list.as_array().expect("rules").iter();
        let words: Vec<&str> = list.map(|r| r.as_str().expect("a rule")).collect();
        words.join(" ")
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_trial_becomes_the_allowlist_of_its_workload() {
        host::start_clean();
        let _config = host::OtherConfig::with("audit_allowed = true");
        let _other = start_other();
        let deny = format!("!any:{ELSEWHERE}");
        let tried = workload(&deny, "").with("mode", "audit").start();
        tried.listen("udp", 7777);
        assert!(works(&tried));
        assert_eq!(cli::show(&tried.id)["mode"], "audit");
        // A trial goes nowhere special, and not where a rule denies it.
        tried.is_kept_from("host", "udp", HOST, 22);
        tried.is_kept_from("metadata", "udp", METADATA, 80);
        tried.is_kept_from("deny-rule", "udp", ELSEWHERE, 53);
        let target = format!("udp:{OUTSIDE}:7777");
        let asked = cli::run(&["check", &tried.id, "egress", &target]).success();
        assert!(asked.out.contains("but the mode is audit"), "{asked:?}");
        let of_trial: Vec<Value> = denied(&tried.id).iter().map(without_count).collect();
        for row in [
            json!(["egress", "tcp", OUTSIDE, 7777, "no-rule", true]),
            json!(["egress", "udp", OUTSIDE_6, 7777, "no-rule", true]),
            json!(["egress", "icmp", OUTSIDE, 8, "no-rule", true]),
            json!(["egress", "tcp", "198.51.100.72", 7777, "containers", true]),
            json!(["egress", "tcp", "2001:db8:2::72", 7777, "containers", true]),
            json!(["egress", "udp", HOST, 22, "host", false]),
            json!(["egress", "udp", METADATA, 80, "metadata", false]),
            json!(["egress", "udp", ELSEWHERE, 53, "deny-rule", false]),
            json!(["ingress", "udp", "192.0.2.1", 7777, "no-rule", true]),
        ] {
            assert!(of_trial.contains(&row), "{row} in {of_trial:#?}");
        }
        assert_eq!(of_trial.len(), 9, "{of_trial:#?}");
        tried.stop();
        host::eventually("it has ended", || cli::list().len() == 1);

        let pasted = cli::run(&["denied", "tried", "--as-rules"]).success().out;
        let rules = cli::run(&["denied", "tried", "--as-rules", "--json"])
            .success()
            .json();
        let (egress, ingress) = (words(&rules["egress"]), words(&rules["ingress"]));
        assert!(
            pasted.starts_with(&format!("io.oci-netkit.egress={egress}\n")),
            "{pasted}"
        );
        assert!(pasted.contains("\n# egress udp:host:22\n"), "{pasted}");
        assert!(pasted.contains("\n# egress udp:metadata:80\n"), "{pasted}");
        let enforced = workload(&egress, &ingress).start();
        enforced.listen("udp", 7777);
        assert!(works(&enforced));
        assert_eq!(denied(&enforced.id), [Value::Null; 0]);
        enforced.is_kept_from("no-rule", "tcp", OUTSIDE, 80);
        enforced.stop();
        host::eventually("it has ended", || cli::list().len() == 1);

        let closed = workload(&deny, "").start();
        closed.listen("udp", 7777);
        assert!(!works(&closed), "without the rules it does not");
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_trial_that_the_config_does_not_allow_is_refused() {
        host::start_clean();
        let before = host::Snapshot::take();
        workload("", "").with("mode", "audit").refused();
        let error = cli::last_error();
        assert_eq!(error["exit_code"], cli::NOT_PERMITTED, "{error:#}");
        let hint = error["hint"].as_str().expect("a hint");
        assert!(hint.contains("audit_allowed = true"), "{hint}");
        before.assert_same();
    }

    /// A running `monitor`; ends with the test.
    struct Monitor(Child, BufReader<ChildStdout>);

    impl Monitor {
        fn start(args: &[&str]) -> Self {
            let mut child = Command::new(cli::BINARY)
                .arg("monitor")
                .args(args)
                .stdout(Stdio::piped())
                .spawn()
                .expect("start monitor");
            let out = child.stdout.take().expect("piped");
            Self(child, BufReader::new(out))
        }

        fn line(&mut self) -> String {
            let mut line = String::new();
            self.1.read_line(&mut line).expect("a line");
            line
        }
    }

    impl Drop for Monitor {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_monitor_tells_what_is_refused_while_it_happens() {
        host::start_clean();
        let c = container::bundle("watched")
            .address("198.51.100.73")
            .start();
        c.is_kept_from("no-rule", "udp", OUTSIDE, 1);
        let mut all = Monitor::start(&[]);
        let mut one = Monitor::start(&[&c.id, "--json"]);
        // What was before its first look is `denied`'s.
        std::thread::sleep(std::time::Duration::from_secs(2));
        c.is_kept_from("no-rule", "udp", OUTSIDE, 2);
        let told: Value = serde_json::from_str(&one.line()).expect("a JSON line");
        assert_eq!(told["port"], 2, "{told}");
        assert_eq!(
            (&told["added"], &told["reason"]),
            (&json!(1), &json!("no-rule"))
        );
        let line = all.line();
        assert!(
            line.contains("egress udp 203.0.113.10 2  refused as no-rule (+1)"),
            "{line}"
        );
        c.stop();
        assert_eq!(one.line(), "", "it ends with its container");
        let status = one.0.wait().expect("it ends");
        assert!(status.success(), "{status:?}");
    }
}
