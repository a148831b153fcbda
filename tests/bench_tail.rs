//! The tail latency benchmark itself, short: every cell is there, its answers took its way, and none
//! was lost unseen. How long they took is not asked here (`make bench-tail`).

mod rig;

mod guest {
    use std::fs;

    use serde_json::Value;

    use crate::rig::{cli, host};

    const WAYS: [&str; 8] = [
        "host",
        "oci-netkit",
        "oci-netkit, publish",
        "veth + redirect",
        "veth routed",
        "netavark",
        "macvlan",
        "ipvlan l3",
    ];
    /// Requests per second and copy: what an emulator on a busy machine answers as well.
    const RATE: f64 = 20.0;
    const COPIES: u8 = 2;
    const SECONDS: f64 = 1.0;

    fn array<'a>(value: &'a Value, key: &str) -> &'a [Value] {
        value[key].as_array().expect("a list")
    }

    /// The one entry of a way.
    #[track_caller]
    fn only<'a>(entries: &'a [Value], way: &str) -> &'a Value {
        let mut found = entries.iter().filter(|e| e["way"] == way);
        let one = found.next();
        assert!(one.is_some() && found.next().is_none(), "one of {way}");
        one.expect("just seen")
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_short_run_fills_every_cell_by_its_way_and_accounts_for_every_request() {
        host::start_clean();
        let report = host::run(&[
            "/src/tests/bench/tail/guest",
            "--binary",
            cli::BINARY,
            "--programs=/opt/oci-netkit",
            "--rounds=1",
            &format!("--copies={COPIES}"),
            "--rates=1",
            "--overload=0",
            &format!("--saturation={RATE}"),
            &format!("--seconds={SECONDS}"),
            "--out=/tmp",
        ]);
        println!("{report}");
        let result: Value =
            serde_json::from_str(&fs::read_to_string("/tmp/tail.json").expect("read it"))
                .expect("JSON");
        let (rows, samples) = (array(&result, "rows"), array(&result, "samples"));
        assert_eq!((rows.len(), samples.len()), (WAYS.len(), WAYS.len()));
        for way in WAYS {
            let row = only(rows, way);
            assert!(row["p99"].as_f64().is_some_and(|ms| ms > 0.0), "{row}");
            assert_complete(way, only(samples, way));
        }
        assert!(cli::list().is_empty());
    }

    /// Every scheduled request is done or told as lost, and no less packets passed than answers came.
    #[track_caller]
    fn assert_complete(way: &str, sample: &Value) {
        let number = |value: &Value| value.as_u64().expect("a number");
        let done = number(&sample["result"]["done"]);
        let lost = number(&sample["result"]["lost"]);
        assert!(done > 0, "{sample}");
        let told = f64::from(u32::try_from(done + lost).expect("few"));
        let scheduled = RATE * SECONDS * f64::from(COPIES);
        // One at each end of the measured time may be on the other side of it.
        assert!(
            (told - scheduled).abs() <= 2.0,
            "{told} of {scheduled}: {sample}"
        );
        if way == "host" {
            assert!(sample["passed"]["packets"].is_null(), "{sample}");
        } else {
            assert!(number(&sample["passed"]["packets"]) >= done, "{sample}");
        }
    }
}
