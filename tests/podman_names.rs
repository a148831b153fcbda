//! Names in rules, by real programs against a real name server on the wire: what is named is reached,
//! and nothing else is, whatever the container tries.
//!
//! ```text
//!  containers 198.51.100.N, 2001:db8:2::N ── host 192.0.2.2 ── wire ── 203.0.113.10, 2001:db8:f::10
//!  DNS on 53 and echo (TCP and UDP) on 7 and 7777 of every address of the wire; tests/vm/wire/dns
//!  has the zone example.test: any name is .10, other.* is .20, what else differs is in tests/vm/README.md
//! ```

mod rig;

mod guest {
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use serde_json::{Value, json};

    use crate::rig::container::{self, Spec};
    use crate::rig::names::{Client, RESOLVERS, named};
    use crate::rig::{ELSEWHERE, ELSEWHERE_6, HOST, OUTSIDE, OUTSIDE_6, cli, host, say, wire};

    mod smoke {
        use super::*;

        #[test]
        #[ignore = "needs the guest"]
        fn what_is_named_is_reached_and_nothing_else() {
            host::start_clean();
            let before = host::Snapshot::take();
            let _config = host::OtherConfig::with(RESOLVERS);
            let c = Client::start(named(
                "byname",
                90,
                "tcp:www.example.test:7777 tcp:*.cdn.example.test:7777",
            ));
            c.0.is_kept_from("no-rule", "tcp", OUTSIDE, 7777);
            // Both families at once, as libc asks.
            let both = c.reaches("www.example.test", 7777, "any");
            assert!(both.contains(&format!("{OUTSIDE} by name")), "{both:?}");
            assert!(both.contains(&format!("{OUTSIDE_6} by name")), "{both:?}");
            assert_eq!(
                c.reaches("WWW.Example.TEST", 7777, "4"),
                [format!("{OUTSIDE} by name")]
            );
            assert_eq!(
                c.reaches("a.cdn.example.test", 7777, "6"),
                [format!("{OUTSIDE_6} by name")]
            );
            c.0.is_kept_from("no-rule", "tcp", OUTSIDE, 80);
            c.0.is_kept_from("no-rule", "tcp", ELSEWHERE, 7777);
            let quiet = wire::cursor();
            for name in [
                "other.example.test",
                "a.b.cdn.example.test",
                "cdn.example.test",
                "example.com",
            ] {
                let (error, seconds) = c.is_refused(name);
                assert!(error == -2 || error == -3 || error == -5, "{name}: {error}");
                say(&format!("{name}: refused in {seconds} s"));
                // 100 ms natively; nothing waits for a timeout, which is 2 s.
                assert!(seconds < 1.0, "{name}: {seconds}");
            }
            quiet.assert_silence();
            let denied = cli::json(&["denied", &c.0.id]);
            let names: Vec<&Value> = denied["denied"]
                .as_array()
                .expect("rows")
                .iter()
                .map(|r| &r["name"])
                .collect();
            let direct = denied["denied"].as_array().expect("rows").iter();
            let direct = direct.filter(|r| r["remote"] == ELSEWHERE && r["port"] == 7777);
            let reasons: Vec<&Value> = direct.map(|r| &r["reason"]).collect();
            assert_eq!(reasons, ["no-rule"], "never learned: {denied:#}");
            for name in [
                "other.example.test",
                "a.b.cdn.example.test",
                "cdn.example.test",
                "example.com",
            ] {
                assert!(names.contains(&&json!(name)), "{name} in {denied:#}");
            }
            let by_name = cli::run(&["check", &c.0.id, "egress", "www.example.test:7777"]);
            assert_eq!(by_name.code, 0, "{by_name:?}");
            let learned = cli::run(&["check", &c.0.id, "egress", &format!("tcp:{OUTSIDE}:7777")]);
            assert!(
                learned.out.contains("as www.example.test for "),
                "{learned:?}"
            );
            c.0.stop();
            before.assert_same();
        }
    }

    /// Whether `check` lets it reach that address now, and for which name.
    #[track_caller]
    fn is_learned(c: &Client, address: &str, name: &str) -> bool {
        let target = format!("tcp:{address}:7777");
        let ran = cli::run(&["check", &c.0.id, "egress", &target]);
        let as_name = ran.out.contains(&format!("as {name} for "));
        assert_eq!(ran.code == 0, as_name, "{address}: {ran:?}");
        as_name
    }

    #[test]
    #[ignore = "needs the guest"]
    fn every_address_of_an_answer_is_learned() {
        host::start_clean();
        let _config = host::OtherConfig::with(RESOLVERS);
        let c = Client::start(named("many", 91, "tcp:**.example.test:7777"));
        let sixteen = c.dig(&["+short", "+noedns", "sixteen.example.test"]);
        assert_eq!(sixteen.lines().count(), 16, "{sixteen}");
        for address in sixteen.lines() {
            assert!(is_learned(&c, address, "sixteen.example.test"), "{address}");
        }
        // Somebody is at two of them.
        c.0.reaches("tcp", OUTSIDE, 7777);
        c.0.reaches("tcp", ELSEWHERE, 7777);
        let both = c.reaches("both.example.test", 7777, "4");
        assert_eq!(both.len(), 2, "{both:?}");
        // Truncated over UDP without EDNS, so by TCP.
        for (how, n) in [("+noedns", 99), ("+bufsize=4096", 104)] {
            let c = Client::start(named("big", n, "tcp:**.example.test:7777"));
            let big = c.dig(&["+short", how, "big.example.test"]);
            assert_eq!(big.lines().count(), 60, "{big}");
            for address in big.lines() {
                assert!(is_learned(&c, address, "big.example.test"), "{address}");
            }
            assert!(!is_learned(&c, "203.0.113.160", "big.example.test"));
        }
        // What leads to special places is not learned.
        c.dig(&["metadata.example.test"]);
        c.0.is_kept_from("metadata", "tcp", "169.254.169.254", 7777);
    }

    #[test]
    #[ignore = "needs the guest"]
    fn aliases_long_names_and_any_case() {
        host::start_clean();
        let _config = host::OtherConfig::with(RESOLVERS);
        // 250 bytes, and the longest labels.
        let label = "l".repeat(63);
        let long = format!("{label}.{label}.{label}.{}.example.test", "s".repeat(45));
        assert_eq!(long.len(), 250);
        let rules =
            ["cname", "chain", "Mixed", "loud"].map(|n| format!("tcp:{n}.example.test:7777"));
        let egress = format!("{} tcp:{long}:7777", rules.join(" "));
        let c = Client::start(named("forms", 86, &egress));
        // The names on the way are on no list, and need not be.
        for name in [
            "cname.example.test",
            "chain.example.test",
            "mIXED.eXAMPLE.tEST",
            "loud.example.test",
            &long,
            &long.to_uppercase(),
        ] {
            let echoes = [format!("{OUTSIDE} by name"), format!("{OUTSIDE_6} by name")];
            let reached = c.reaches(name, 7777, "any");
            assert_eq!(reached.len(), 2, "{name}: {reached:?}");
            assert!(
                echoes.iter().all(|e| reached.contains(e)),
                "{name}: {reached:?}"
            );
        }
        let nearly = format!("m{}", &long[1..]);
        for name in ["www.example.test", "1.chain.example.test", &nearly] {
            c.is_refused(name);
        }
    }

    /// Looks a name up and connects, so many times; prints each address that answered.
    const AGAIN: &str = r#"
import socket, sys
name, port, times = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for _ in range(times):
    for family, kind, proto, _, address in socket.getaddrinfo(name, port, 0, socket.SOCK_STREAM):
        with socket.create_connection(address[:2], 5) as sock:
            sock.sendall(b"again")
            assert sock.recv(100) == b"again"
            print(address[0])
"#;

    #[test]
    #[ignore = "needs the guest"]
    fn addresses_that_change_at_every_lookup_and_those_that_expire() {
        host::start_clean();
        let _config = host::OtherConfig::with(RESOLVERS);
        let rules = "tcp:turns.example.test:7777 tcp:other.example.test:7";
        let c = Client::start(named("turns", 87, rules));
        let learned = [format!("{ELSEWHERE} by name")];
        assert_eq!(c.reaches("other.example.test", 7, "4"), learned);
        let begun = Instant::now();
        c.0.open_tcp("lives", ELSEWHERE, 7).expect("learned");

        let ran = c.python(AGAIN, &["turns.example.test", "7777", "30"]);
        assert_eq!(ran["ok"], true, "{ran}");
        let out = ran["out"].as_str().expect("a text");
        assert_eq!(out.lines().count(), 60, "of both families each time: {out}");
        for address in [OUTSIDE, ELSEWHERE, OUTSIDE_6, ELSEWHERE_6] {
            let times = out.lines().filter(|l| *l == address).count();
            assert!(times >= 10, "{address} {times} times");
        }

        // The least that an address is learned for is a minute, whatever its TTL.
        c.0.reaches("tcp", ELSEWHERE, 7);
        std::thread::sleep(Duration::from_secs(62).saturating_sub(begun.elapsed()));
        assert_eq!(c.0.say("lives", "still"), Ok("still".into()));
        c.0.is_kept_from("no-rule", "tcp", ELSEWHERE, 7);
        assert_eq!(c.0.say("lives", "even now"), Ok("even now".into()));
        assert_eq!(c.reaches("other.example.test", 7, "4"), learned);
    }

    #[test]
    #[ignore = "needs the guest"]
    fn attackers_get_no_other_name_out() {
        host::start_clean();
        let _config = host::OtherConfig::with(RESOLVERS);
        let c = Client::start(named("attacker", 92, "tcp:www.example.test:7777 resolver"));
        let quiet = wire::cursor();
        for args in [
            &["@203.0.113.20", "www.example.test"][..],
            &["@203.0.113.10", "secret.evil.test"],
            &["@203.0.113.10", "+tcp", "secret.evil.test"],
            &["@203.0.113.10", "TXT", "www.example.test"],
            &["@203.0.113.10", "ANY", "www.example.test"],
            &["@203.0.113.10", "AXFR", "www.example.test"],
            &["@203.0.113.10", "NS", "."],
            &["@203.0.113.10", "+opcode=4", "www.example.test"],
            &["@203.0.113.10", "CH", "TXT", "version.bind"],
        ] {
            let said = c.dig(args);
            assert!(!said.contains("ANSWER SECTION"), "{args:?}: {said}");
        }
        // One system call, one packet for the program, twenty queries on the wire.
        let segments = r#"
import socket, struct
def query(name):
    return struct.pack("!6H", 7, 0x100, 1, 0, 0, 0) + b"".join(bytes([len(p)]) + p for p in name.split(b".")) + b"\0" + struct.pack("!2H", 1, 1)
good, evil = query(b"www.example.test"), query(b"xxx.evil-one.test"[:16])
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.IPPROTO_UDP, 103, len(good))
try:
    sock.sendto(good + evil * 19, ("203.0.113.10", 53))
except OSError as e:
    print(e)
"#;
        assert_eq!(c.python(segments, &[])["ok"], true);
        let frames = quiet.sent_by_guest();
        let evil = |data: &[u8]| {
            data.windows(4).any(|w| w == b"evil") || data.windows(6).any(|w| w == b"secret")
        };
        assert!(
            !frames.iter().any(|f| evil(&f.data)),
            "{:?}",
            wire::summaries(&frames)
        );
        let udp = frames
            .iter()
            .filter(|f| f.ethertype() == 0x0800 && f.data[23] == 17);
        assert_eq!(udp.count(), 0, "{:?}", wire::summaries(&frames));
    }

    #[test]
    #[ignore = "needs the guest"]
    fn rules_with_names_change_while_it_runs() {
        host::start_clean();
        let _config = host::OtherConfig::with(RESOLVERS);
        let c = Client::start(named("changes", 93, ""));
        c.0.is_kept_from("no-rule", "udp", OUTSIDE, 53);
        cli::run(&[
            "policy",
            "allow",
            &c.0.id,
            "egress",
            "tcp:www.example.test:7777",
        ])
        .success();
        assert_eq!(
            c.reaches("www.example.test", 7777, "4"),
            [format!("{OUTSIDE} by name")]
        );
        c.0.open_tcp("live", OUTSIDE, 7777).expect("learned");
        assert_eq!(c.0.say("live", "before"), Ok("before".into()));
        cli::run(&[
            "policy",
            "allow",
            &c.0.id,
            "egress",
            "tcp:other.example.test:7777",
        ])
        .success();
        assert_eq!(c.0.say("live", "still"), Ok("still".into()));
        cli::run(&[
            "policy",
            "revoke",
            &c.0.id,
            "egress",
            "tcp:www.example.test:7777",
        ])
        .success();
        let said =
            c.0.expect_drop("egress", "no-rule", || c.0.say("live", "after"));
        assert!(said.is_err(), "{said:?}");
        assert_eq!(
            c.reaches("other.example.test", 7777, "4"),
            [format!("{ELSEWHERE} by name")]
        );
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_trial_becomes_an_allowlist_of_names() {
        host::start_clean();
        let _config = host::OtherConfig::with(&format!("audit_allowed = true\n{RESOLVERS}"));
        let tried = Client::start(
            named("tried", 94, "")
                .with("mode", "audit")
                .with("name", "tried"),
        );
        tried.reaches("www.example.test", 7777, "4");
        tried.reaches("other.example.test", 7777, "6");
        drop(tried);
        host::eventually("it has ended", || cli::list().is_empty());
        let rules = cli::run(&["denied", "tried", "--as-rules", "--json"])
            .success()
            .json();
        let egress = rules["egress"].as_array().expect("rules").iter();
        let egress: Vec<&str> = egress.map(|r| r.as_str().expect("a rule")).collect();
        assert_eq!(
            egress,
            ["tcp:www.example.test:7777", "tcp:other.example.test:7777"],
            "{rules:#}"
        );
        let enforced = Client::start(named("enforced", 94, &egress.join(" ")));
        assert_eq!(
            enforced.reaches("www.example.test", 7777, "4"),
            [format!("{OUTSIDE} by name")]
        );
        enforced.is_refused("third.example.test");
    }

    /// The wire's name server, on the host itself.
    struct OnHost(Child);

    impl OnHost {
        fn start() -> Self {
            let server = Command::new("python3")
                .args(["/src/tests/vm/wire/dns", "53"])
                .stdout(Stdio::null())
                .spawn()
                .expect("start the server");
            let server = Self(server);
            let end = Instant::now() + Duration::from_secs(20);
            let ready = || {
                host::attempt(&[
                    "dig",
                    "+tries=1",
                    "+time=1",
                    "@192.0.2.2",
                    "www.example.test",
                ])
            };
            while !ready() {
                assert!(Instant::now() < end, "it does not answer");
            }
            server
        }
    }

    impl Drop for OnHost {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_resolver_on_the_host_or_masqueraded_serves_names_too() {
        host::start_clean();
        let server = OnHost::start();
        let config = host::OtherConfig::with(&format!("dns = {{ servers = [\"{HOST}\"] }}"));
        let c = Client::start(named("hosted", 95, "tcp:www.example.test:7777"));
        assert_eq!(
            c.reaches("www.example.test", 7777, "4"),
            [format!("{OUTSIDE} by name")]
        );
        c.is_refused("other.example.test");
        drop(c);
        drop(config);
        drop(server);
        let _config = host::OtherConfig::with(RESOLVERS);
        let c = Client::start(
            container::podman("masq")
                .address("10.77.0.5 fd77::5")
                .with("reach", "masquerade")
                .egress("tcp:www.example.test:7777"),
        );
        assert_eq!(
            c.reaches("www.example.test", 7777, "4"),
            [format!("{OUTSIDE} by name")]
        );
        assert_eq!(
            c.reaches("www.example.test", 7777, "6"),
            [format!("{OUTSIDE_6} by name")]
        );
        c.is_refused("other.example.test");
    }

    /// Its own rules judge, too: who is not let in there knows no names.
    #[test]
    #[ignore = "needs the guest"]
    fn a_resolver_in_another_container_serves_names_to_whom_it_lets_in() {
        host::start_clean();
        let server = named("resolver", 97, "")
            .ingress("udp:198.51.100.98:53 tcp:198.51.100.98:53")
            .start();
        let serve = "python3 /src/tests/vm/wire/dns 53 >/dev/null 2>&1 &";
        server.run(&["sh", "-c", serve]);
        host::eventually("it answers itself", || {
            let asked = json!({"op": "run", "argv": ["dig", "+tries=1", "+time=1", "+short",
                "@198.51.100.97", "www.example.test"]});
            server.ask(&asked)["out"].as_str() == Some("203.0.113.10\n")
        });
        let of_it = |name: &str, n: u8| {
            Client::start(
                container::podman(name)
                    .address(&format!("198.51.100.{n}"))
                    .with("dns", "198.51.100.97")
                    .egress("tcp:www.example.test:7777"),
            )
        };
        let let_in = of_it("asks", 98);
        assert_eq!(
            let_in.reaches("www.example.test", 7777, "4"),
            [format!("{OUTSIDE} by name")]
        );
        let_in.is_refused("other.example.test");
        let tcp = let_in.dig(&["+tcp", "+short", "-t", "A", "www.example.test"]);
        assert_eq!(tcp, format!("{OUTSIDE}\n"));
        let kept_out = of_it("kept", 99);
        let said = kept_out.dig(&["+short", "-t", "A", "www.example.test"]);
        assert!(said.contains("no servers could be reached"), "{said}");
        kept_out.0.is_kept_from("no-rule", "tcp", OUTSIDE, 7777);
    }

    #[test]
    #[ignore = "needs the guest"]
    fn resolv_conf_is_ours_unless_it_is_somebody_elses() {
        host::start_clean();
        let before = host::Snapshot::take();
        let _config = host::OtherConfig::with(RESOLVERS);
        let read = |spec: Spec| spec.start().read("/etc/resolv.conf");
        let ours = read(named("plain", 96, ""));
        assert_eq!(
            ours,
            "# by oci-netkit\nnameserver 203.0.113.10\nnameserver 2001:db8:f::10\n"
        );
        let asked = read(
            named("asked", 96, "")
                .with("dns", "203.0.113.20")
                .with("dns-search", "example.test lan"),
        );
        assert_eq!(
            asked,
            "# by oci-netkit\nsearch example.test lan\nnameserver 203.0.113.20\n"
        );
        let by_bundle = container::bundle("bundle").address("198.51.100.97");
        assert!(read(by_bundle).contains("nameserver 203.0.113.10"));
        std::fs::write("/tmp/theirs.conf", "nameserver 192.0.2.99\n").expect("write a file");
        let options = ["-v", "/tmp/theirs.conf:/etc/resolv.conf:ro"];
        let theirs = read(named("theirs", 96, "").podman_options(&options));
        assert_eq!(theirs, "nameserver 192.0.2.99\n");
        let read_only = read(named("readonly", 96, "").podman_options(&["--read-only"]));
        assert!(read_only.contains("nameserver 203.0.113.10"), "{read_only}");
        let c = named("fixed", 96, "").start();
        let said = c.ask(&json!({"op": "run", "argv": ["sh", "-c", "echo x > /etc/resolv.conf"]}));
        assert_eq!(said["ok"], false, "it is read-only: {said}");
        c.stop();
        host::eventually("all have ended", || cli::list().is_empty());
        before.assert_same();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        assert!(!mounts.contains("resolv"), "nothing on the host: {mounts}");
    }

    /// The guest's root once more, with changes of its own; gone when dropped.
    struct Image;

    impl Image {
        const DIR: &str = "/run/oci-netkit-tests/image";
        const ROOT: &str = "/run/oci-netkit-tests/image/root";

        /// Its resolv.conf is a link to there.
        fn with_link(target: &str) -> Self {
            let (dir, root) = (Self::DIR, Self::ROOT);
            let layers = format!("lowerdir=/,upperdir={dir}/upper,workdir={dir}/work");
            for command in [
                format!("mkdir -p {dir}"),
                format!("mount -t tmpfs tmpfs {dir}"),
                format!("mkdir {dir}/upper {dir}/work {root}"),
                format!("mount -t overlay overlay -o {layers} {root}"),
                format!("rm -f {root}/etc/resolv.conf"),
                format!("ln -s {target} {root}/etc/resolv.conf"),
            ] {
                host::run(&command.split(' ').collect::<Vec<_>>());
            }
            Self
        }
    }

    impl Drop for Image {
        fn drop(&mut self) {
            host::attempt(&["umount", "-R", Self::ROOT]);
            host::attempt(&["umount", "-R", Self::DIR]);
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_link_in_the_image_leads_nowhere_outside() {
        host::start_clean();
        let _config = host::OtherConfig::with(RESOLVERS);
        let victim = "/etc/hostname";
        let before = std::fs::read_to_string(victim).expect("the guest has a name");
        for (target, is_followed) in [
            ("/etc/hostname", true),
            ("../../../../../../etc/hostname", true),
            ("/proc/self/root/etc/hostname", false),
            ("/nowhere/at/all", false),
            ("/etc", false),
        ] {
            let _image = Image::with_link(target);
            let c = container::bundle("links")
                .address("198.51.100.98")
                .root(Image::ROOT)
                .start();
            let is_ours = c.read(victim).contains("# by oci-netkit");
            assert_eq!(is_ours, is_followed, "{target}");
            let now = std::fs::read_to_string(victim).expect("it is there");
            assert_eq!(now, before, "the host's own, by {target}");
            c.stop();
            host::eventually("it has ended", || cli::list().is_empty());
        }
    }
}
