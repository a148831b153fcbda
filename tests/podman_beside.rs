//! Beside other software that manages networks and firewalls on the same machine: containers work
//! before and after it starts or loads its rules anew, and nothing of it is changed.

mod rig;

mod guest {
    use std::fs;
    use std::process::{Child, Command, Stdio};

    use crate::rig::container::{self, Container};
    use crate::rig::second::SecondNetwork;
    use crate::rig::{HOST, HOST_6, OUTSIDE, OUTSIDE_6, host, wire};

    /// Of the host, behind its own firewall.
    const HOSTS: u16 = 7770;

    /// A daemon of somebody else; ended when dropped, with what it leaves in the kernel.
    struct Daemon {
        child: Child,
        undo: &'static str,
    }

    impl Daemon {
        fn start(argv: &[&str], undo: &'static str) -> Self {
            let log = fs::File::create("/tmp/daemon.log").expect("make a log");
            let child = Command::new(argv[0])
                .args(&argv[1..])
                .stdin(Stdio::null())
                .stdout(log.try_clone().expect("share the log"))
                .stderr(log)
                .spawn()
                .expect("start the daemon");
            Self { child, undo }
        }

        #[track_caller]
        fn wait_until(self, what: &str, argv: &[&str]) -> Self {
            // Python, in an emulated machine.
            let ready = (0..200).any(|_| {
                std::thread::sleep(std::time::Duration::from_millis(200));
                host::attempt(argv)
            });
            let log = fs::read_to_string("/tmp/daemon.log").unwrap_or_default();
            assert!(ready, "no {what}: {log}");
            self
        }
    }

    impl Drop for Daemon {
        fn drop(&mut self) {
            let pid = self.child.id().to_string();
            host::attempt(&["kill", &pid]);
            let _ = self.child.wait();
            host::attempt(&["sh", "-c", self.undo]);
        }
    }

    /// All rules of netfilter, without counters; an empty table that reading made does not count.
    fn ruleset() -> String {
        host::run(&["nft", "--stateless", "list", "ruleset"])
    }

    #[track_caller]
    fn assert_unchanged(rules: &str, what: &str) {
        let now = ruleset();
        let differs = now.lines().zip(rules.lines()).find(|(a, b)| a != b);
        assert!(now == rules, "{what}: {differs:?}");
    }

    fn forwarding() -> String {
        fs::read_to_string("/proc/sys/net/ipv4/ip_forward").expect("read it")
    }

    /// Masqueraded, with a published port; echoes.
    fn start(name: &str, number: u16) -> Container {
        let c = container::podman(name)
            .address(&format!("10.99.0.{number} fd99::{number}"))
            .egress("tcp:any:7777 udp:any:7777 tcp:host:7770")
            .ingress("tcp:any:7777 tcp:host:7777")
            .with("publish", &format!("{}:7777", 8000 + number))
            .start();
        c.listen("tcp", 7777);
        c
    }

    #[track_caller]
    fn works(c: &Container, number: u16) {
        for to in [OUTSIDE, OUTSIDE_6] {
            c.reaches("tcp", to, 7777);
            c.reaches("udp", to, 7777);
            c.is_kept_from("no-rule", "tcp", to, 80);
        }
        let port = 8000 + number;
        for own in [HOST, HOST_6] {
            let asked = wire::ask("tcp", own, port, "wire");
            assert_eq!(asked, Ok("wire".into()), "{own}");
            let asked = host::ask("tcp", own, port, "host");
            assert_eq!(asked, Ok("host".into()), "{own}");
        }
        assert_eq!(
            host::ask("tcp", "127.0.0.1", port, "host"),
            Ok("host".into())
        );
    }

    /// Containers of before and after, and the rules that must not change by ours.
    #[track_caller]
    fn lives_beside(before: &Container, reload: &[&str]) {
        works(before, 1);
        let mut rules = ruleset();
        let forwards = forwarding();
        assert!(!rules.trim().is_empty(), "it has rules");
        {
            let after = start("after", 2);
            assert_unchanged(&rules, "by a start");
            works(&after, 2);
            host::run(reload);
            rules = ruleset();
            works(before, 1);
            works(&after, 2);
        }
        assert_unchanged(&rules, "by an end");
        assert_eq!(forwarding(), forwards);
    }

    #[test]
    #[ignore = "needs the guest"]
    fn firewalld_keeps_its_rules_and_containers_their_network() {
        host::start_clean();
        let echo = host::Echo::new(HOSTS);
        let c = start("before", 1);
        c.reaches("tcp", HOST, echo.port());
        fs::create_dir_all("/run/dbus").expect("make a directory");
        let _bus = Daemon::start(
            &["dbus-daemon", "--system", "--nofork", "--nopidfile"],
            "rm -f /run/dbus/system_bus_socket",
        )
        .wait_until("bus", &["test", "-S", "/run/dbus/system_bus_socket"]);
        let _firewall = Daemon::start(&["firewalld", "--nofork", "--nopid"], "nft flush ruleset")
            .wait_until("firewall", &["firewall-cmd", "--state"]);
        // What is for the host itself meets the host's firewall, rule or no rule of ours.
        assert!(c.attempt("tcp", HOST, echo.port()).is_err());
        lives_beside(&c, &["firewall-cmd", "--reload"]);
    }

    struct Ufw;

    impl Drop for Ufw {
        fn drop(&mut self) {
            host::attempt(&["ufw", "--force", "disable"]);
            host::attempt(&["nft", "flush", "ruleset"]);
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn ufw_keeps_its_rules_and_containers_their_network() {
        host::start_clean();
        let echo = host::Echo::new(HOSTS);
        let c = start("before", 1);
        let _ufw = Ufw;
        host::run(&["ufw", "--force", "enable"]);
        assert!(c.attempt("tcp", HOST, echo.port()).is_err());
        lives_beside(&c, &["ufw", "reload"]);
    }

    #[test]
    #[ignore = "needs the guest"]
    fn docker_keeps_its_rules_and_containers_their_network() {
        host::start_clean();
        let c = start("before", 1);
        let forwards = forwarding();
        let undo = "nft flush ruleset; ip link del docker0; rm -rf /var/lib/docker";
        let daemon = Daemon::start(
            &[
                "dockerd",
                "--storage-driver",
                "vfs",
                "--data-root",
                "/run/docker-data",
            ],
            undo,
        )
        .wait_until(
            "docker",
            &[
                "curl",
                "-sf",
                "--unix-socket",
                "/var/run/docker.sock",
                "http://docker/_ping",
            ],
        );
        // It forwards nothing that it does not know.
        assert!(ruleset().contains("policy drop"), "{}", ruleset());
        lives_beside(&c, &["true"]);
        drop(daemon);
        fs::write("/proc/sys/net/ipv4/ip_forward", forwards).expect("as it was");
    }

    /// A container of podman's own network.
    struct Netavark(String);

    impl Netavark {
        fn new() -> Self {
            let run = "podman run --detach --network podman --publish 8090:7777 --rootfs /:O";
            let mut argv: Vec<&str> = run.split(' ').collect();
            argv.extend(["/src/tests/vm/wire/echo", "7777"]);
            let theirs = Self(host::run(&argv).trim().to_owned());
            let answers = || wire::ask("tcp", HOST, 8090, "theirs").is_ok();
            host::eventually("their server listens", answers);
            theirs
        }

        #[track_caller]
        fn works(&self) {
            let pid = host::run(&["podman", "inspect", "--format", "{{.State.Pid}}", &self.0]);
            let net = format!("--net=/proc/{}/ns/net", pid.trim());
            let page = host::run(&["nsenter", &net, "curl", "-s", "-m", "5", "203.0.113.10"]);
            assert!(page.contains(&format!("client={HOST} ")), "{page}");
            let asked = wire::ask("tcp", HOST, 8090, "theirs");
            assert_eq!(asked, Ok("theirs".into()));
        }
    }

    impl Drop for Netavark {
        fn drop(&mut self) {
            host::attempt(&["podman", "rm", "--force", "--time", "0", &self.0]);
            host::attempt(&["nft", "delete", "table", "inet", "netavark"]);
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn containers_of_podmans_own_network_and_ours_live_side_by_side() {
        host::start_clean();
        let forwards = forwarding();
        let c = start("before", 1);
        let theirs = Netavark::new();
        theirs.works();
        lives_beside(&c, &["podman", "network", "reload", "--all"]);
        theirs.works();
        drop(theirs);
        works(&c, 1);
        fs::write("/proc/sys/net/ipv4/ip_forward", forwards).expect("as it was");
    }

    fn udev(undo: &'static str) -> Daemon {
        Daemon::start(&["/usr/lib/systemd/systemd-udevd"], undo)
            .wait_until("udev", &["udevadm", "control", "--ping"])
    }

    const NETWORK: &str = "[Match]\nName=nd0\n[Network]\nAddress=10.200.0.1/24\nIPv6AcceptRA=no\n";

    fn networks() -> (String, String) {
        let own = |family: &str| host::run(&["ip", family, "route", "show", "table", "main"]);
        (own("-4"), own("-6"))
    }

    #[test]
    #[ignore = "needs the guest"]
    fn systemd_networkd_leaves_our_devices_and_routes_alone() {
        host::start_clean();
        host::run(&[
            "sh",
            "-c",
            "mkdir -p /run/systemd/network && install -d -o systemd-network -g systemd-network \
             /run/systemd/netif /run/systemd/netif/links /run/systemd/netif/leases",
        ]);
        fs::write("/run/systemd/network/10-nd0.network", NETWORK).expect("write it");
        let before = start("before", 1);
        // It waits for udev's word about a device.
        let _udev = udev("true");
        host::run(&[
            "sh",
            "-c",
            "ip link add nd0 type dummy && ip link set nd0 up",
        ]);
        let _networkd = Daemon::start(
            &["/usr/lib/systemd/systemd-networkd"],
            "ip link del nd0; rm -rf /run/systemd/network/10-nd0.network /run/systemd/netif",
        );
        host::eventually("an address of networkd's", || {
            host::run(&["ip", "addr", "show", "dev", "nd0"]).contains("10.200.0.1/24")
        });
        works(&before, 1);
        let after = start("after", 2);
        let routes = networks();
        for command in ["reload", "reconfigure nd0"] {
            let mut argv = vec!["networkctl"];
            argv.extend(command.split(' '));
            host::attempt(&argv);
            works(&before, 1);
            works(&after, 2);
        }
        assert_eq!(networks(), routes);
        host::run(&["udevadm", "settle"]);
        let state = host::run(&["networkctl", "list", "--no-legend", "--no-pager"]);
        let ours: Vec<&str> = state.lines().filter(|l| l.contains("onk")).collect();
        assert_eq!(ours.len(), 2, "{state}");
        assert!(!ours.iter().any(|l| l.contains("configur")), "{state}");
    }

    /// Stands for what only an init can do: starts the unit that the rule names, by its own line.
    const SYSTEMCTL: &str = r#"#!/bin/sh
echo "$*" >>/run/systemctl.log
for unit; do :; done
exec $(sed -n 's/^ExecStart=//p' "/usr/lib/systemd/system/$unit")
"#;

    #[test]
    #[ignore = "needs the guest"]
    fn udev_has_an_uplink_that_is_made_anew_served_again() {
        host::start_clean();
        let source = "/src/packaging";
        for (from, to) in [
            ("udev/90-oci-netkit.rules", "/usr/lib/udev/rules.d"),
            (
                "systemd/oci-netkit-reconcile.service",
                "/usr/lib/systemd/system",
            ),
        ] {
            host::run(&[
                "install",
                "-D",
                "-m",
                "644",
                "-t",
                to,
                &format!("{source}/{from}"),
            ]);
        }
        host::run(&["sh", "-c", "mv /usr/bin/systemctl /usr/bin/systemctl.real"]);
        fs::write("/usr/bin/systemctl", SYSTEMCTL).expect("write it");
        host::run(&["chmod", "+x", "/usr/bin/systemctl"]);
        let _udev = udev(
            "mv /usr/bin/systemctl.real /usr/bin/systemctl; rm -f /run/systemctl.log; \
             rm /usr/lib/udev/rules.d/90-oci-netkit.rules",
        );
        let started = || fs::read_to_string("/run/systemctl.log").unwrap_or_default();

        let network = SecondNetwork::new();
        host::run(&["udevadm", "settle"]);
        let _config = host::OtherConfig::with("uplinks = [\"eth0\", \"up9\"]");
        let c = container::podman("served")
            .address("198.51.100.120")
            .ingress("icmp:any")
            .start();
        let reached = || network.reaches("198.51.100.120");
        assert!(reached());
        host::run(&["udevadm", "settle"]);
        let before = started();

        network.make_link_anew();
        host::eventually("an answer through the new uplink", reached);
        assert!(started().len() > before.len(), "by the rule");
        // The devices of a container are no uplinks: nothing is started for them.
        host::run(&["udevadm", "settle"]);
        let before = started();
        drop(c);
        let c = container::bundle("another")
            .address("198.51.100.121")
            .start();
        host::run(&["udevadm", "settle"]);
        assert_eq!(started(), before);
        drop(c);
    }
}
