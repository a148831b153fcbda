//! What `address=auto` gives out, by the installed binary: the same again to the same name, what
//! was given back longest ago last, both families, without a config too, whatever became of the
//! files.

mod rig;

mod guest {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;
    use std::process::Child;

    use serde_json::Value;

    use crate::rig::hook::{
        Run, assert_as_before, come_and_go, create, create_with, poststop, warm_up,
    };
    use crate::rig::{cli, host};

    const LASTING: &str = "/var/lib/oci-netkit";
    const LEASES: &str = "/var/lib/oci-netkit/leases";

    /// Pools of 10.66.7.2 to .6 and fd66::1 to ::7, before those of the guest.
    const SMALL: &str = "[[pool]]\nprefix = \"10.66.7.0/29\"\nreach = \"routed\"\n\
                         [[pool]]\nprefix = \"fd66::/125\"\nreach = \"routed\"\n";

    /// Nobody had an address yet; the programs are loaded.
    fn start_new() {
        host::start_clean();
        warm_up();
        let _ = fs::remove_dir_all(LASTING);
    }

    /// A container that leases both families under a name; which is also the start of its id, that
    /// each start has one of its own.
    struct Leased {
        id: String,
        sleeper: host::Sleeper,
    }

    impl Leased {
        fn start(name: &str, count: usize) -> Self {
            let id = format!("{name}-{count}");
            let sleeper = host::Sleeper::new();
            create_with(&id, &[("address", "auto"), ("name", name)], &sleeper).whole();
            Self { id, sleeper }
        }

        fn addresses(&self) -> String {
            addresses(&self.id)
        }

        fn stop(self) -> String {
            let had = self.addresses();
            drop(self.sleeper);
            poststop(&self.id).whole();
            had
        }
    }

    fn addresses(id: &str) -> String {
        let shown = cli::run(&["show", id, "--json"]).success().json();
        let list = shown["addresses"].as_array().expect("addresses").clone();
        let texts = list.iter().map(|a| a.as_str().expect("a text"));
        texts.collect::<Vec<_>>().join(" ")
    }

    /// What is leased last and ends at once.
    fn given(name: &str, count: usize) -> String {
        Leased::start(name, count).stop()
    }

    fn both(n: u32) -> String {
        format!("10.66.7.{}/32 fd66::{n}/128", n + 1)
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_name_has_its_addresses_again_and_others_have_them_last() {
        start_new();
        let before = host::Snapshot::take();
        let _config = host::OtherConfig::with(SMALL);
        assert_eq!(given("web", 1), both(1));
        let db = Leased::start("db", 1);
        assert_eq!(db.addresses(), both(2));
        let web = Leased::start("web", 2);
        assert_eq!(web.addresses(), both(1));
        // Its container ends, and nobody calls poststop before it is started again.
        drop(web);
        let web = Leased::start("web", 3);
        assert_eq!(web.addresses(), both(1));
        db.stop();
        web.stop();
        // The kernel has forgotten all of it.
        cli::run(&["unload"]).success();
        assert!(!Path::new(host::STATE).exists());
        assert_eq!(given("web", 4), both(1));
        // db gave its addresses back before web did; three more of IPv4 are nobody's yet.
        for n in 3..=5 {
            assert_eq!(given(&format!("new{n}"), 1), both(n));
        }
        assert_eq!(given("late", 1), "10.66.7.3/32 fd66::6/128");
        assert_eq!(given("later", 1), "10.66.7.2/32 fd66::7/128");
        assert_eq!(given("new5", 2), both(5));
        // What is leased is nobody else's, though the pool has no other.
        let all: Vec<Leased> = (0..5)
            .map(|n| Leased::start(&format!("all{n}"), 1))
            .collect();
        let ipv4: BTreeSet<String> = all.iter().map(Leased::addresses).collect();
        assert_eq!(ipv4.len(), 5);
        assert!(ipv4.iter().all(|a| a.starts_with("10.66.7.")), "{ipv4:?}");
        // The next pool is the guest's.
        assert!(given("next", 1).starts_with("198.51.100."));
        all.into_iter().for_each(|c| drop(c.stop()));
        assert_as_before(&before, "leases of small pools");
    }

    /// The plan knows the routes that lead out of a device. One that leads nowhere is met when the
    /// container's own is added.
    #[test]
    #[ignore = "needs the guest"]
    fn an_address_with_a_route_of_somebody_elses_is_passed_over() {
        const ROUTES: [&str; 2] = ["10.66.7.2", "fd66::1"];
        start_new();
        let before = host::Snapshot::take();
        let _config = host::OtherConfig::with(SMALL);
        let change = |how| {
            for to in ROUTES {
                host::run(&["ip", "route", how, "blackhole", to]);
            }
        };
        change("add");
        let web = Leased::start("web", 1);
        assert_eq!(web.addresses(), "10.66.7.3/32 fd66::2/128");
        web.stop();
        // Who wants just that one is refused.
        let sleeper = host::Sleeper::new();
        let refused = create("static", ROUTES[0], &sleeper).ran();
        assert_ne!(refused.code, 0);
        for part in [
            "annotation io.oci-netkit.address",
            "there is another route for 10.66.7.2/32",
            "take another address",
        ] {
            assert!(refused.err.contains(part), "{refused:?}");
        }
        change("del");
        assert_as_before(&before, "addresses that have a route");
    }

    #[test]
    #[ignore = "needs the guest"]
    fn damage_of_the_leases_costs_no_start_and_gives_nothing_twice() {
        start_new();
        let _config = host::OtherConfig::with(SMALL);
        given("web", 1);
        let db = Leased::start("db", 1);
        assert_eq!(db.addresses(), both(2));
        let damages: [&dyn Fn(); 4] = [
            &|| fs::write(LEASES, [0xff; 4096]).expect("damage it"),
            &|| {
                let whole = fs::read(LEASES).expect("leases");
                fs::write(LEASES, &whole[..whole.len() - 5]).expect("cut it off");
            },
            &|| fs::remove_dir_all(LASTING).expect("remove it"),
            &|| {
                fs::remove_dir_all(LASTING).expect("remove it");
                fs::write(LASTING, "no directory").expect("be in the way");
            },
        ];
        for (n, damage) in damages.iter().enumerate() {
            damage();
            assert_eq!(given("one", n), both(1), "{n}");
            let one = Leased::start("one", 10 + n);
            let two = Leased::start("two", n);
            let list = [one.addresses(), two.addresses()];
            assert!(!list.contains(&db.addresses()), "{n}: {list:?}");
            assert_ne!(list[0], list[1], "{n}");
            one.stop();
            two.stop();
        }
        fs::remove_file(LASTING).expect("out of the way");
        db.stop();
    }

    #[test]
    #[ignore = "needs the guest"]
    fn twenty_at_once_lease_twenty_addresses() {
        start_new();
        let before = host::Snapshot::take();
        let sleepers: Vec<host::Sleeper> = (0..20).map(|_| host::Sleeper::new()).collect();
        let runs: Vec<Run> = sleepers
            .iter()
            .enumerate()
            .map(|(n, sleeper)| create(&format!("many{n}"), "auto", sleeper))
            .collect();
        let hooks: Vec<Child> = runs.iter().map(Run::begin).collect();
        for mut hook in hooks {
            assert!(hook.wait().expect("it ended").success());
        }
        let had: Vec<String> = (0..20).map(|n| addresses(&format!("many{n}"))).collect();
        let all: BTreeSet<&str> = had.iter().flat_map(|a| a.split(' ')).collect();
        assert_eq!(all.len(), 40, "{had:?}");
        drop(sleepers);
        cli::run(&["gc"]).success();
        assert_as_before(&before, "twenty at once");
        // Also those whose poststop nobody called.
        let again = host::Sleeper::new();
        create("many7", "auto", &again).whole();
        assert_eq!(addresses("many7"), had[7]);
        drop(again);
        poststop("many7").whole();
    }

    /// The guest without its config, for the length of a test.
    struct NoConfig(String);

    impl NoConfig {
        fn new() -> Self {
            let before = fs::read_to_string(host::CONFIG).expect("the guest has a config");
            fs::remove_file(host::CONFIG).expect("remove it");
            Self(before)
        }
    }

    impl Drop for NoConfig {
        fn drop(&mut self) {
            fs::write(host::CONFIG, &self.0).expect("restore the config");
        }
    }

    /// The prefix of an IPv6 address of the container.
    fn prefix(addresses: &str) -> String {
        let (v4, v6) = addresses.split_once(' ').expect("both families");
        assert!(v4.starts_with("10.87.128."), "{addresses}");
        let (prefix, rest) = v6.split_once("::").expect("a prefix and an end");
        assert!(prefix.starts_with("fd") && rest.ends_with("/128"), "{v6}");
        prefix.to_owned()
    }

    #[test]
    #[ignore = "needs the guest"]
    fn without_a_config_both_families_are_leased_of_prefixes_that_stay() {
        start_new();
        let _config = NoConfig::new();
        let sleeper = host::Sleeper::new();
        let run = create("web-0", "auto", &sleeper);
        let dry = cli::run_with(&["plan", "--json"], run.input.as_bytes())
            .success()
            .json();
        assert!(
            dry["warnings"].to_string().contains("is an example"),
            "{dry}"
        );
        assert!(!Path::new(LASTING).exists(), "a dry run keeps nothing");
        let web = Leased::start("web", 1);
        let shown = cli::run(&["show", "web", "--json"]).success().json();
        assert_eq!(
            shown["reach"],
            serde_json::json!(["masquerade", "masquerade"])
        );
        let kept: Value =
            serde_json::from_slice(&fs::read(format!("{LASTING}/ula.json")).expect("kept"))
                .expect("JSON");
        let first = web.stop();
        assert_eq!(kept, format!("{}::/64", prefix(&first)));
        assert_eq!(given("web", 2), first);
        cli::run(&["unload"]).success();
        assert_eq!(given("web", 3), first);
        let other = given("other", 1);
        assert_ne!(other, first);
        assert_eq!(prefix(&other), prefix(&first));
        let dry = cli::run_with(&["plan", "--json"], run.input.as_bytes())
            .success()
            .json();
        assert_eq!(dry["warnings"], serde_json::json!([]), "{dry}");
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_built_in_pool_that_the_host_routes_is_refused_to_who_wants_it_only() {
        start_new();
        let before = host::Snapshot::take();
        let _config = NoConfig::new();
        host::run(&["ip", "link", "add", "beside", "type", "dummy"]);
        host::run(&["ip", "link", "set", "beside", "up"]);
        host::run(&["ip", "route", "add", "10.87.0.0/16", "dev", "beside"]);
        let sleeper = host::Sleeper::new();
        let refused = create("wants", "auto", &sleeper).ran();
        assert_eq!(refused.code, cli::CONFIG, "{refused:?}");
        for text in [
            "10.87.128.0/17",
            "10.87.0.0/16 through beside",
            "pool = [{ prefix",
        ] {
            assert!(refused.err.contains(text), "{refused:?}");
        }
        assert!(!Path::new(LASTING).exists(), "a refusal keeps nothing");
        let keys = [("address", "198.51.100.83"), ("reach", "routed")];
        create_with("routed", &keys, &sleeper).whole();
        drop(sleeper);
        poststop("routed").whole();
        come_and_go("six", "auto6");
        host::run(&["ip", "link", "del", "beside"]);
        assert_as_before(&before, "an overlap");
    }
}
