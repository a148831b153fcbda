//! A second network of the guest: one more uplink, and a machine on it in a namespace of its own that
//! routes the containers' prefixes to the guest. Gone when dropped, with the routes through it.
//!
//! ```text
//!   guest ── up9 198.18.0.1, 2001:db8:9::1 ── far9 198.18.0.2, 2001:db8:9::2 in "second"
//! ```

use super::host;

pub const DEVICE: &str = "up9";
/// Of the guest, by family.
pub const HOST: [&str; 2] = ["198.18.0.1", "2001:db8:9::1"];
/// Of the machine there.
pub const MACHINE: [&str; 2] = ["198.18.0.2", "2001:db8:9::2"];

const LINK: &str = "
ip link add up9 type veth peer name far9 netns second
ip addr add 198.18.0.1/24 dev up9
ip addr add 2001:db8:9::1/64 dev up9 nodad
ip link set up9 up
ip -n second addr add 198.18.0.2/24 dev far9
ip -n second addr add 2001:db8:9::2/64 dev far9 nodad
ip -n second link set far9 up
ip -n second route add 198.51.100.0/24 via 198.18.0.1
ip -n second route add 2001:db8:2::/64 via 2001:db8:9::1
";

pub struct SecondNetwork;

impl SecondNetwork {
    pub fn new() -> Self {
        let this = Self;
        this.remove();
        sh("ip netns add second; ip -n second link set lo up");
        sh(LINK);
        this
    }

    /// The uplink goes, and another one of the same name comes.
    pub fn make_link_anew(&self) {
        host::run(&["ip", "link", "del", DEVICE]);
        sh(LINK);
    }

    /// One ICMP echo from the machine there.
    pub fn reaches(&self, address: &str) -> bool {
        let ping = format!("ip netns exec second ping -n -c 1 -W 2 {address}");
        host::attempt(&ping.split(' ').collect::<Vec<_>>())
    }

    fn remove(&self) {
        host::attempt(&["ip", "link", "del", DEVICE]);
        host::attempt(&["ip", "netns", "del", "second"]);
    }
}

impl Drop for SecondNetwork {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Several commands of the guest's; the first that fails ends it.
#[track_caller]
pub fn sh(script: &str) {
    host::run(&["sh", "-e", "-c", script]);
}
