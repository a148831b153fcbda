//! The benchmark itself, short: every row is there with a number in it, and ours were measured
//! through netkit. How large the numbers are is not asked here (`make bench`).

mod rig;

mod guest {
    use std::fs;

    use serde_json::Value;

    use crate::rig::{cli, host};

    struct Phase {
        name: &'static str,
        variants: &'static [&'static str],
        workloads: &'static [&'static str],
    }

    const OUTWARD: &[&str] = &["udp64-out", "udp1400-out", "tcp-out", "tcp-in"];
    const PHASES: [Phase; 3] = [
        Phase {
            name: "bare host",
            variants: &[
                "host",
                "netkit + redirect",
                "oci-netkit",
                "oci-netkit, masq.",
                "veth + redirect",
                "veth routed",
                "macvlan",
                "ipvlan l3",
            ],
            workloads: OUTWARD,
        },
        Phase {
            name: "host with conntrack",
            variants: &[
                "host",
                "oci-netkit",
                "oci-netkit, masq.",
                "veth + bridge + nft",
                "netavark",
            ],
            workloads: OUTWARD,
        },
        Phase {
            name: "published ports",
            variants: &["host", "oci-netkit, publish", "netavark, publish"],
            workloads: &["published-in", "published-out", "published-connections"],
        },
    ];
    const TOOLS: [&str; 4] = ["oci-netkit", "CNI ptp", "CNI bridge", "netavark"];

    fn array<'a>(value: &'a Value, key: &str) -> &'a [Value] {
        value[key].as_array().expect("a list")
    }

    /// The one entry in which all of these have these values.
    #[track_caller]
    fn only<'a>(entries: &'a [Value], wanted: &[(&str, &str)]) -> &'a Value {
        let mut found = entries
            .iter()
            .filter(|e| wanted.iter().all(|(key, value)| e[key] == *value));
        let one = found.next();
        assert!(one.is_some() && found.next().is_none(), "one of {wanted:?}");
        one.expect("just seen")
    }

    #[track_caller]
    fn assert_positive(row: &Value, keys: &[&str]) {
        for key in keys {
            assert!(row[key].as_f64().is_some_and(|v| v > 0.0), "{key} of {row}");
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_short_run_fills_every_row_and_takes_the_ways_it_names() {
        host::start_clean();
        let file = "/tmp/bench.json";
        let table = host::run(&[
            "/src/tests/bench/guest",
            "--binary",
            cli::BINARY,
            "--programs",
            "/opt/oci-netkit",
            "--rounds=1",
            "--setup-rounds=1",
            "--firsts=1",
            "--scale=0.03",
            "--json",
            file,
        ]);
        println!("{table}");
        let result: Value =
            serde_json::from_str(&fs::read_to_string(file).expect("read it")).expect("JSON");

        let rows = array(&result, "rows");
        let count = |p: &Phase| p.variants.len() * p.workloads.len();
        assert_eq!(rows.len(), PHASES.iter().map(count).sum::<usize>());
        for (phase, samples) in PHASES.iter().zip(array(&result, "phases")) {
            for (variant, workload) in phase
                .variants
                .iter()
                .flat_map(|v| phase.workloads.iter().map(move |w| (*v, *w)))
            {
                let key = [("variant", variant), ("workload", workload)];
                let row = only(rows, &[key[0], key[1], ("phase", phase.name)]);
                assert_positive(row, &["median", "ratio_to_host", "ns_per_unit"]);
                let sample = &array(only(array(samples, "samples"), &key), "rounds")[0];
                assert_way(variant, workload, sample);
            }
        }
        let setup = array(&result, "setup_rows");
        assert_eq!(setup.len(), 3 * TOOLS.len());
        for tool in TOOLS {
            for action in ["first_add", "add", "delete"] {
                let row = only(setup, &[("tool", tool), ("action", action)]);
                assert_positive(row, &["median", "ratio_of_ours"]);
            }
        }
        assert!(cli::list().is_empty());
    }

    /// Behind a container's device, no less was counted than arrived; at ours by our programs.
    #[track_caller]
    fn assert_way(variant: &str, workload: &str, sample: &Value) {
        assert_positive(sample, &["units"]);
        if variant == "host" {
            assert!(sample["counted"].is_null(), "{sample}");
        } else if workload.starts_with("udp") {
            let arrived = sample["units"].as_u64().expect("packets");
            let counted = sample["counted"].as_u64().expect("packets");
            assert!(counted >= arrived, "{variant}: {sample}");
        } else {
            assert_positive(sample, &["counted"]);
        }
    }
}
