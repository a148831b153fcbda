//! Uplinks and what is behind them change while containers run: flows go on by themselves, with no run
//! of the hook, as fast as the host's own or within two seconds.
//!
//! ```text
//!   container ══ guest ── eth0 ── wire: 203.0.113.10, 2001:db8:f::10
//!                  └───── up9 ─── far9, in a namespace of its own, which has the same addresses
//! ```

mod rig;

mod guest {
    use std::io::Read as _;
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use serde_json::json;

    use crate::rig::container::{self, Container};
    use crate::rig::probe::seen_as;
    use crate::rig::second::{self, SecondNetwork, sh};
    use crate::rig::{HOST, HOST_6, OUTSIDE, OUTSIDE_6, host, say};

    const UPLINKS: &str = "uplinks = [\"eth0\", \"up9\"]";
    const SERVERS: [&str; 2] = [OUTSIDE, OUTSIDE_6];
    const PRIVATE: [&str; 2] = ["10.99.0.7", "fd99::7"];
    const ROUTED: [&str; 2] = ["198.51.100.107", "2001:db8:2::107"];

    /// What DESIGN promises where the host itself learns of the change at once.
    const PROMISE: Duration = Duration::from_secs(2);
    /// A machine that emulates another one is slow at times.
    const SLACK: Duration = Duration::from_secs(1);

    /// Says whom it hears, from the address that was asked.
    const SERVER: &str = r#"
import select, socket
socks = []
for family, address in (socket.AF_INET, "203.0.113.10"), (socket.AF_INET6, "2001:db8:f::10"):
    socks.append(socket.socket(family, socket.SOCK_DGRAM))
    socks[-1].bind((address, 7777))
print("listens", flush=True)
while True:
    for sock in select.select(socks, [], [])[0]:
        data, peer = sock.recvfrom(2048)
        sock.sendto(f"second hears {peer[0]}".encode(), peer)
"#;

    /// The second network as a second way to the servers; gone when dropped, like the routes there. The
    /// guest's own default route, which no other could be preferred to, has a metric meanwhile.
    struct SecondWire {
        server: Child,
        _network: SecondNetwork,
    }

    impl SecondWire {
        fn new() -> Self {
            let network = SecondNetwork::new();
            sh("ip route del default dev eth0
                ip route add default via 192.0.2.1 dev eth0 metric 100
                ip -n second addr add 203.0.113.10/32 dev lo
                ip -n second addr add 2001:db8:f::10/128 dev lo nodad");
            let mut server = Command::new("nsenter")
                .args(["--net=/run/netns/second", "python3", "-c", SERVER])
                .stdout(Stdio::piped())
                .spawn()
                .expect("start the server");
            let mut word = [0; 7];
            let out = server.stdout.as_mut().expect("piped");
            out.read_exact(&mut word).expect("it listens");
            Self {
                server,
                _network: network,
            }
        }

        /// The host's default routes lead there.
        fn route() {
            for (family, gateway) in ["-4", "-6"].iter().zip(second::MACHINE) {
                host::run(&[
                    "ip", family, "route", "replace", "default", "via", gateway, "dev", "up9",
                    "metric", "5",
                ]);
            }
        }

        fn unroute() {
            for family in ["-4", "-6"] {
                host::attempt(&["ip", family, "route", "del", "default", "dev", "up9"]);
            }
        }
    }

    impl Drop for SecondWire {
        fn drop(&mut self) {
            Self::unroute();
            let _ = self.server.kill();
            let _ = self.server.wait();
            for command in [
                "ip route replace default via 192.0.2.1 dev eth0",
                "ip route del default dev eth0 metric 100",
            ] {
                host::attempt(&command.split(' ').collect::<Vec<_>>());
            }
        }
    }

    fn start(name: &str, addresses: [&str; 2]) -> Container {
        let spec = container::podman(name).address(&addresses.join(" "));
        spec.egress("any:any").start()
    }

    /// One datagram of one and the same flow, and its answer.
    fn asks(c: &Container, family: usize) -> Option<String> {
        let answer = c.ask(&json!({
            "op": "udp", "to": SERVERS[family], "port": 7777, "source_port": 5555, "timeout": 0.1,
        }));
        answer["reply"].as_str().map(str::to_owned)
    }

    /// Until the flow is answered so.
    #[track_caller]
    fn recovers(what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
        let begun = Instant::now();
        while !is_so() {
            assert!(begun.elapsed() < Duration::from_secs(90), "{what}: never");
        }
        say(&format!("{what}: {:.1} s", begun.elapsed().as_secs_f64()));
        begun.elapsed()
    }

    #[track_caller]
    fn soon(what: &str, is_so: impl FnMut() -> bool) {
        let time = recovers(what, is_so);
        assert!(time < PROMISE + SLACK, "{what}: {time:?}");
    }

    #[test]
    #[ignore = "needs the guest"]
    fn flows_follow_the_default_route_to_another_uplink_and_back() {
        host::start_clean();
        let _wire = SecondWire::new();
        let _config = host::OtherConfig::with(UPLINKS);
        let private = start("private", PRIVATE);
        let routed = start("routed", ROUTED);
        let all = [(&private, second::HOST), (&routed, ROUTED)];
        for family in [0, 1] {
            for (c, _) in all {
                assert_eq!(asks(c, family).as_deref(), Some("ping"));
            }
        }
        SecondWire::route();
        for (family, (c, source)) in [0, 1].iter().flat_map(|f| all.map(|c| (*f, c))) {
            let wanted = format!("second hears {}", source[family]);
            soon(&format!("to the second uplink, {}", source[family]), || {
                asks(c, family).is_some_and(|reply| reply == wanted)
            });
        }
        SecondWire::unroute();
        for (family, (c, source)) in [0, 1].iter().flat_map(|f| all.map(|c| (*f, c))) {
            soon(&format!("and back, {}", source[family]), || {
                asks(c, family).is_some_and(|reply| reply == "ping")
            });
        }
        for (to, source) in [(OUTSIDE, HOST), (OUTSIDE_6, HOST_6)] {
            assert_eq!(seen_as(&private, to), source);
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn an_uplink_that_goes_down_and_comes_up_carries_flows_again() {
        host::start_clean();
        let _wire = SecondWire::new();
        let _config = host::OtherConfig::with(UPLINKS);
        SecondWire::route();
        let c = start("private", PRIVATE);
        let wanted = |family: usize| Some(format!("second hears {}", second::HOST[family]));
        for family in [0, 1] {
            recovers("before", || asks(&c, family) == wanted(family));
        }
        host::run(&["ip", "link", "set", "up9", "down"]);
        // Without the uplink its routes are gone, and the other default route counts.
        for family in [0, 1] {
            soon("while it is down", || {
                asks(&c, family).as_deref() == Some("ping")
            });
        }
        host::run(&["ip", "link", "set", "up9", "up"]);
        // The kernel has forgotten the IPv6 addresses too.
        sh("ip addr replace 2001:db8:9::1/64 dev up9 nodad");
        SecondWire::route();
        for family in [0, 1] {
            soon("after it came up", || asks(&c, family) == wanted(family));
        }
    }

    /// The gateway gets another MAC.
    fn change_mac(mac: &str, announces: bool) {
        let notify = u8::from(announces);
        sh(&format!(
            "ip netns exec second sysctl -qw net.ipv4.conf.far9.arp_notify={notify}
             ip netns exec second sysctl -qw net.ipv6.conf.far9.ndisc_notify={notify}
             ip -n second link set far9 address {mac}"
        ));
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_gateway_that_announces_its_new_mac_is_followed_at_once() {
        host::start_clean();
        let _wire = SecondWire::new();
        let _config = host::OtherConfig::with(UPLINKS);
        SecondWire::route();
        let c = start("private", PRIVATE);
        for family in [0, 1] {
            recovers("before", || asks(&c, family).is_some());
        }
        change_mac("02:00:00:00:09:77", true);
        for family in [0, 1] {
            soon("a new MAC, announced", || asks(&c, family).is_some());
        }
    }

    /// One datagram of the host's own.
    fn host_asks(family: usize) -> bool {
        host::ask("udp", SERVERS[family], 7777, "ping").is_ok()
    }

    /// Nobody says anything: the kernel has to find out (neighbour unreachability detection, RFC 4861,
    /// 7.3), which takes it 5 s of doubt and 3 s of questions. Containers' packets let it find out as
    /// the host's do.
    #[test]
    #[ignore = "needs the guest"]
    fn a_gateway_with_a_new_mac_is_found_as_soon_as_the_host_finds_it() {
        host::start_clean();
        let _wire = SecondWire::new();
        let _config = host::OtherConfig::with(UPLINKS);
        SecondWire::route();
        // Else it believes for up to 45 s that all is well, and so does the host.
        sh("sysctl -qw net.ipv4.neigh.up9.base_reachable_time_ms=1000
            sysctl -qw net.ipv6.neigh.up9.base_reachable_time_ms=1000");
        let c = start("private", PRIVATE);
        for (family, mac) in [(0, "02:00:00:00:09:88"), (1, "02:00:00:00:09:99")] {
            recovers("before", || asks(&c, family).is_some());
            change_mac(mac, false);
            let container = recovers("a new MAC, the container", || asks(&c, family).is_some());
            assert!(container < Duration::from_secs(15), "{container:?}");
            recovers("the host then", || host_asks(family));

            change_mac("02:00:00:00:09:66", false);
            let own = recovers("a new MAC, the host", || host_asks(family));
            assert!(
                container < own + PROMISE + SLACK,
                "{container:?}, the host {own:?}"
            );
            recovers("the container then", || asks(&c, family).is_some());
        }
    }
}
