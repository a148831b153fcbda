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

    const PHASES: [Phase; 5] = [
        Phase {
            name: "bare host",
            variants: &[
                "host",
                "netkit + redirect",
                "oci-netkit",
                "oci-netkit, masq.",
                "veth routed",
            ],
            workloads: &[
                "udp64-out",
                "udp1400-out",
                "udp64-in",
                "tcp-out",
                "tcp-in",
                "tcp-rr",
                "tcp-crr",
            ],
        },
        Phase {
            name: "beside containers",
            variants: &["host", "host, an empty program", "host, with a container"],
            workloads: &["udp64-out", "udp64-in", "tcp-in"],
        },
        Phase {
            name: "long lists",
            variants: &["1 rule", "100,000 rules"],
            workloads: &["udp64-out"],
        },
        Phase {
            name: "host with conntrack",
            variants: &["host", "oci-netkit", "oci-netkit, masq.", "netavark"],
            workloads: &["udp64-out", "udp1400-out", "tcp-out", "tcp-in"],
        },
        Phase {
            name: "published ports",
            variants: &["host", "oci-netkit, publish", "netavark, publish"],
            workloads: &["published-in", "published-out", "published-connections"],
        },
    ];
    /// What only the whole benchmark has.
    const MORE: [Phase; 2] = [
        Phase {
            name: "bare host",
            variants: &[
                "host",
                "oci-netkit",
                "veth + redirect",
                "veth routed",
                "macvlan",
                "ipvlan l3",
            ],
            workloads: &["udp512-out", "udp1400-in", "tcp8-out", "tcp8-in", "udp-rr"],
        },
        Phase {
            name: "between containers",
            variants: &[
                "host",
                "oci-netkit",
                "veth routed",
                "macvlan",
                "ipvlan l3",
                "veth + bridge + nft",
                "netavark",
            ],
            workloads: &["udp64-between", "tcp-between", "tcp-rr-between"],
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

    /// What a program of the benchmark found, by its JSON.
    fn found(program: &str, args: &[&str]) -> Value {
        host::start_clean();
        let program = format!("/src/tests/bench/{program}");
        let file = "/tmp/bench.json";
        let common = [
            &program,
            "--binary",
            cli::BINARY,
            "--programs",
            "/opt/oci-netkit",
            "--rounds=1",
            "--json",
            file,
        ];
        println!("{}", host::run(&[&common[..], args].concat()));
        assert!(cli::list().is_empty());
        serde_json::from_str(&fs::read_to_string(file).expect("read it")).expect("JSON")
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_short_run_fills_every_row_and_takes_the_ways_it_names() {
        let result = found("guest", &["--setup-rounds=1", "--firsts=1", "--scale=0.03"]);
        assert_rows(&result, &PHASES);
        let setup = array(&result, "setup_rows");
        assert_eq!(setup.len(), 3 * TOOLS.len());
        for tool in TOOLS {
            for action in ["first_add", "add", "delete"] {
                let row = only(setup, &[("tool", tool), ("action", action)]);
                assert_positive(row, &["median", "ratio_of_ours"]);
            }
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn what_the_whole_benchmark_has_besides_takes_its_ways_too() {
        let named = |option: &str, names: Vec<&str>| -> Vec<String> {
            names.iter().map(|n| format!("--{option}={n}")).collect()
        };
        let args = [
            named("phase", MORE.iter().map(|p| p.name).collect()),
            named(
                "variant",
                MORE.iter().flat_map(|p| p.variants).copied().collect(),
            ),
            named(
                "workload",
                MORE.iter().flat_map(|p| p.workloads).copied().collect(),
            ),
            vec!["--scale=0.01".to_owned()],
        ]
        .concat();
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        assert_rows(&found("guest", &args), &MORE);
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_short_run_tells_the_hooks_time_by_its_parts_and_beside_the_tools() {
        host::start_clean();
        cli::run(&["unload"]).success();
        let before = host::Snapshot::take();
        let file = "/tmp/bench-hook.json";
        let told = host::run(&[
            "/src/tests/bench/hook_times",
            "--binary",
            cli::BINARY,
            "--rounds=1",
            "--firsts=1",
            "--containers=3",
            "--edge=1",
            "--at-once",
            "2",
            "--json",
            file,
        ]);
        println!("{told}");
        before.assert_same();
        let result: Value =
            serde_json::from_str(&fs::read_to_string(file).expect("read it")).expect("JSON");
        for (stage, parts) in [
            (
                "create",
                &[
                    "plan",
                    "create netkit pair",
                    "attach from_container, to_container",
                ][..],
            ),
            (
                "poststop",
                &["detach the container's programs", "delete netkit pair"],
            ),
        ] {
            let stage = &result["parts"][stage];
            assert_positive(stage, &["whole"]);
            assert_positive(&stage["parts"], parts);
            assert_positive(&stage["parts"], &["start and end of the process"]);
        }
        assert_positive(&result, &["tables_mib"]);
        for tool in TOOLS {
            assert_positive(
                &result["tools"][tool],
                &[
                    "first_ms",
                    "last_ms",
                    "last_to_first",
                    "removal_ms",
                    "afterwards_ms",
                ],
            );
            let together = &array(&result["at_once"], tool)[0];
            assert_positive(together, &["ms"]);
            assert_eq!(together["failed"], 0, "{tool}: {together}");
        }
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_redirected_packet_takes_no_further_softirq_and_one_of_veth_does() {
        let result = found("passes", &["--scale=0.05"]);
        let rows = array(&result, "rows");
        let enqueued = |variant, workload| {
            let row = only(rows, &[("variant", variant), ("workload", workload)]);
            row["netif_rx"]["median"].as_f64().expect("a number")
        };
        for way in ["udp64-out", "udp64-in"] {
            for variant in [
                "host",
                "netkit + redirect",
                "oci-netkit",
                "oci-netkit, masq.",
            ] {
                let count = enqueued(variant, way);
                assert!(count < 0.2, "{variant}, {way}: {count}");
            }
            for variant in ["veth routed", "veth + bridge + nft", "netavark"] {
                let count = enqueued(variant, way);
                assert!(count > 0.8, "{variant}, {way}: {count}");
            }
        }
        let between = enqueued("oci-netkit", "udp64-between");
        assert!(between < 1.2, "{between}");
    }

    #[track_caller]
    fn assert_rows(result: &Value, phases: &[Phase]) {
        let rows = array(result, "rows");
        let count = |p: &Phase| p.variants.len() * p.workloads.len();
        assert_eq!(rows.len(), phases.iter().map(count).sum::<usize>());
        for (phase, samples) in phases.iter().zip(array(result, "phases")) {
            for (variant, workload) in phase
                .variants
                .iter()
                .flat_map(|v| phase.workloads.iter().map(move |w| (*v, *w)))
            {
                let key = [("variant", variant), ("workload", workload)];
                let row = only(rows, &[key[0], key[1], ("phase", phase.name)]);
                assert_positive(row, &["median", "ratio", "ns_per_unit"]);
                let sample = &array(only(array(samples, "samples"), &key), "rounds")[0];
                assert_way(variant, workload, sample);
            }
        }
    }

    /// Behind a container's device, no less was counted than arrived; at ours by our programs.
    #[track_caller]
    fn assert_way(variant: &str, workload: &str, sample: &Value) {
        assert_positive(sample, &["units"]);
        if variant.starts_with("host") {
            assert!(sample["counted"].is_null(), "{sample}");
        } else if workload.starts_with("udp") && workload.ends_with("-out") {
            let arrived = sample["units"].as_u64().expect("packets");
            let counted = sample["counted"].as_u64().expect("packets");
            assert!(counted >= arrived, "{variant}: {sample}");
        } else {
            assert_positive(sample, &["counted"]);
        }
    }
}
