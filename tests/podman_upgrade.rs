//! Two versions on one host: running containers get the other version's programs under load, and
//! nothing is lost or let through meanwhile.

mod rig;

mod guest {
    use std::fs;
    use std::io::Read as _;
    use std::path::Path;
    use std::process::{Child, Command, Stdio};
    use std::thread::sleep;
    use std::time::{Duration, Instant};

    use serde_json::{Value, json};

    use crate::rig::container::{self, Container};
    use crate::rig::{OUTSIDE, OUTSIDE_6, cli, host, wire};

    const STREAM: &str = "/src/tests/data/stream.py";

    /// The debug build, which counts as another version (build.rs).
    const OTHER: &str = "/opt/oci-netkit/oci-netkit-debug";

    /// The installed program as it is, put back at the end.
    struct Installed(Vec<u8>);

    impl Installed {
        fn now() -> Self {
            Self(fs::read(cli::BINARY).expect("read the installed program"))
        }

        /// Installs a program as a package does: by rename.
        fn install(program: &[u8]) {
            let new = format!("{}.new", cli::BINARY);
            fs::write(&new, program).expect("write the program");
            host::run(&["chmod", "755", &new]);
            fs::rename(&new, cli::BINARY).expect("rename the program");
        }
    }

    impl Drop for Installed {
        fn drop(&mut self) {
            Self::install(&self.0);
        }
    }

    /// A stream in the namespace of a container, or on the host.
    struct Stream(Child);

    impl Stream {
        fn start(container: &Container, kind: &str, to: &str, port: u16, rate: u32) -> Self {
            let child = Command::new("nsenter")
                .args(["-t", &container.pid().to_string(), "-n", "python3", STREAM])
                .args([kind, to, &port.to_string(), &rate.to_string()])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("start a stream");
            Self(child)
        }

        fn end(mut self) -> Value {
            drop(self.0.stdin.take());
            let mut text = String::new();
            let mut out = self.0.stdout.take().expect("a pipe");
            out.read_to_string(&mut text).expect("hear the stream");
            assert!(self.0.wait().expect("the stream ended").success());
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text:?}"))
        }
    }

    /// Which program runs on a pinned link.
    fn program(pin: &Path) -> u32 {
        let link = libbpf_rs::Link::open(pin).expect("open a link");
        link.info().expect("look at a link").prog_id
    }

    /// The programs on every link of ours, by the pin.
    fn programs() -> Vec<(String, u32)> {
        let mut found = Vec::new();
        for dir in ["links", "uplinks"] {
            let pins = host::run(&["find", &format!("{}/{dir}", host::PINS), "-type", "f"]);
            for pin in pins.lines() {
                found.push((pin.to_owned(), program(Path::new(pin))));
            }
        }
        found.sort();
        found
    }

    fn generations() -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(host::PINS)
            .expect("list pins")
            .map(|e| e.expect("a pin").file_name().to_string_lossy().into_owned())
            .filter(|n| n.starts_with("gen-"))
            .collect();
        names.sort();
        names
    }

    fn reconcile() -> Value {
        cli::run(&["reconcile", "--json"]).success().json()
    }

    #[test]
    #[ignore = "needs the guest"]
    fn running_containers_get_the_new_programs_without_a_lost_packet() {
        host::start_clean();
        let installed = Installed::now();
        let rules = "udp:203.0.113.10:7777 tcp:203.0.113.10:7777 \
                     udp:[2001:db8:f::10]:7777 udp:containers:7000";
        let one = container::podman("one")
            .address("198.51.100.71 2001:db8:2::71")
            .egress(rules)
            .start();
        let two = container::bundle("two")
            .address("198.51.100.72")
            .ingress("udp:containers:7000")
            .start();
        two.listen("udp", 7000);
        let before = programs();
        assert_eq!(before.len(), 5, "two pairs and an uplink: {before:?}");

        let quiet = wire::cursor();
        let streams = [
            Stream::start(&one, "udp", OUTSIDE, 7777, 50),
            Stream::start(&one, "udp", OUTSIDE_6, 7777, 25),
            Stream::start(&one, "udp", "198.51.100.72", 7000, 25),
        ];
        let tcp = Stream::start(&one, "tcp", OUTSIDE, 7777, 25);
        let denied = Stream::start(&one, "deny", OUTSIDE, 9999, 50);
        let unreached = Stream::start(&two, "deny", OUTSIDE, 7777, 50);
        sleep(Duration::from_secs(3));
        // There and back: an upgrade and a downgrade.
        let old = installed.0.clone();
        let new = fs::read(OTHER).expect("read the debug build");
        let mut seen = vec![before.clone()];
        for version in [&new, &old] {
            Installed::install(version);
            let doctor = cli::run(&["doctor"]);
            assert!(doctor.out.contains("oci-netkit reconcile"), "{doctor:?}");
            let start = Instant::now();
            let done = reconcile();
            println!("upgrade of five links: {:?}", start.elapsed());
            assert_eq!(done["replaced"], 5, "{done}");
            assert_eq!(done["unloaded"].as_array().map(Vec::len), Some(1), "{done}");
            assert_eq!(generations().len(), 1);
            let now = programs();
            for earlier in &seen {
                assert!(now.iter().all(|link| !earlier.contains(link)), "{now:?}");
            }
            seen.push(now);
            sleep(Duration::from_secs(1));
        }
        assert_eq!(reconcile()["replaced"], 0, "nothing is left to do");
        for stream in streams {
            let said = stream.end();
            assert!(said["sent"].as_u64() > Some(100), "{said}");
            assert_eq!(said["missing"], Value::Array(Vec::new()), "{said}");
        }
        let said = tcp.end();
        assert!(said["sent"].as_u64() > Some(20_000), "{said}");
        assert_eq!(said["same"], true, "{said}");
        for stream in [denied, unreached] {
            let said = stream.end();
            let tried = said["sent"].as_u64().zip(said["refused"].as_u64());
            assert!(tried.is_some_and(|(a, b)| a + b > 100), "{said}");
        }
        let sent = quiet.sent_by_guest();
        assert!(
            sent.iter().any(|f| f.contains("number 99")),
            "{}",
            sent.len()
        );
        let leaked: Vec<_> = sent
            .into_iter()
            .filter(|f| f.contains("forbidden"))
            .collect();
        assert!(leaked.is_empty(), "{:?}", wire::summaries(&leaked));

        // Containers of both versions live side by side, and the record says what runs.
        let three = container::bundle("three")
            .address("198.51.100.73")
            .egress("udp:containers:7000")
            .start();
        three.reaches("udp", "198.51.100.72", 7000);
        for c in [&one, &two, &three] {
            let said = cli::show(&c.id);
            assert_eq!(said["generation"], generations()[0].as_str(), "{said}");
        }
        drop((one, two, three));
    }

    /// A device that leads nowhere, but has a default route that loses against all others.
    struct SecondUplink;

    impl SecondUplink {
        fn new() -> Self {
            host::run(&["ip", "link", "add", "up9", "type", "dummy"]);
            host::run(&["ip", "link", "set", "up9", "up"]);
            let route = "ip route add default dev up9 metric 9999";
            host::run(&route.split(' ').collect::<Vec<_>>());
            Self
        }
    }

    impl Drop for SecondUplink {
        fn drop(&mut self) {
            host::attempt(&["ip", "link", "del", "up9"]);
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn pins_of_vanished_devices_go_and_a_device_that_comes_back_is_served_again() {
        host::start_clean();
        let second = SecondUplink::new();
        let c = container::bundle("served")
            .address("198.51.100.74")
            .egress("udp:203.0.113.10:7777")
            .start();
        let other = container::bundle("vanished").address("auto").start();
        assert_eq!(programs().len(), 6, "two pairs, two uplinks");
        assert_eq!(reconcile()["attached"], json!([]), "nothing to change");

        drop(second);
        host::run(&["ip", "link", "del", &other.primary()]);
        let done = reconcile();
        assert_eq!(
            done["unpinned"], 3,
            "two links of the pair, one of the uplink: {done}"
        );
        assert_eq!(programs().len(), 3);
        assert_eq!(reconcile()["unpinned"], 0);
        c.reaches("udp", OUTSIDE, 7777);

        let second = SecondUplink::new();
        let done = reconcile();
        assert_eq!(done["attached"], json!(["up9"]), "{done}");
        assert_eq!(programs().len(), 4);
        c.reaches("udp", OUTSIDE, 7777);
        // The config's faults are told, and keep no fix from the programs.
        let config = host::OtherConfig::with("uplinks = [\"eth0\", \"absent7\"]");
        let told = cli::run(&["reconcile"]);
        assert_eq!(told.code, cli::CONFIG, "{told:?}");
        assert!(told.err.contains("absent7"), "{told:?}");
        c.reaches("udp", OUTSIDE, 7777);
        drop(config);
        drop(second);
        drop((c, other));
        host::eventually("no endpoint", || cli::list().is_empty());
        cli::run(&["reconcile"]).success();
    }

    /// rpm runs a package's scripts in a network namespace of their own, where the host's devices
    /// all seem to be gone.
    #[test]
    #[ignore = "needs the guest"]
    fn another_namespace_than_the_hosts_changes_nothing() {
        host::start_clean();
        let c = container::podman("near").address("auto");
        let c = c.egress("udp:203.0.113.10:7777").start();
        let before = programs();
        for args in [["reconcile", ""], ["gc", ""], ["unload", "--force"]] {
            let mut command = Command::new("unshare");
            command.args(["--net", cli::BINARY]);
            command.args(args.iter().filter(|a| !a.is_empty()));
            let ran = cli::feed(&mut command, b"");
            assert_eq!(ran.code, cli::CONFLICT, "{args:?}: {ran:?}");
            assert!(ran.err.contains("another network namespace"), "{ran:?}");
            assert_eq!(programs(), before, "{args:?}");
        }
        c.reaches("udp", OUTSIDE, 7777);
        c.stop();
    }
}
