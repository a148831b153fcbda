//! A network beyond the wire machine, which then is a router with a smaller MTU on its far side, as
//! a tunnel has it. Gone when dropped, and the wire machine forwards no more.
//!
//! ```text
//!   guest ── 1500 ── wire machine ── 1280 ── far: 203.0.113.130, 2001:db8:f::130
//! ```

use super::wire;

pub const ADDRESS: &str = "203.0.113.130";
pub const ADDRESS_6: &str = "2001:db8:f::130";
/// HTTP on 80, UDP and TCP echo here.
pub const ECHO_PORT: u16 = 7777;

/// The far host's own device takes more than the way to it, and says so in its SYN; it knows how
/// little it may send itself. Neither end checks its link-local address for a duplicate first: before
/// that is done the far host cannot ask for its router, and its first answers are three seconds late.
const UP: &str = r#"
set -e
ip netns add far
ip netns exec far sysctl -qw net.ipv6.conf.default.accept_dad=0
ip link add near mtu 1280 type veth peer name far netns far
sysctl -qw net.ipv6.conf.near.accept_dad=0
ip addr add 10.77.0.1/24 dev near
ip addr add fd77::1/64 dev near nodad
ip link set near up
far() { ip -n far "$@"; }
far link set lo up
far addr add 203.0.113.130/32 dev lo
far addr add 2001:db8:f::130/128 dev lo nodad
far addr add 10.77.0.2/24 dev far
far addr add fd77::2/64 dev far nodad
far link set far up
far route add default via 10.77.0.1 mtu 1280 advmss 1460 src 203.0.113.130
far route add default via fd77::1 mtu 1280 advmss 1440 src 2001:db8:f::130
ip route add 203.0.113.130/32 via 10.77.0.2
ip route add 2001:db8:f::130/128 via fd77::2
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
for server in 'http 80' 'echo 7777'; do
	nsenter --net=/run/netns/far /src/tests/vm/wire/$server >/dev/null 2>&1 &
done
for i in $(seq 100); do
	test "$(ip netns exec far ss -Hlnt | wc -l)" != 2 || exit 0
	sleep 0.1
done
exit 1
"#;

const DOWN: &str = "
sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0
ip netns pids far | xargs -r kill
ip link del near
ip netns del far
ip route flush cache
ip -6 route flush cache
";

pub struct FarNetwork;

impl FarNetwork {
    pub fn new() -> Self {
        wire::exec(&["bash", "-c", DOWN]);
        wire::exec(&["bash", "-c", UP]).success();
        Self
    }
}

impl Drop for FarNetwork {
    fn drop(&mut self) {
        wire::exec(&["bash", "-c", DOWN]);
    }
}
