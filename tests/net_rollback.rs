//! Fails at every step, before and after it did its work: the host must be as it was before, and
//! the container without a network. Topology: `common/guest.rs`. With `OCI_NETKIT_HALF` before one
//! step and after the next in turn: another guest does it the other way round.

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
    use oci_netkit::apply::{self, Host};
    use oci_netkit::error::{Error, Kind, Result};
    use oci_netkit::inspect;
    use oci_netkit::kernel::host::RealHost;
    use oci_netkit::kernel::netlink::Netlink;
    use oci_netkit::plan::step::{Step, Undo};
    use oci_netkit::state::store::Store;
    use oci_netkit::types::record::EndpointRecord;

    use super::guest::{Container, Host as TestHost, minute, steps};
    use super::snapshot::Snapshot;

    /// When to fail.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum When {
        Before,
        After,
    }

    /// The real host, but step `at` fails.
    struct Failing {
        real: RealHost,
        next: usize,
        at: usize,
        when: When,
    }

    impl Host for Failing {
        fn run(&mut self, step: &Step) -> Result<()> {
            let fails = self.next == self.at;
            self.next += 1;
            if !(fails && self.when == When::Before) {
                self.real.run(step)?;
            }
            if fails {
                Err(Error::new(Kind::Kernel, "made to fail"))
            } else {
                Ok(())
            }
        }

        fn undo(&mut self, undo: &Undo) -> Result<()> {
            self.real.undo(undo)
        }

        fn commit(&mut self) -> Result<()> {
            self.real.commit()
        }

        fn record(&self) -> &EndpointRecord {
            self.real.record()
        }
    }

    fn fail(host: &TestHost, container: &Container, id: u32, at: usize, when: When) {
        let record = container.record(id);
        let store = Store::open(&host.paths).unwrap();
        let lock = store.lock_ledger(&minute()).unwrap();
        store.reserve(&lock, &record).unwrap();
        drop(lock);
        let real = RealHost::new(&host.paths, record.clone(), Some(container.netns()));
        let mut failing = Failing {
            real,
            next: 0,
            at,
            when,
        };
        let steps = steps(host, id, true);
        let lock = store.lock_endpoint(record.cookie, &minute()).unwrap();
        let error = apply::create_on(&mut failing, &host.paths, lock, &record, &steps, &minute());
        let error = error.unwrap_err().to_string();
        assert!(error.ends_with("made to fail"), "{at} {when:?}: {error}");
    }

    fn at_every_step(host: &TestHost, id: u32) {
        let count = steps(host, id, true).len();
        let half: Option<usize> = std::env::var("OCI_NETKIT_HALF")
            .ok()
            .map(|h| h.parse().unwrap());
        for at in 0..count {
            for (n, when) in [When::Before, When::After].into_iter().enumerate() {
                if half.is_some_and(|half| (at + n) % 2 != half) {
                    continue;
                }
                let container = Container::start();
                let before = Snapshot::take(&host.paths);
                fail(host, &container, id, at, when);
                before.assert_restored(&host.paths, &format!("failed {when:?} step {at}"));
                let links = container.run("ip -o link");
                assert_eq!(links.lines().count(), 1, "{at} {when:?}: {links}");
                // Its own `lo` may be up by then, which is as far as it gets.
                let routes = container.run("ip route show table all");
                let away = routes.lines().find(|r| !r.contains(" dev lo "));
                assert_eq!(away, None, "{at} {when:?}");
            }
        }
    }

    #[test]
    #[ignore = "needs root and a kernel with netkit"]
    fn failed_first_create_leaves_the_host_as_it_was() {
        let host = TestHost::enter();
        at_every_step(&host, 7);
    }

    #[test]
    #[ignore = "needs root and a kernel with netkit"]
    fn failed_second_create_leaves_the_first_endpoint_whole() {
        let host = TestHost::enter();
        let first = Container::start();
        let record = first.record(9);
        let store = Store::open(&host.paths).unwrap();
        let lock = store.lock_ledger(&minute()).unwrap();
        store.reserve(&lock, &record).unwrap();
        drop(lock);
        let made = apply::create(
            &host.paths,
            store.lock_endpoint(record.cookie, &minute()).unwrap(),
            &record,
            &steps(&host, 9, false),
            first.netns(),
            Netlink::open().expect("a socket"),
            &minute(),
        );
        let made = made.unwrap();
        at_every_step(&host, 7);
        let views = inspect::endpoints(&host.paths, &made.boot_id).unwrap();
        assert!(views.len() == 1 && views[0].is_whole(), "{views:?}");
    }
}
