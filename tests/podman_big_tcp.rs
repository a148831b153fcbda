//! BIG TCP: where an uplink takes packets of more than 64 KiB, so do containers, and a stream of
//! theirs travels in them. Before Linux 7.0 only that of IPv4 (hook/plan/link.rs).
//!
//! ```text
//!   container ══ guest ── big0 ── veth ── big1, in a namespace of its own: HTTP on 80
//! ```

mod rig;

mod guest {
    use std::io::Read as _;
    use std::process::{Child, Command, Stdio};

    use crate::rig::{cli, container, host};

    const WIRE: &str = "10.66.0.2";
    const WIRE_6: &str = "fd66::2";
    const SIZE: u64 = 131_072;
    /// What a packet without BIG TCP has at most, with its Ethernet header.
    const LEGACY: u64 = 65_535 + 14;
    const BODY: u64 = 24 << 20;

    const UP: &str = r#"
set -e
ip netns add big
ip link add big0 type veth peer name big1 netns big
wire() { ip -n big "$@"; }
sizes="gso_max_size $1 gro_max_size $1 gso_ipv4_max_size $2 gro_ipv4_max_size $2"
ip link set big0 $sizes
wire link set big1 $sizes
ip addr add 10.66.0.1/24 dev big0
ip addr add fd66::1/64 dev big0 nodad
ip link set big0 up
wire addr add 10.66.0.2/24 dev big1
wire addr add fd66::2/64 dev big1 nodad
wire link set lo up
wire link set big1 up
wire route add default via 10.66.0.1
wire route add default via fd66::1
nsenter --net=/run/netns/big /src/tests/vm/wire/http 80 >/dev/null 2>&1 &
for i in $(seq 100); do
	test -z "$(ip netns exec big ss -Hlnt)" || exit 0
	sleep 0.1
done
exit 1
"#;

    const DOWN: &str = "ip netns pids big | xargs -r kill; ip link del big0; ip netns del big";

    struct BigWire;

    impl BigWire {
        fn new(ipv6_bytes: u64) -> Self {
            host::attempt(&["bash", "-c", DOWN]);
            let (six, four) = (ipv6_bytes.to_string(), SIZE.to_string());
            host::run(&["bash", "-c", UP, "up", &six, &four]);
            Self
        }
    }

    impl Drop for BigWire {
        fn drop(&mut self) {
            host::attempt(&["bash", "-c", DOWN]);
        }
    }

    /// Looks at every packet of the wire's device, and says how large the largest were.
    struct Largest(Child);

    const LOOK: &str = r#"
import select, socket, sys
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
sock.bind(("big1", 0))
print("looks", flush=True)
most = [0, 0]
while sys.stdin not in (ready := select.select([sock, sys.stdin], [], [])[0]):
    buffer = bytearray(64)
    size, _, _, address = sock.recvmsg_into([buffer], 0, socket.MSG_TRUNC)
    out = address[2] == socket.PACKET_OUTGOING
    most[out] = max(most[out], size)
print(*most)
"#;

    impl Largest {
        fn start() -> Self {
            let mut child = Command::new("nsenter")
                .args(["--net=/run/netns/big", "python3", "-c", LOOK])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("start to look");
            let mut word = [0; 6];
            let out = child.stdout.as_mut().expect("piped");
            out.read_exact(&mut word).expect("it looks");
            Self(child)
        }

        /// From the container and to it, bytes.
        fn end(mut self) -> (u64, u64) {
            drop(self.0.stdin.take());
            let mut text = String::new();
            let mut out = self.0.stdout.take().expect("piped");
            out.read_to_string(&mut text).expect("what it saw");
            self.0.wait().expect("it ended");
            let mut numbers = text
                .split_whitespace()
                .map(|n| n.parse().expect("a number"));
            (
                numbers.next().expect("one"),
                numbers.next().expect("another"),
            )
        }
    }

    fn kernel_major() -> u32 {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
        let major = release.split('.').next().and_then(|n| n.parse().ok());
        major.expect("a number")
    }

    #[test]
    #[ignore = "needs the guest"]
    fn streams_travel_in_packets_as_large_as_the_uplink_takes() {
        host::start_clean();
        let plain = kernel_major() >= 7;
        let _wire = BigWire::new(if plain { SIZE } else { 65_536 });
        let _config = host::OtherConfig::with("uplinks = [\"big0\"]");
        let c = container::podman("big")
            .address("198.51.100.93 2001:db8:2::93")
            .egress("tcp:any:80")
            .start();
        let device = c.run(&["ip", "-d", "link", "show", "eth0"]);
        assert!(
            device.contains(&format!("gso_ipv4_max_size {SIZE}")),
            "{device}"
        );
        for (to, big) in [(WIRE, true), (WIRE_6, plain)] {
            let largest = Largest::start();
            let answer = c.upload(to, 80, BODY).expect("an answer");
            assert!(answer.contains(&format!("body={BODY}")), "{answer}");
            assert_eq!(c.download(to, 80, BODY), Ok(BODY.to_string()));
            let (from, towards) = largest.end();
            for (what, size) in [("from", from), ("to", towards)] {
                assert_eq!(
                    size > LEGACY,
                    big,
                    "{to}: {size} bytes {what} the container"
                );
            }
        }
        assert_eq!(c.drops("egress"), cli::Drops::new());
        assert_eq!(c.drops("ingress"), cli::Drops::new());
    }

    /// Where the uplink sends and joins more than a container may get.
    #[test]
    #[ignore = "needs the guest"]
    fn ipv6_packets_are_as_large_as_the_kernel_can_say_without_another_header() {
        host::start_clean();
        let most = if kernel_major() >= 7 { SIZE } else { 65_536 };
        let _wire = BigWire::new(SIZE);
        let _config = host::OtherConfig::with("uplinks = [\"big0\"]");
        let c = container::bundle("small")
            .address("2001:db8:2::94")
            .egress("tcp:any:80")
            .start();
        let device = c.run(&["ip", "-d", "link", "show", "eth0"]);
        for name in ["gso_max_size", "gro_max_size"] {
            assert!(device.contains(&format!("{name} {most}")), "{device}");
        }
        let answer = c.upload(WIRE_6, 80, BODY / 8).expect("an answer");
        assert!(answer.contains(&format!("body={}", BODY / 8)), "{answer}");
        assert_eq!(c.drops("egress"), cli::Drops::new());
    }
}
