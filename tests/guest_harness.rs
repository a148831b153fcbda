//! The tools of the guest tests themselves, without oci-netkit: a tool that does nothing would make
//! every "is dropped" come true.
//!
//! ```text
//!   container ── veth, nobody judges ── host ── wire
//! ```

mod rig;

mod guest {
    use crate::rig::{attacks, container, frames, host, wire};

    #[test]
    #[ignore = "needs the guest"]
    fn a_container_without_the_hook_has_no_network() {
        for spec in [
            container::bundle("bare").without_hook(),
            container::podman("bare"),
        ] {
            let c = spec.start();
            assert_eq!(c.devices(), "lo");
            assert_eq!(
                c.attempt("udp", "203.0.113.10", 7777),
                Err("ENETUNREACH".into())
            );
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn the_wire_shows_what_the_guest_sends_and_carries_what_it_is_given() {
        let quiet = wire::cursor();
        quiet.assert_silence();
        let echo = host::Echo::new(9001);
        let cursor = wire::cursor();
        let frame = frames::udp_frame("203.0.113.10", "192.0.2.2", 9001, "through the wire");
        wire::send(&[frames::addressed(&frame, wire::GUEST_MAC, wire::WIRE_MAC)]);
        assert_eq!(
            cursor.wait_for("through the wire").len(),
            1,
            "the echo's answer"
        );
        assert_eq!(echo.heard().len(), 1);
        assert_eq!(
            wire::ask("tcp", "192.0.2.2", 9001, "there"),
            Ok("there".into())
        );
        assert_eq!(
            wire::ask("udp", "192.0.2.2", 9001, "there"),
            Ok("there".into())
        );
        assert!(wire::ping("192.0.2.2") && wire::ping("2001:db8:1::2"));
        assert!(!wire::ping("192.0.2.77"));
    }

    /// Each of them gets out where nobody judges, so that it is the judgement that stops it elsewhere.
    #[test]
    #[ignore = "needs the guest"]
    fn every_attack_leaves_a_container_on_a_plain_veth() {
        let ns = host::Sleeper::new();
        let path = format!("/proc/{}/ns/net", ns.pid());
        host::attempt(&["ip", "link", "del", "plain0"]);
        let pid = ns.pid().to_string();
        host::run(&[
            "ip", "link", "add", "plain0", "type", "veth", "peer", "name", "eth0", "netns", &pid,
        ]);
        host::run(&["ip", "link", "set", "plain0", "up", "promisc", "on"]);
        ns.inside(&["ip", "link", "set", "eth0", "up"]);
        let c = container::bundle("plain")
            .without_hook()
            .raw_socket()
            .network(&path)
            .start();
        let tap = container::bundle("tap")
            .without_hook()
            .raw_socket()
            .network("host")
            .start();
        tap.sniff("plain0");
        let mut stuck = Vec::new();
        for (what, shot) in attacks::honest() {
            if let Err(error) = c.raw(&shot) {
                stuck.push(format!("{what}: {error}"));
            }
        }
        for attack in attacks::all() {
            if let Err(error) = c.raw(&attack.shot) {
                stuck.push(format!("{}: {error}", attack.what));
            }
        }
        assert_eq!(stuck, Vec::<String>::new());
        let seen = tap.heard_frames(1.0).len();
        let sent = attacks::honest().len() + attacks::all().len();
        assert!(seen >= sent, "{seen} of {sent}");
        host::attempt(&["ip", "link", "del", "plain0"]);
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_snapshot_sees_a_new_link_an_address_a_pin_and_a_sysctl() {
        let before = host::Snapshot::take();
        before.assert_same();
        let differs = |undo: &[&str]| {
            let now = host::Snapshot::take();
            assert_ne!(now, before);
            host::run(undo);
            before.assert_same();
        };
        host::run(&["ip", "link", "add", "new0", "type", "dummy"]);
        differs(&["ip", "link", "del", "new0"]);
        host::run(&["ip", "addr", "add", "192.0.2.3/32", "dev", "eth0"]);
        differs(&["ip", "addr", "del", "192.0.2.3/32", "dev", "eth0"]);
        host::run(&["sysctl", "-qw", "net.ipv4.conf.all.forwarding=1"]);
        differs(&["sysctl", "-qw", "net.ipv4.conf.all.forwarding=0"]);
        host::run(&["ip", "route", "add", "198.51.100.200/32", "dev", "eth0"]);
        differs(&["ip", "route", "del", "198.51.100.200/32", "dev", "eth0"]);
    }
}
