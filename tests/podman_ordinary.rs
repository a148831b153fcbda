//! An ordinary machine: one address, by DHCP, and no config of ours at all.
//!
//! ```text
//!   container (10.87.128.0/17, fd…::/64) ══ guest 192.0.2.100, then .101 ── wire: udhcpd, servers
//! ```

mod rig;

mod guest {
    use std::time::{Duration, Instant};

    use serde_json::json;

    use crate::rig::probe::seen_as;
    use crate::rig::{OUTSIDE, WIRE, cli, container, host, wire};

    /// What udhcpc calls with its news.
    const SCRIPT: &str = r#"#!/bin/sh
case $1 in
deconfig) ip -4 addr flush dev "$interface" ;;
bound | renew)
	ip addr replace "$ip/$mask" dev "$interface"
	ip route replace default via "$router" dev "$interface"
	;;
esac
"#;

    const SERVER: &str = r"
set -e
killall -q udhcpd || true
rm -f /tmp/udhcpd.leases
cat >/tmp/udhcpd.conf <<END
start $1
end $1
interface tap0
max_leases 1
lease_file /tmp/udhcpd.leases
pidfile /tmp/udhcpd.pid
option subnet 255.255.255.0
option router 192.0.2.1
option lease 3600
END
: >/tmp/udhcpd.leases
ln -sf /usr/bin/busybox /tmp/udhcpd
exec /tmp/udhcpd /tmp/udhcpd.conf
";

    /// The guest as most machines are; as it was when dropped.
    struct Ordinary {
        _config: host::OtherConfig,
    }

    impl Ordinary {
        fn new() -> Self {
            std::fs::write("/run/udhcpc.script", SCRIPT).expect("write the script");
            host::run(&["chmod", "+x", "/run/udhcpc.script"]);
            Self {
                _config: host::OtherConfig::none(),
            }
        }

        /// The wire gives this address to who asks, and the guest asks.
        fn lease(address: &str) {
            wire::exec(&["sh", "-c", SERVER, "server", address]).success();
            host::run(&["ip", "-4", "addr", "flush", "dev", "eth0"]);
            host::run(&[
                "busybox",
                "udhcpc",
                "-i",
                "eth0",
                "-n",
                "-q",
                "-f",
                "-s",
                "/run/udhcpc.script",
            ]);
            let now = host::run(&["ip", "-4", "addr", "show", "dev", "eth0"]);
            assert!(now.contains(&format!("inet {address}/24")), "{now}");
        }
    }

    impl Drop for Ordinary {
        fn drop(&mut self) {
            for command in [
                "ip -4 addr flush dev eth0",
                "ip addr add 192.0.2.2/24 dev eth0",
                "ip route replace default via 192.0.2.1 dev eth0",
            ] {
                host::attempt(&command.split(' ').collect::<Vec<_>>());
            }
            wire::exec(&["killall", "-q", "udhcpd"]);
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_container_with_nothing_but_rules_uses_the_one_address_there_is() {
        host::start_clean();
        let _machine = Ordinary::new();
        Ordinary::lease("192.0.2.100");
        let c = container::podman("ordinary")
            .address("auto")
            .egress("tcp:any udp:any icmp:any")
            .ingress("tcp:any:7777 tcp:host:7777")
            .with("publish", "8080:7777")
            .start();
        assert_eq!(
            cli::show(&c.id)["reach"],
            json!(["masquerade", "masquerade"])
        );
        c.listen("tcp", 7777);
        for to in [OUTSIDE, WIRE] {
            for protocol in ["tcp", "udp", "icmp"] {
                c.reaches(protocol, to, 7777);
            }
        }
        assert_eq!(seen_as(&c, OUTSIDE), "192.0.2.100");
        assert_eq!(
            wire::ask("tcp", "192.0.2.100", 8080, "wire"),
            Ok("wire".into())
        );
        for own in ["192.0.2.100", "127.0.0.1"] {
            assert_eq!(
                host::ask("tcp", own, 8080, "host"),
                Ok("host".into()),
                "{own}"
            );
        }

        // The server gives the guest another address: nothing is started anew.
        let flow = json!({
            "op": "udp", "to": OUTSIDE, "port": 7777, "source_port": 5555, "timeout": 0.3,
        });
        assert_eq!(c.ask(&flow)["ok"], true);
        Ordinary::lease("192.0.2.101");
        let begun = Instant::now();
        while c.ask(&flow)["ok"] != true {
            assert!(begun.elapsed() < Duration::from_secs(5), "the flow is lost");
        }
        assert_eq!(seen_as(&c, OUTSIDE), "192.0.2.101");
        assert_eq!(
            wire::ask("tcp", "192.0.2.101", 8080, "wire"),
            Ok("wire".into())
        );
        // What the host itself asks of a new address, it asks of the container from now on.
        cli::run(&["reconcile"]).success();
        assert_eq!(
            host::ask("tcp", "192.0.2.101", 8080, "host"),
            Ok("host".into())
        );
    }
}
