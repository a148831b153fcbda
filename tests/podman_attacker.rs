//! A container with a raw socket, allowed to reach all of the outside, tries everything else. Each
//! frame is dropped under its own reason; none is on the wire, at the host or at another container.
//!
//! ```text
//!   attacker 198.51.100.70 ─┐
//!            2001:db8:2::70 ├── host 192.0.2.2 ── wire (captured)
//!   victim   198.51.100.71 ─┘     └── other0 172.31.0.1/24
//!            2001:db8:2::71
//! ```

mod rig;

mod guest {
    use crate::rig::attacks::{self, Attack, MARKER, OWN, OWN_6, RULES, VICTIM, VICTIM_6};
    use crate::rig::container::{self, Container, Shot, Spec};
    use crate::rig::frames::{self, Vnet};
    use crate::rig::{HOST, OUTSIDE, OUTSIDE_6, cli, host, wire};

    /// Victim, host and wire, watched while the attacker sends.
    struct Scene {
        _other: host::OtherNetwork,
        echo: host::Echo,
        victim: Container,
        attacker: Container,
    }

    impl Scene {
        fn new(attacker: Spec) -> Self {
            host::start_clean();
            let victim = container::bundle("victim")
                .address(&format!("{VICTIM} {VICTIM_6}"))
                .ingress("tcp:containers udp:containers icmp:containers tcp:host udp:host udp:any")
                .raw_socket()
                .start();
            victim.sniff("eth0");
            let attacker = attacker
                .address(&format!("{OWN} {OWN_6}"))
                .egress(RULES)
                .raw_socket()
                .start();
            Self {
                _other: host::OtherNetwork::new(),
                echo: host::Echo::new(7777),
                victim,
                attacker,
            }
        }

        /// All of them, and then a look at everybody who should not have noticed.
        fn withstands(&self, list: &[Attack]) {
            let quiet = wire::cursor();
            let mut wrong = Vec::new();
            let mut before = self.attacker.drops("egress");
            for attack in list {
                // A drop fails the system call, or does not: that is the kernel's matter.
                let sent = self.attacker.raw(&attack.shot);
                let after = self.attacker.drops("egress");
                let added = cli::added(&before, &after);
                if added != cli::only(attack.reason, attack.times) {
                    wrong.push(format!(
                        "{}: {added:?}, not {} ({sent:?})",
                        attack.what, attack.reason
                    ));
                }
                before = after;
            }
            assert_eq!(wrong, Vec::<String>::new());
            quiet.assert_silence();
            assert_eq!(self.victim.heard_frames(0.1), Vec::<Vec<u8>>::new());
            assert_eq!(self.echo.heard(), Vec::<String>::new());
        }
    }

    fn bundle() -> Scene {
        Scene::new(container::bundle("attacker"))
    }

    mod smoke {
        use super::*;

        #[test]
        #[ignore = "needs the guest"]
        fn a_raw_socket_of_podman_run_gets_nothing_past_the_rules() {
            let scene = Scene::new(container::podman("attacker"));
            let cursor = wire::cursor();
            for (what, shot) in attacks::honest() {
                scene
                    .attacker
                    .raw(&shot)
                    .unwrap_or_else(|e| panic!("{what}: {e}"));
            }
            let arrived = cursor.sent_by_guest();
            assert_eq!(
                arrived.len(),
                attacks::honest().len(),
                "{:?}",
                wire::summaries(&arrived)
            );
            // One of each kind; the other tests have all of them.
            let some: Vec<Attack> = [
                attacks::spoofed(),
                attacks::link_layer(),
                attacks::ip_headers(),
                attacks::malformed(),
                attacks::places(),
                attacks::protocols(),
                attacks::offloads(),
            ]
            .iter()
            .flat_map(|list| list.iter().step_by(5).cloned())
            .collect();
            scene.withstands(&some);
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn honest_raw_frames_arrive_with_the_hosts_mac() {
        let scene = bundle();
        for (what, shot) in attacks::honest() {
            let cursor = wire::cursor();
            scene
                .attacker
                .raw(&shot)
                .unwrap_or_else(|e| panic!("{what}: {e}"));
            let arrived = cursor.wait_for(MARKER);
            assert_eq!(arrived.len(), 1, "{what}");
            assert_eq!(arrived[0].source_mac(), wire::GUEST_MAC, "{what}");
            assert_eq!(wire::hex(&arrived[0].data[..6]), wire::WIRE_MAC, "{what}");
            // All but the Ethernet addresses and a filled-in checksum is as it was sent.
            assert_eq!(arrived[0].data.len(), shot.frame.len(), "{what}");
            assert_eq!(arrived[0].data[12..34], shot.frame[12..34], "{what}");
        }
        assert_eq!(scene.attacker.drops("egress"), cli::Drops::new());
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_spoofed_source_is_dropped_as_spoofed() {
        bundle().withstands(&attacks::spoofed());
    }

    #[test]
    #[ignore = "needs the guest"]
    fn tags_other_ethertypes_and_lies_about_them_are_dropped() {
        bundle().withstands(&attacks::link_layer());
    }

    #[test]
    #[ignore = "needs the guest"]
    fn fragments_options_and_extension_headers_are_dropped() {
        bundle().withstands(&attacks::ip_headers());
    }

    #[test]
    #[ignore = "needs the guest"]
    fn truncated_and_lying_headers_are_dropped_as_malformed() {
        bundle().withstands(&attacks::malformed());
    }

    #[test]
    #[ignore = "needs the guest"]
    fn places_that_no_rule_names_are_not_reached() {
        bundle().withstands(&attacks::places());
    }

    #[test]
    #[ignore = "needs the guest"]
    fn tunnels_and_steering_or_forged_icmp_are_dropped() {
        let scene = bundle();
        scene.withstands(&attacks::protocols());
        scene.withstands(&attacks::flows());
    }

    #[test]
    #[ignore = "needs the guest"]
    fn lies_in_the_offload_header_are_dropped() {
        let scene = bundle();
        scene.withstands(&attacks::offloads());
        // Honest segmentation works: the lie is what was dropped.
        let data = [MARKER.as_bytes(), &[b'x'; 4000]].concat();
        let datagram = frames::udp(OWN, OUTSIDE, 40000, attacks::QUIET, &data);
        let frame = frames::ip_frame(OWN, OUTSIDE, frames::UDP, datagram);
        let vnet = Vnet {
            gso_type: Vnet::UDP_L4,
            gso_size: 1000,
            header_length: 42,
            ..Vnet::checksum(34, 6)
        };
        let cursor = wire::cursor();
        scene
            .attacker
            .raw(&Shot::new(frame).vnet(vnet))
            .expect("sent");
        assert!(!cursor.wait_for(MARKER).is_empty());
    }

    /// SO_MARK needs no more than NET_RAW: even the right mark proves nothing.
    #[test]
    #[ignore = "needs the guest"]
    fn a_stolen_mark_opens_nothing() {
        let scene = bundle();
        let text = host::run(&["bpftool", "--json", "map", "dump", "name", "nk_settings"]);
        let dump: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let mut marks = Vec::new();
        find_numbers(&dump, "mark_judged", &mut marks);
        find_numbers(&dump, "mark_reply", &mut marks);
        marks.dedup();
        assert!(marks.len() >= 2 && !marks.contains(&0), "{dump}");
        let list: Vec<Attack> = marks
            .iter()
            .flat_map(|mark| {
                let mut list = vec![
                    Attack {
                        what: format!("to the victim with mark {mark:#x}"),
                        reason: "containers",
                        times: 1,
                        shot: Shot::new(frames::udp_frame(OWN, VICTIM, 7777, MARKER)),
                    },
                    Attack {
                        what: format!("from the host with mark {mark:#x}"),
                        reason: "spoofed-source",
                        times: 1,
                        shot: Shot::new(frames::udp_frame(HOST, VICTIM, 7777, MARKER)),
                    },
                    Attack {
                        what: format!("to the host with mark {mark:#x}"),
                        reason: "host",
                        times: 1,
                        shot: Shot::new(frames::udp_frame(OWN, HOST, 7777, MARKER)),
                    },
                ];
                for attack in &mut list {
                    attack.shot.mark = *mark;
                }
                list
            })
            .collect();
        scene.withstands(&list);
    }

    fn find_numbers(value: &serde_json::Value, key: &str, found: &mut Vec<u32>) {
        match value {
            serde_json::Value::Object(map) => {
                if let Some(n) = map.get(key).and_then(serde_json::Value::as_u64) {
                    found.push(u32::try_from(n).expect("a mark"));
                }
                map.values().for_each(|v| find_numbers(v, key, found));
            }
            serde_json::Value::Array(list) => list.iter().for_each(|v| find_numbers(v, key, found)),
            _ => {}
        }
    }

    /// In a user namespace of its own a container may manage its side of the pair.
    #[test]
    #[ignore = "needs the guest"]
    fn managing_its_own_device_helps_no_container() {
        let scene = Scene::new(
            container::bundle("manager")
                .user_namespace()
                .capability("NET_ADMIN"),
        );
        let c = &scene.attacker;
        c.reaches("udp", OUTSIDE, 7777);
        let quiet = wire::cursor();

        // The tag of a VLAN device travels beside the frame: all that is in it looks innocent.
        c.run(&[
            "ip", "link", "add", "link", "eth0", "name", "v100", "type", "vlan", "id", "100",
        ]);
        c.run(&[
            "ip",
            "link",
            "set",
            "v100",
            "address",
            "02:00:00:00:00:01",
            "addrgenmode",
            "none",
            "up",
        ]);
        let mut tagged = Shot::new(frames::udp_frame(OWN, OUTSIDE, 7777, MARKER));
        tagged.device = "v100".into();
        let _ = c.expect_drop("egress", "vlan", || c.raw(&tagged));
        // It would go on to join multicast groups, tagged.
        c.run(&["ip", "link", "del", "v100"]);

        // Larger than the path, in one piece.
        c.run(&["ip", "link", "set", "eth0", "mtu", "65535"]);
        for (own, outside) in [(OWN, OUTSIDE), (OWN_6, OUTSIDE_6)] {
            let large = "x".repeat(3000) + MARKER;
            let shot = Shot::new(frames::udp_frame(own, outside, 7777, &large));
            let _ = c.expect_drop("egress", "oversize", || c.raw(&shot));
            let jumbo = "x".repeat(60_000) + MARKER;
            let shot = Shot::new(frames::udp_frame(own, outside, 7777, &jumbo));
            let _ = c.expect_drop("egress", "oversize", || c.raw(&shot));
        }

        // Addresses it gives itself.
        c.run(&["ip", "addr", "add", "198.51.100.99/32", "dev", "eth0"]);
        c.run(&[
            "ip",
            "-6",
            "addr",
            "add",
            "2001:db8:2::99/128",
            "dev",
            "eth0",
            "nodad",
        ]);
        for (own, outside) in [("198.51.100.99", OUTSIDE), ("2001:db8:2::99", OUTSIDE_6)] {
            let _ = c.expect_drop("egress", "spoofed-source", || {
                c.tcp_from(own, outside, 7777, "spoofed")
            });
        }
        quiet.assert_silence();
        // Nor does it break anything for itself, or for the host.
        c.reaches("udp", OUTSIDE, 7777);
        assert!(host::ping("192.0.2.1"));
        // Gone is gone: closed, not open.
        c.run(&["ip", "link", "del", "eth0"]);
        assert_eq!(c.attempt("udp", OUTSIDE, 7777), Err("ENETUNREACH".into()));
    }
}
