//! The layers that touch the kernel, as far as one without netkit goes: programs, maps, tcx
//! links, namespaces, rtnetlink. Topology: `common/guest.rs`.

#![allow(clippy::unwrap_used, reason = "a failure is the test's")]
#![allow(
    unreachable_pub,
    reason = "what tests share is read beside them, not as an API"
)]

#[path = "common/guest.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod guest;

mod root {
    use std::time::Instant;

    use ipnet::IpNet;
    use oci_netkit::error::{ErrorList, Kind, Result};
    use oci_netkit::facts::HostFacts;
    use oci_netkit::inspect;
    use oci_netkit::kernel::bpf::{attach, load};
    use oci_netkit::kernel::bpffs::{self, Pins};
    use oci_netkit::kernel::host::{Host as _, RealHost};
    use oci_netkit::kernel::netlink::{Netlink, addr, devconf, link, route};
    use oci_netkit::kernel::netns::Netns;
    use oci_netkit::kernel::whole::Changes;
    use oci_netkit::kernel::{probe, sysctl, whole};
    use oci_netkit::plan::reconcile::Uplinks;
    use oci_netkit::plan::revise::PolicyWord;
    use oci_netkit::plan::step::{Ipv4Setting, MapSpec, NatSpec, RouteSpec, Side, Step, Undo};
    use oci_netkit::state::store::Store;
    use oci_netkit::types::claim::Claim;
    use oci_netkit::types::id::EndpointId;
    use oci_netkit::types::name::IfName;
    use oci_netkit::types::port::PortShare;
    use oci_netkit::types::rate::Rates;
    use oci_netkit::types::reach::Reach;
    use oci_netkit::types::record::EndpointRecord;

    use super::guest::{Container, Host, addresses, map_spec, minute, name, policy, run};

    fn loaded(host: &Host) -> Pins {
        let pins = Pins::new(&host.paths.bpffs_dir);
        load::load(&pins).unwrap();
        pins
    }

    /// How many links were updated and how many pins removed.
    fn replace_all(pins: &Pins) -> (usize, usize) {
        let mut errors = ErrorList::new();
        let done = attach::replace_all(pins, load::CURRENT, &mut errors);
        assert!(errors.is_empty(), "{errors:?}");
        (done.updated, done.unpinned)
    }

    #[test]
    #[ignore = "needs root"]
    fn machine_is_capable() {
        let host = Host::enter();
        let facts = probe::host_facts(&host.paths).unwrap();
        assert!(facts.btf.is_yes() && facts.bpffs.is_yes(), "{facts:?}");
        assert!(facts.privileges.is_yes(), "{facts:?}");
    }

    #[test]
    #[ignore = "needs root"]
    fn host_facts_name_devices_addresses_and_routes() {
        let host = Host::enter();
        let start = Instant::now();
        let facts = probe::host_facts(&host.paths).unwrap();
        println!("host_facts {:?}", start.elapsed());
        let up0 = facts.links.iter().find(|l| l.name == "up0").unwrap();
        assert_eq!(up0.kind.as_deref(), Some("veth"));
        assert_eq!(
            (up0.ifindex, up0.mtu_bytes, up0.up),
            (host.uplink.ifindex, 1500, true)
        );
        assert_eq!(up0.mac, Some(host.uplink.mac));
        assert!(up0.gso_max_bytes > 0 && up0.gro_max_bytes > 0);
        assert!(!up0.physical && !up0.loopback);
        assert!(facts.links.iter().any(|l| l.name == "lo" && l.loopback));
        let net = "192.0.2.2/24".parse().unwrap();
        assert!(
            facts
                .addresses
                .iter()
                .any(|a| a.net == net && a.ifindex == up0.ifindex)
        );
        let default = facts
            .routes
            .iter()
            .find(|r| r.destination.prefix_len() == 0)
            .unwrap();
        assert_eq!(default.gateway, Some("192.0.2.1".parse().unwrap()));
        assert_eq!(default.ifindex, Some(up0.ifindex));
        assert!(
            !facts
                .routes
                .iter()
                .any(|r| r.destination.addr().is_loopback()),
            "no local ones"
        );
    }

    /// In no order that matters.
    fn texts(all: &[impl std::fmt::Debug]) -> Vec<String> {
        let mut texts: Vec<String> = all.iter().map(|one| format!("{one:?}")).collect();
        texts.sort();
        texts
    }

    #[test]
    #[ignore = "needs root"]
    fn a_start_looks_at_the_devices_that_matter_to_it() {
        let host = Host::enter();
        run("mount -t sysfs sysfs /sys");
        run("ip link add plain type veth peer name named");
        let netlink = Netlink::open().unwrap();
        let facts = probe::host_facts_by(&netlink, &host.paths).unwrap();
        let look = |facts: &HostFacts, claims: &[Claim], named: &[IfName]| {
            let mut facts = facts.clone();
            probe::look_at_network(&netlink, &mut facts, claims, named).unwrap();
            facts
        };
        let names = |facts: &HostFacts| {
            let names = ["up0", "lo", "plain", "named"];
            names.map(|name| facts.links.iter().filter(|l| l.name == name).count())
        };
        // Those with an address or a route.
        assert_eq!(names(&look(&facts, &[], &[])), [1, 1, 0, 0]);
        let uplinks = [name("named"), name("up0"), name("absent")];
        assert_eq!(names(&look(&facts, &[], &uplinks)), [1, 1, 0, 1]);
        // Not those of an endpoint, nor the routes to its addresses.
        run("ip link set plain up");
        run("ip route add 192.0.2.7 dev plain");
        run("ip route add 192.0.2.8 dev plain");
        run("ip route add 2001:db8::7 dev plain");
        let facts = probe::host_facts_by(&netlink, &host.paths).unwrap();
        let plain = link::find(&netlink, "plain").unwrap().unwrap();
        let record = EndpointRecord {
            primary_ifindex: plain.ifindex,
            addresses: ["192.0.2.7/32", "2001:db8::7/128"]
                .map(|a| a.parse().unwrap())
                .to_vec(),
            ..Container::start().record(0)
        };
        let claim = Claim::from(&record);
        let leads_to = |facts: &HostFacts, text: &str| {
            let net: IpNet = text.parse().unwrap();
            facts.routes.iter().any(|r| r.destination == net)
        };
        let found = look(&facts, &[], &[]);
        assert_eq!(names(&found), [1, 1, 1, 0]);
        assert!(leads_to(&found, "192.0.2.7/32") && leads_to(&found, "192.0.2.8/32"));
        assert!(leads_to(&found, "2001:db8::7/128"));
        // Beside many endpoints few devices are asked for what they have, one by one.
        let many: Vec<Claim> = (0..100)
            .map(|id| {
                Claim::from(&EndpointRecord {
                    id: EndpointId(id),
                    ..record.clone()
                })
            })
            .collect();
        let sorted = |facts: HostFacts| {
            let mut links: Vec<String> = facts.links.into_iter().map(|l| l.name).collect();
            links.sort();
            (links, texts(&facts.addresses), texts(&facts.routes))
        };
        let [named, ..] = uplinks;
        let named = [named];
        let one_by_one = sorted(look(&facts, &many, &named));
        assert_eq!(one_by_one, sorted(look(&facts, &[], &named)));
        assert!(!one_by_one.1.is_empty() && !one_by_one.2.is_empty());
        assert!(addr::list_on(&netlink, u32::MAX >> 1).unwrap().is_empty());
        assert!(
            route::list_out_of(&netlink, u32::MAX >> 1)
                .unwrap()
                .is_empty()
        );
        // An address that has a route of somebody else's is another one's to avoid.
        let mut builder = RealHost::new(&host.paths, record.clone(), None);
        let error = builder
            .run(&Step::AddRoute {
                side: Side::Primary,
                route: RouteSpec {
                    destination: "192.0.2.8/32".parse().unwrap(),
                    source: None,
                },
            })
            .unwrap_err();
        assert_eq!(
            error.taken(),
            ["192.0.2.8".parse::<std::net::IpAddr>().unwrap()]
        );
        let claims = [claim];
        let found = look(&facts, &claims, &[]);
        assert_eq!(
            names(&found),
            [1, 1, 1, 0],
            "it has a route of somebody else's"
        );
        assert!(!leads_to(&found, "192.0.2.7/32") && leads_to(&found, "192.0.2.8/32"));
        assert!(!leads_to(&found, "2001:db8::7/128"));
        run("ip route del 192.0.2.8 dev plain");
        let facts = probe::host_facts_by(&netlink, &host.paths).unwrap();
        assert_eq!(names(&look(&facts, &claims, &[])), [1, 1, 0, 0]);
    }

    #[test]
    #[ignore = "needs root"]
    fn namespace_of_a_container_is_entered_and_left() {
        let host = Host::enter();
        let container = Container::start();
        let process = container.process();
        let start = Instant::now();
        let (netns, facts) = probe::namespace_facts(&process, &container.bundle).unwrap();
        println!("namespace_facts {:?}", start.elapsed());
        assert!(!facts.is_host && facts.links.is_empty() && !facts.has_user_namespace);
        assert!(facts.bypass_capabilities.is_empty() && !facts.network_comes_later);
        let own = Netns::own().unwrap();
        assert_ne!(own.cookie(), netns.cookie());
        assert!(own.is_own().unwrap());
        let seen = netns.run(|| Ok(Netns::own()?.cookie())).unwrap();
        assert_eq!(seen, netns.cookie());
        assert_eq!(
            Netns::own().unwrap().cookie(),
            own.cookie(),
            "this thread stayed"
        );
        let failed: Result<()> =
            netns.run(|| Err(oci_netkit::error::Error::new(Kind::Internal, "x")));
        assert!(failed.is_err());
        drop(container);
        assert_eq!(
            Netns::of_process(&process).unwrap_err().kind(),
            Kind::BadInput
        );
        assert_eq!(
            probe::namespace_facts(&process, host.paths.state_dir.as_path())
                .unwrap_err()
                .kind(),
            Kind::BadInput
        );
    }

    #[test]
    #[ignore = "needs root"]
    fn generation_is_loaded_once_and_reopened() {
        let host = Host::enter();
        let pins = loaded(&host);
        assert!(load::is_loaded(&pins));
        let start = Instant::now();
        let maps = load::open_maps(&pins).unwrap();
        println!("open maps {:?}", start.elapsed());
        assert_eq!(maps.policy(EndpointId(0)).unwrap(), PolicyWord::default());
        assert!(maps.counters(None).unwrap().is_some());
        let marks = maps.settings().unwrap();
        assert!(marks.mark_judged != 0 && marks.mark_reply != 0);
        assert_ne!(marks.mark_judged, marks.mark_reply);
        load::open_program(&pins, load::CURRENT, load::Program::FromWire).unwrap();

        // A second build with the same ABI takes the maps over.
        load::unload(&pins, load::CURRENT).unwrap();
        assert!(!load::is_loaded(&pins) && load::has_maps(&pins));
        let start = Instant::now();
        load::load(&pins).unwrap();
        println!("load with maps there {:?}", start.elapsed());
        assert_eq!(
            load::open_maps(&pins)
                .unwrap()
                .settings()
                .unwrap()
                .mark_judged,
            marks.mark_judged
        );
        let errors = whole::unload(&host.paths, &probe::boot_id().unwrap());
        assert!(errors.is_empty(), "{errors:?}");
        assert!(!host.paths.bpffs_dir.exists());
    }

    #[test]
    #[ignore = "needs root"]
    fn killed_loader_leaves_nothing_that_counts() {
        let host = Host::enter();
        let pins = Pins::new(&host.paths.bpffs_dir);
        bpffs::ensure_dir(&pins.base().join("new-programs")).unwrap();
        bpffs::ensure_dir(&pins.base().join("new-maps")).unwrap();
        assert!(!load::is_loaded(&pins) && !load::has_maps(&pins));
        load::load(&pins).unwrap();
        let names = bpffs::list(pins.base()).unwrap();
        assert_eq!(
            names,
            [
                format!("abi{}", load::ABI_VERSION),
                load::CURRENT.to_owned()
            ]
        );
    }

    #[test]
    #[ignore = "needs root"]
    fn maps_are_filled_and_cleared() {
        let host = Host::enter();
        let pins = loaded(&host);
        let maps = load::open_maps(&pins).unwrap();
        let id = EndpointId(7);
        let masquerading = MapSpec {
            nat: Some(NatSpec {
                share: PortShare {
                    first: 16384,
                    count: 512,
                },
                flows: 1024,
            }),
            ..map_spec(7)
        };
        let reached = addresses(7).map(|a| (a, Reach::Masquerade));
        for round in 0..3 {
            let start = Instant::now();
            maps.fill(&masquerading, 77, 2).unwrap();
            println!("{round}: fill {:?}", start.elapsed());
            assert_eq!(maps.policy(id).unwrap(), PolicyWord { epoch: 1, slot: 14 });
            let start = Instant::now();
            maps.fill_rules(15, &policy()).unwrap();
            maps.switch(id, PolicyWord { epoch: 2, slot: 15 }).unwrap();
            println!("{round}: replace policy {:?}", start.elapsed());
            assert_eq!(maps.policy(id).unwrap(), PolicyWord { epoch: 2, slot: 15 });
            let start = Instant::now();
            maps.publish(id, &reached, Rates::default(), 77, 2).unwrap();
            println!("{round}: publish {:?}", start.elapsed());
            let taken = maps
                .publish(EndpointId(8), &reached, Rates::default(), 78, 2)
                .unwrap_err();
            assert_eq!(taken.kind(), Kind::Conflict);
            maps.retract(EndpointId(8), &addresses(7)).unwrap();
            assert!(
                maps.publish(EndpointId(8), &reached, Rates::default(), 78, 2)
                    .is_err(),
                "still taken"
            );
            maps.retract(id, &addresses(7)).unwrap();
            let start = Instant::now();
            maps.clear(id).unwrap();
            println!("{round}: clear {:?}", start.elapsed());
            assert_eq!(maps.policy(id).unwrap(), PolicyWord::default());
            assert!(maps.counters(Some(id)).unwrap().is_none());
            maps.clear(id).unwrap();
            maps.retract(id, &addresses(7)).unwrap();
        }
        let closed = MapSpec {
            flows_in: None,
            ..map_spec(7)
        };
        maps.fill(&closed, 77, 2).unwrap();
        let without = maps.memory_bytes(id).unwrap();
        maps.ensure_inbound_flows(id, 2048).unwrap();
        let with = maps.memory_bytes(id).unwrap();
        assert!(with > without, "{with} {without}");
        maps.ensure_inbound_flows(id, 1 << 20).unwrap();
        assert_eq!(maps.memory_bytes(id).unwrap(), with, "the same table");
        maps.clear(id).unwrap();
        assert_eq!(maps.memory_bytes(id).unwrap(), 0);
        let mut bad = map_spec(7);
        bad.id = EndpointId(1 << 20);
        assert_eq!(maps.fill(&bad, 77, 2).unwrap_err().kind(), Kind::Internal);
    }

    #[test]
    #[ignore = "needs root"]
    fn large_policy_is_written_in_one_go() {
        let host = Host::enter();
        let pins = loaded(&host);
        let maps = load::open_maps(&pins).unwrap();
        let mut spec = map_spec(1);
        spec.policy = (0..100_000u32)
            .map(|n| {
                let mut entry = policy()[0];
                entry.data[..4].copy_from_slice(&n.to_be_bytes());
                entry
            })
            .collect();
        let start = Instant::now();
        maps.fill(&spec, 77, 2).unwrap();
        println!("fill 100000 rules {:?}", start.elapsed());
        maps.clear(EndpointId(1)).unwrap();
    }

    #[test]
    #[ignore = "needs root"]
    fn uplink_is_attached_once_replaced_and_removed() {
        let host = Host::enter();
        let pins = loaded(&host);
        let up0 = host.uplink.ifindex;
        assert!(attach::ensure_uplink(&pins, load::CURRENT, up0).unwrap());
        assert!(!attach::ensure_uplink(&pins, load::CURRENT, up0).unwrap());
        assert_eq!(attach::uplinks(&pins).unwrap(), [(up0, true)]);
        // The same build loaded anew is another program: it is swapped in.
        load::unload(&pins, load::CURRENT).unwrap();
        load::load(&pins).unwrap();
        assert!(!attach::ensure_uplink(&pins, load::CURRENT, up0).unwrap());
        assert_eq!(replace_all(&pins), (0, 0), "it runs already");
        attach::remove_uplink(&pins, up0).unwrap();
        attach::remove_uplink(&pins, up0).unwrap();
        assert!(
            attach::ensure_uplink(&pins, load::CURRENT, up0).unwrap(),
            "at once again"
        );
        // The device goes: the pin is stale, and its index may come back.
        run("ip link del up0");
        assert_eq!(attach::uplinks(&pins).unwrap(), [(up0, false)]);
        run(&format!("ip link add up1 index {up0} type bridge"));
        assert!(attach::ensure_uplink(&pins, load::CURRENT, up0).unwrap());
        assert_eq!(attach::uplinks(&pins).unwrap(), [(up0, true)]);
        run("ip link del up1");
        assert_eq!(replace_all(&pins), (0, 1));
        assert!(
            attach::uplinks(&pins).unwrap().is_empty(),
            "stale pin is gone"
        );
    }

    #[test]
    #[ignore = "needs root"]
    fn pins_of_another_abi_stop_a_create_only_while_somebody_needs_them() {
        let host = Host::enter();
        let pins = Pins::new(&host.paths.bpffs_dir);
        for left in [pins.maps(99), pins.generation("gen-of-another-version")] {
            bpffs::ensure_dir(&left).unwrap();
        }
        let (one, two) = (Container::start(), Container::start());
        let (running, record) = (one.record(6), two.record(7));
        let store = Store::open(&host.paths).unwrap();
        let lock = store.lock_ledger(&minute()).unwrap();
        store.reserve(&lock, &running).unwrap();
        let mut real = RealHost::new(&host.paths, record, Some(two.netns()));
        let error = real.run(&Step::EnsureGeneration).unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict);
        assert!(error.report().contains("stop these containers"), "{error}");
        let (changes, errors) = whole::reconcile(&host.paths, &Uplinks::default(), false);
        assert_eq!(changes, Changes::default());
        let error = errors.into_result(()).unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict);
        assert!(pins.maps(99).exists() && !load::has_maps(&pins));
        // With the last of them gone the way is free.
        store
            .remove(&lock, running.cookie, &running.boot_id)
            .unwrap();
        real.run(&Step::EnsureGeneration).unwrap();
        assert!(load::is_loaded(&pins) && pins.abis().unwrap() == [load::ABI_VERSION]);
        assert_eq!(pins.generations().unwrap(), [load::CURRENT]);
    }

    #[test]
    #[ignore = "needs root"]
    fn first_create_that_fails_unloads_and_a_later_one_does_not() {
        let host = Host::enter();
        let container = Container::start();
        let record = container.record(7);
        let mut real = RealHost::new(&host.paths, record.clone(), Some(container.netns()));
        let uplinks = Step::EnsureUplinks(vec![host.uplink.clone()]);
        for _ in 0..2 {
            real.run(&Step::EnsureGeneration).unwrap();
            real.run(&uplinks).unwrap();
            real.undo(&Undo::ReleaseUplinks).unwrap();
            real.undo(&Undo::ReleaseGeneration).unwrap();
            assert!(!host.paths.bpffs_dir.exists());
            assert!(!host.paths.state_dir.join("fresh.json").exists());
        }
        real.run(&Step::EnsureGeneration).unwrap();
        real.commit().unwrap();
        real.run(&uplinks).unwrap();
        real.undo(&Undo::ReleaseUplinks).unwrap();
        real.undo(&Undo::ReleaseGeneration).unwrap();
        let datapath = inspect::datapath(&host.paths).unwrap();
        assert!(
            datapath.loaded.len() == 1 && datapath.uplinks.is_empty(),
            "{datapath:?}"
        );
    }

    #[test]
    #[ignore = "needs root"]
    fn reservation_of_another_create_keeps_what_is_shared() {
        let host = Host::enter();
        let (one, two) = (Container::start(), Container::start());
        let mut real = RealHost::new(&host.paths, one.record(7), Some(one.netns()));
        real.run(&Step::EnsureGeneration).unwrap();
        real.run(&Step::EnsureUplinks(vec![host.uplink.clone()]))
            .unwrap();
        let store = Store::open(&host.paths).unwrap();
        let lock = store.lock_ledger(&super::guest::minute()).unwrap();
        store.reserve(&lock, &two.record(8)).unwrap();
        real.undo(&Undo::ReleaseUplinks).unwrap();
        real.undo(&Undo::ReleaseGeneration).unwrap();
        let datapath = inspect::datapath(&host.paths).unwrap();
        assert!(
            datapath.loaded.len() == 1 && datapath.uplinks.len() == 1,
            "{datapath:?}"
        );
        // The other fails too: nobody is left.
        let mut other = RealHost::new(&host.paths, two.record(8), Some(two.netns()));
        other.undo(&Undo::ReleaseUplinks).unwrap();
        other.undo(&Undo::ReleaseGeneration).unwrap();
        assert!(!host.paths.bpffs_dir.exists());
    }

    #[test]
    #[ignore = "needs root"]
    fn settings_are_made_inside_and_nowhere_else() {
        let _host = Host::enter();
        let container = Container::start();
        container.run("ip link add eth0 type bridge");
        run("ip link add eth0 type bridge");
        let netns = container.netns();
        let inside = Netlink::open_in(&netns).unwrap();
        let ifindex = link::find(&inside, "eth0").unwrap().unwrap().ifindex;
        let settings = [
            (Ipv4Setting::Forwarding, true),
            (Ipv4Setting::AcceptRedirects, false),
            (Ipv4Setting::SendRedirects, false),
        ];
        devconf::set(&inside, ifindex, &settings).unwrap();
        let settings = [("accept_ra", "0"), ("accept_redirects", "0")];
        sysctl::set_ipv6(Some(&netns), &name("eth0"), &settings).unwrap();
        let conf = |file| format!(" /proc/sys/net/{file}");
        let show = [
            "ipv4/conf/eth0/forwarding",
            "ipv4/conf/eth0/accept_redirects",
            "ipv4/conf/eth0/send_redirects",
            "ipv6/conf/eth0/accept_ra",
            "ipv6/conf/eth0/accept_redirects",
        ];
        let show = format!("cat{}", show.map(conf).concat());
        assert_eq!(container.run(&show), "1\n0\n0\n0\n0\n");
        assert_eq!(run(&show), "0\n1\n1\n1\n1\n");
        let refused = |device: &str, setting| {
            let error = sysctl::set_ipv6(None, &name(device), &[setting]).unwrap_err();
            assert_eq!(error.kind(), Kind::Kernel, "{error}");
            error.to_string()
        };
        assert!(refused("nosuch0", ("accept_ra", "0")).contains("ipv6/conf/nosuch0"));
        assert!(refused("eth0", ("addr_gen_mode", "9")).contains("conf/eth0/addr_gen_mode=9"));
        assert!(refused("eth0", ("nosuch", "1")).contains("conf/eth0/nosuch=1"));
        let settings = [(Ipv4Setting::Forwarding, true)];
        let error = devconf::set(&inside, 999, &settings).unwrap_err();
        assert_eq!(error.kind(), Kind::Kernel);
    }

    #[test]
    #[ignore = "needs root"]
    fn foreign_device_is_never_deleted_and_absence_is_success() {
        let _host = Host::enter();
        let netlink = Netlink::open().unwrap();
        run("ip link add onk1 type bridge");
        for foreign in ["onk1", "up0"] {
            link::delete_pair(&netlink, &name(foreign), |_| Ok(true)).unwrap();
            run(&format!("ip link show {foreign}"));
        }
        link::delete_pair(&netlink, &name("onk2"), |_| Ok(true)).unwrap();
        let before = run("ip -o link");
        link::has_netkit(&netlink).unwrap();
        assert_eq!(run("ip -o link"), before, "asking creates nothing");
    }
}
