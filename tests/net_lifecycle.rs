//! An endpoint from nothing to nothing on a kernel with netkit: what is created, what it looks
//! like, what is left. Topology: `common/guest.rs`.

#![allow(clippy::unwrap_used, reason = "a failure is the test's")]
#![allow(
    unreachable_pub,
    reason = "what tests share is read beside them, not as an API"
)]

#[path = "common/guest.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod guest;
#[path = "common/snapshot.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod snapshot;

mod root {
    use std::time::Instant;

    use oci_netkit::apply;
    use oci_netkit::error::{Kind, Result};
    use oci_netkit::inspect;
    use oci_netkit::kernel::host::{Host as _, RealHost};
    use oci_netkit::kernel::netlink::Netlink;
    use oci_netkit::kernel::probe;
    use oci_netkit::plan::step::{Step, Undo};
    use oci_netkit::state::store::Store;
    use oci_netkit::types::record::EndpointRecord;

    use super::guest::{Container, Host, addresses, minute, name, run, steps};
    use super::snapshot::Snapshot;

    /// What a teardown of an endpoint takes back, as plan/teardown.rs lists it.
    fn undos(record: &EndpointRecord) -> Vec<Undo> {
        vec![
            Undo::RetractAddresses {
                id: record.id,
                addresses: record.addresses.iter().map(ipnet::IpNet::addr).collect(),
            },
            Undo::DetachPrograms {
                cookie: record.cookie,
            },
            Undo::ClearMaps { id: record.id },
            Undo::DeletePair {
                primary: record.primary.clone(),
            },
            Undo::ReleaseUplinks,
        ]
    }

    fn create(host: &Host, container: &Container, id: u32, guard: bool) -> Result<EndpointRecord> {
        let mut record = container.record(id);
        record.guard = guard;
        let store = Store::open(&host.paths)?;
        let lock = store.lock_ledger(&minute())?;
        store.reserve(&lock, &record)?;
        drop(lock);
        apply::create(
            &host.paths,
            store.lock_endpoint(record.cookie, &minute())?,
            &record,
            &steps(host, id, guard),
            container.netns(),
            Netlink::open().expect("a socket"),
            &minute(),
        )
    }

    #[test]
    #[ignore = "needs root and a kernel with netkit"]
    fn machine_is_capable() {
        let host = Host::enter();
        let facts = probe::host_facts(&host.paths).unwrap();
        assert!(facts.netkit.is_yes(), "{:?}", facts.netkit);
        assert!(
            facts.btf.is_yes() && facts.bpffs.is_yes() && facts.privileges.is_yes(),
            "{facts:?}"
        );
    }

    #[test]
    #[ignore = "needs root and a kernel with netkit"]
    fn endpoint_stands_as_planned_and_leaves_only_programs() {
        let host = Host::enter();
        let before = Snapshot::take(&host.paths);
        let container = Container::start();
        let record = create(&host, &container, 7, true).unwrap();

        let views = inspect::endpoints(&host.paths, &record.boot_id).unwrap();
        assert_eq!(views.len(), 1);
        assert!(views[0].is_whole(), "{views:?}");
        assert_eq!(views[0].alive, [true]);
        assert_eq!(
            views[0].attached,
            ["from_container", "to_container", "guard"]
        );
        assert!(
            inspect::counters(&host.paths, Some(record.id))
                .unwrap()
                .unwrap()
                .drops
                .is_empty()
        );
        let datapath = inspect::datapath(&host.paths).unwrap();
        assert_eq!(datapath.loaded.first(), Some(&datapath.current));
        assert_eq!(datapath.uplinks.len(), 1);
        assert!(datapath.uplinks[0].attached);

        let inside = container.run("ip -d addr show eth0");
        for wanted in ["mtu 1400", "198.51.100.7/32", "2001:db8:2::7/128", "UP"] {
            assert!(inside.contains(wanted), "{wanted} in {inside}");
        }
        assert!(!inside.contains("fe80"), "{inside}");
        assert!(
            container
                .run("ip route")
                .contains("default dev eth0 proto static scope link")
        );
        assert!(container.run("ip -6 route").contains("default dev eth0"));
        assert!(run("ip route").contains("198.51.100.7 dev onk7"));
        assert!(run("ip -6 route").contains("2001:db8:2::7 dev onk7"));
        assert_eq!(
            run("cat /proc/sys/net/ipv4/conf/onk7/forwarding").trim(),
            "1"
        );

        let errors = apply::destroy(&host.paths, &record, &undos(&record), &minute());
        assert!(errors.is_empty(), "{errors:?}");
        let datapath = inspect::datapath(&host.paths).unwrap();
        assert_eq!(datapath.loaded.len(), 1, "programs stay warm");
        assert!(
            datapath.uplinks.is_empty() && datapath.pinned.is_empty(),
            "{datapath:?}"
        );
        let errors = oci_netkit::kernel::whole::unload(&host.paths, &probe::boot_id().unwrap());
        assert!(errors.is_empty(), "{errors:?}");
        drop(container);
        before.assert_restored(&host.paths, "after unload");
    }

    #[test]
    #[ignore = "needs root and a kernel with netkit"]
    fn second_endpoint_keeps_the_uplink_until_it_goes() {
        let host = Host::enter();
        let (one, two) = (Container::start(), Container::start());
        let first = create(&host, &one, 7, false).unwrap();
        let second = create(&host, &two, 8, false).unwrap();
        assert!(apply::destroy(&host.paths, &first, &undos(&first), &minute()).is_empty());
        assert_eq!(inspect::datapath(&host.paths).unwrap().uplinks.len(), 1);
        let views = inspect::endpoints(&host.paths, &second.boot_id).unwrap();
        assert!(views.len() == 1 && views[0].is_whole(), "{views:?}");
        assert!(apply::destroy(&host.paths, &second, &undos(&second), &minute()).is_empty());
        assert!(inspect::datapath(&host.paths).unwrap().uplinks.is_empty());
    }

    #[test]
    #[ignore = "needs root and a kernel with netkit"]
    fn endpoint_of_a_dead_namespace_is_taken_down() {
        let host = Host::enter();
        let before = Snapshot::take(&host.paths);
        let container = Container::start();
        let record = create(&host, &container, 7, false).unwrap();
        drop(container);
        let views = inspect::endpoints(&host.paths, &record.boot_id).unwrap();
        assert_eq!(views[0].alive, [false]);
        let start = Instant::now();
        let errors = apply::destroy(&host.paths, &record, &undos(&record), &minute());
        println!("destroy after death: {:?}", start.elapsed());
        assert!(errors.is_empty(), "{errors:?}");
        assert!(
            apply::destroy(&host.paths, &record, &undos(&record), &minute()).is_empty(),
            "twice"
        );
        assert!(
            oci_netkit::kernel::whole::unload(&host.paths, &probe::boot_id().unwrap()).is_empty()
        );
        before.assert_restored(&host.paths, "after death");
    }

    #[test]
    #[ignore = "needs root and a kernel with netkit"]
    fn taken_names_are_conflicts_and_foreign_devices_are_never_deleted() {
        let host = Host::enter();
        let container = Container::start();
        run("ip link add onk7 type bridge");
        let error = create(&host, &container, 7, false).unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict, "{error}");
        assert!(run("ip link show onk7").contains("onk7"));
        run("ip link del onk7");
        let neighbour = Container::start();
        let other = create(&host, &neighbour, 8, false).unwrap();
        let mut theirs = steps(&host, 7, false);
        theirs.iter_mut().for_each(|step| {
            if let Step::CreatePair(spec) = step {
                spec.primary = other.primary.clone();
            }
        });
        let record = EndpointRecord {
            primary: other.primary.clone(),
            ..container.record(7)
        };
        let store = Store::open(&host.paths).unwrap();
        store
            .reserve(&store.lock_ledger(&minute()).unwrap(), &record)
            .unwrap();
        let made = apply::create(
            &host.paths,
            store.lock_endpoint(record.cookie, &minute()).unwrap(),
            &record,
            &theirs,
            container.netns(),
            Netlink::open().expect("a socket"),
            &minute(),
        );
        let error = made.unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict, "{error}");
        run("ip link show onk8");
        container.run("ip link add eth0 type bridge");
        let error = create(&host, &container, 7, false).unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict, "{error}");
        container.run("ip link del eth0");
        create(&host, &container, 7, false).unwrap();
    }

    #[test]
    #[ignore = "needs root and a kernel with netkit"]
    fn killed_hook_is_recovered_from_its_journal() {
        use oci_netkit::apply::journal::{FileJournal, Journal as _};
        let host = Host::enter();
        let before = Snapshot::take(&host.paths);
        let container = Container::start();
        let record = container.record(7);
        let store = Store::open(&host.paths).unwrap();
        let lock = store.lock_ledger(&minute()).unwrap();
        store.reserve(&lock, &record).unwrap();
        drop(lock);
        // As apply::create does, but nobody comes back after the last step.
        let path = store.view().journal_path(record.cookie);
        let mut journal = FileJournal::create(&path, &record).unwrap();
        let mut real = RealHost::new(&host.paths, record.clone(), Some(container.netns()));
        for step in steps(&host, 7, false) {
            if let Some(undo) = step.undo(&record) {
                journal.record(&undo).unwrap();
            }
            real.run(&step).unwrap();
        }
        drop((real, journal));
        let recovered = apply::recover(&host.paths, &record.boot_id, &minute()).unwrap();
        assert!(recovered.errors.is_empty(), "{:?}", recovered.errors);
        assert_eq!(recovered.endpoints.len(), 1);
        before.assert_restored(&host.paths, "after recovery");
    }

    #[test]
    #[ignore = "needs root and a kernel with netkit"]
    fn steps_take_this_long() {
        let host = Host::enter();
        for id in 7..13 {
            let container = Container::start();
            let record = container.record(id);
            let mut real = RealHost::new(&host.paths, record, Some(container.netns()));
            let mut line = String::new();
            let all = Instant::now();
            for step in steps(&host, id, false) {
                let start = Instant::now();
                real.run(&step).unwrap();
                let took = start.elapsed().as_micros();
                if took > 1000 || matches!(step, Step::CreatePair(_)) {
                    line += &format!(" | {} {}", step, took);
                }
            }
            println!("{id}: {} us{line}", all.elapsed().as_micros());
            let record = real.record().clone();
            let all = Instant::now();
            let mut line = String::new();
            for undo in undos(&record) {
                let start = Instant::now();
                real.undo(&undo).unwrap();
                line += &format!(" | {undo:?} {}", start.elapsed().as_micros());
            }
            println!("{id}: undo {} us{line}", all.elapsed().as_micros());
        }
        assert!(name("onk7").as_str().len() < 16 && addresses(7).len() == 2);
    }
}
