//! `rate-egress` and `rate-ingress`: what a container sends and receives is held to within five percent
//! of its rate, whatever way it takes, and no way leads around it.
//!
//! A rate counts frames with their headers, GSO ones as if they were cut.

mod rig;

mod guest {
    use std::time::Instant;

    use serde_json::Value;

    use crate::rig::container::{Answer, Container, Shot};
    use crate::rig::{OUTSIDE, OUTSIDE_6, WIRE, cli, container, frames, host, say};

    /// Of `rated`, bits per second. Far below what an emulated CPU manages that has both ends on it.
    const EGRESS: u32 = 4_000_000;
    const INGRESS: u32 = 8_000_000;
    const NEIGHBOUR: &str = "198.51.100.91";
    /// Of a frame, bytes.
    const ETHERNET: f64 = 14.0;
    const TCP_FRAME: f64 = 1500.0 + ETHERNET;
    const UDP_HEADERS: f64 = 8.0 + ETHERNET;
    const UDP_BYTES: f64 = 1200.0;

    /// Long enough that handshakes and a full bucket count for little.
    const SECONDS: u32 = 3;

    /// What a transfer over HTTP makes of a rate, in bits per second of full frames.
    #[track_caller]
    fn tcp(rate: u32, to: &str, transfer: impl Fn(u64) -> Answer) -> f64 {
        let bytes = rate / 8 * SECONDS;
        let start = Instant::now();
        let answer = transfer(bytes.into()).expect("an answer");
        let time = start.elapsed().as_secs_f64();
        assert!(answer.contains(&bytes.to_string()), "{answer}");
        // With time stamps, RFC 7323.
        let headers = if to.contains(':') { 40.0 } else { 20.0 } + 20.0 + 12.0;
        f64::from(bytes) * 8.0 / time * TCP_FRAME / (TCP_FRAME - ETHERNET - headers)
    }

    fn sends(c: &Container, rate: u32, to: &str, port: u16) {
        let measure = || tcp(rate, to, |bytes| c.upload(to, port, bytes));
        assert_is(&format!("TCP to {to}"), rate, measure);
    }

    fn receives(c: &Container, rate: u32, to: &str, port: u16) {
        let measure = || tcp(rate, to, |bytes| c.download(to, port, bytes));
        assert_is(&format!("TCP from {to}"), rate, measure);
    }

    /// As `tcp`, of datagrams that come three times too fast or more.
    #[track_caller]
    fn udp(c: &Container, options: &[&str]) -> f64 {
        let length = UDP_BYTES.to_string();
        let mut argv = vec!["iperf3", "--client", WIRE, "--json", "--time", "3"];
        // The bucket is full at first.
        argv.extend([
            "--omit",
            "1",
            "--udp",
            "--length",
            &length,
            "--bitrate",
            "24M",
        ]);
        argv.extend(options);
        let report: Value = serde_json::from_str(&c.run(&argv)).expect("JSON");
        let sum = &report["end"]["sum_received"];
        let number = |key: &str| sum[key].as_f64().unwrap_or_else(|| panic!("{report}"));
        let frame = UDP_BYTES + UDP_HEADERS + 20.0;
        number("bytes") * 8.0 / number("seconds") * frame / UDP_BYTES
    }

    /// Never more than the rate; a machine that is busy with something else may only once in a while
    /// come to less.
    #[track_caller]
    fn assert_is(what: &str, rate: u32, measure: impl Fn() -> f64) {
        let mut ratios = Vec::new();
        while ratios.len() < 5 && ratios.last().is_none_or(|r| *r < 0.95) {
            let ratio = measure() / f64::from(rate);
            say(&format!("{what}: {ratio:.3} of the rate"));
            assert!(ratio <= 1.05, "{what}: {ratio:.3}");
            ratios.push(ratio);
        }
        assert!(
            ratios.last().is_some_and(|r| *r >= 0.95),
            "{what}: {ratios:?}"
        );
    }

    fn rated(spec: container::Spec) -> Container {
        spec.with("rate-egress", "4M")
            .with("rate-ingress", "8M")
            .egress("tcp:any udp:any tcp:containers udp:containers")
            .start()
    }

    #[test]
    #[ignore = "needs the guest"]
    fn streams_and_datagrams_in_both_directions_are_within_five_percent() {
        host::start_clean();
        let c = rated(container::podman("rated").address("198.51.100.90 2001:db8:2::90"));
        let shown = cli::show(&c.id);
        assert_eq!(shown["rate_egress_bits_per_second"], EGRESS);
        assert_eq!(shown["rate_ingress_bits_per_second"], INGRESS);
        for to in [OUTSIDE, OUTSIDE_6] {
            sends(&c, EGRESS, to, 80);
            receives(&c, INGRESS, to, 80);
        }
        assert_is("UDP to the wire", EGRESS, || udp(&c, &[]));
        assert_is("UDP from the wire", INGRESS, || udp(&c, &["--reverse"]));
        // Queues hold back or drop; nothing honest meets the programs' own budget.
        assert!(
            !c.drops("egress").contains_key("rate"),
            "{:?}",
            c.drops("egress")
        );
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_masqueraded_container_and_one_beside_it_are_held_to_their_rates() {
        host::start_clean();
        let c = rated(container::podman("masked").address("10.99.0.7"));
        sends(&c, EGRESS, OUTSIDE, 80);
        receives(&c, INGRESS, OUTSIDE, 80);
        let server = container::bundle("server")
            .address(NEIGHBOUR)
            .with("rate-ingress", "2M")
            .ingress("containers:8080")
            .start();
        server.run(&[
            "sh",
            "-c",
            "python3 /src/tests/vm/wire/http 8080 >/dev/null 2>&1 &",
        ]);
        host::eventually("a server", || c.http(NEIGHBOUR, 8080, "/").is_ok());
        sends(&c, 2_000_000, NEIGHBOUR, 8080);
        receives(&c, INGRESS, NEIGHBOUR, 8080);
    }

    #[test]
    #[ignore = "needs the guest"]
    fn a_packet_socket_that_goes_around_the_queue_gains_nothing() {
        host::start_clean();
        let c = container::bundle("raw")
            .address("198.51.100.92")
            .with("rate-egress", "16k")
            .egress("udp:any:9")
            .raw_socket()
            .start();
        let frame = frames::udp_frame("198.51.100.92", WIRE, 9, &"x".repeat(1400));
        let shot = Shot::new(frame).bypassing_the_qdisc();
        // Two bursts of 3000 bytes are four of these, and the fifth takes 0.7 s to earn.
        for _ in 0..8 {
            let _ = c.raw(&shot); // ENOBUFS, where it is dropped
        }
        let dropped = c.drops("egress");
        let count = dropped.get("rate").copied().unwrap_or_default();
        assert!((2..=4).contains(&count), "{dropped:?}");
    }
}
