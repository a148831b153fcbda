//! A host of the test's own, made of namespaces of this thread: a bpf file system, state, an
//! uplink; and containers, which are sleeping processes with a bundle.
//!
//! ```text
//!   this thread's netns                         Container's netns
//!   up0 (veth, 192.0.2.2/24)   onk7 ==== eth0  lo
//! ```

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use oci_netkit::kernel::netns::Netns;
use oci_netkit::kernel::process::Process;
use oci_netkit::plan::compile::TrieEntry;
use oci_netkit::plan::step::{
    Ipv4Setting, LinkSizes, MapSpec, PairSpec, PortSpec, QueueSpec, RouteSpec, Side, Step, Uplink,
};
use oci_netkit::state::Paths;
use oci_netkit::state::lock::Deadline;
use oci_netkit::types::id::{ContainerId, EndpointId, NetnsCookie};
use oci_netkit::types::name::IfName;
use oci_netkit::types::publish::Transport;
use oci_netkit::types::rate::Rates;
use oci_netkit::types::reach::Reach;
use oci_netkit::types::record::{EndpointRecord, Member, Phase};

/// One host at a time: BPF objects are the whole kernel's, and snapshots list them.
static ONE: Mutex<()> = Mutex::new(());

/// MAC of the uplink.
pub const UPLINK_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// A private host; this thread is in it until it ends.
pub struct Host {
    pub paths: Paths,
    pub uplink: Uplink,
    _one: MutexGuard<'static, ()>,
}

impl Host {
    /// Takes this thread out of the machine's namespaces.
    pub fn enter() -> Self {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some("tmpfs"), "/mnt", Some("tmpfs"), MsFlags::empty(), none).unwrap();
        for dir in ["/mnt/bpf", "/mnt/bundle"] {
            fs::create_dir(dir).unwrap();
        }
        mount(
            Some("bpf"),
            "/mnt/bpf",
            Some("bpf"),
            MsFlags::empty(),
            Some("mode=0700"),
        )
        .unwrap();
        run("ip link set lo up");
        run("ip link add up0 address 02:00:00:00:00:01 type veth peer name up0-far");
        run("ip addr add 192.0.2.2/24 dev up0");
        run("ip link set up0 up");
        run("ip route add default via 192.0.2.1");
        let ifindex = nix::net::if_::if_nametoindex("up0").unwrap();
        let uplink = Uplink {
            ifindex,
            name: "up0".into(),
            mac: UPLINK_MAC,
            mtu_bytes: 1500,
        };
        let paths = Paths {
            state_dir: "/mnt/state".into(),
            lasting_dir: "/mnt/lasting".into(),
            bpffs_dir: "/mnt/bpf/oci-netkit".into(),
        };
        Self {
            paths,
            uplink,
            _one: one,
        }
    }
}

/// Runs a command and wants it to succeed; gives its output.
pub fn run(command: &str) -> String {
    let mut words = command.split_ascii_whitespace();
    let output = Command::new(words.next().unwrap())
        .args(words)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command}: {}{}",
        text,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// A process with a network namespace of its own.
pub struct Container {
    child: Child,
    pub bundle: PathBuf,
}

impl Container {
    /// Starts it; its config.json gives it no capabilities.
    pub fn start() -> Self {
        let child = Command::new("unshare")
            .args(["--net", "--", "sleep", "600"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let bundle = PathBuf::from("/mnt/bundle");
        let config = r#"{"ociVersion":"1.0.0","process":{"user":{"uid":0,"gid":0},"cwd":"/",
            "capabilities":{"bounding":["CAP_CHOWN"]}},
            "linux":{"namespaces":[{"type":"network"}]}}"#;
        fs::write(bundle.join("config.json"), config).unwrap();
        let container = Self { child, bundle };
        // unshare(1) has to have come as far as the new namespace.
        let own = Netns::own().unwrap().cookie();
        for _ in 0..500 {
            if container.netns().cookie() != own {
                return container;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("no namespace after a second");
    }

    pub fn process(&self) -> Process {
        Process::open(i32::try_from(self.child.id()).unwrap()).unwrap()
    }

    pub fn netns(&self) -> Netns {
        Netns::of_process(&self.process()).unwrap()
    }

    /// Runs a command inside.
    pub fn run(&self, command: &str) -> String {
        run(&format!(
            "nsenter --net=/proc/{}/ns/net {command}",
            self.child.id()
        ))
    }

    /// What is planned for it, by hand.
    pub fn record(&self, id: u32) -> EndpointRecord {
        let process = self.process();
        EndpointRecord {
            version: 1,
            boot_id: oci_netkit::kernel::probe::boot_id().unwrap(),
            cookie: self.netns().cookie(),
            host: None,
            id: EndpointId(id),
            name: format!("c{id}"),
            phase: Phase::Creating,
            members: vec![Member {
                container_id: ContainerId::new(&format!("c{id}")).unwrap(),
                pid: process.pid(),
                start_time: process.start_time().unwrap(),
            }],
            keys: std::collections::BTreeMap::new(),
            interface: name("eth0"),
            primary: name(&format!("onk{id}")),
            primary_ifindex: 0,
            peer_ifindex: 0,
            addresses: addresses(id).iter().map(|a| (*a).into()).collect(),
            reach: vec![],
            lan: vec![],
            mode: Default::default(),
            revised: Vec::new(),
            ceiling: None,
            egress: vec![],
            ingress: vec![],
            resolvers: vec![],
            search: vec![],
            nat: None,
            publish: vec![format!("{}:80", 9000 + id).parse().unwrap()],
            rates: Rates::default(),
            mtu_bytes: 1400,
            guard: false,
            generation: String::new(),
            epoch: 1,
            created: 0,
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn name(text: &str) -> IfName {
    IfName::new(text).unwrap()
}

/// One of each family.
pub fn addresses(id: u32) -> [IpAddr; 2] {
    let last = u8::try_from(id).unwrap();
    [
        IpAddr::from([198, 51, 100, last]),
        IpAddr::from([0x2001, 0xdb8, 2, 0, 0, 0, 0, u16::from(last)]),
    ]
}

/// A trie with some entries.
pub fn policy() -> Vec<TrieEntry> {
    (0..200)
        .map(|n| TrieEntry {
            prefix_bits: 160,
            table: 0,
            data: [n; 16],
            id: u32::from(n) + 2,
            verdict: 0,
        })
        .collect()
}

pub fn map_spec(id: u32) -> MapSpec {
    MapSpec {
        id: EndpointId(id),
        policy: policy(),
        epoch: 1,
        slot: 2 * id,
        flows_out: 4096,
        flows_in: Some(2048),
        denied: 16,
        names: None,
        learned: 16,
        nxdomain: false,
        guard: false,
        mtu_bytes: 1400,
        nat: None,
        budget: None,
        rate_ingress: false,
    }
}

/// Every kind of step, in the order a plan has them.
pub fn steps(host: &Host, id: u32, guard: bool) -> Vec<Step> {
    let sizes = LinkSizes {
        mtu_bytes: 1400,
        gso_max_bytes: 65000,
        gso_ipv4_max_bytes: 65001,
        gro_max_bytes: 65002,
        gro_ipv4_max_bytes: 65003,
        headroom_bytes: 32,
    };
    let primary = name(&format!("onk{id}"));
    let queue = |side| Step::Queue {
        side,
        queue: QueueSpec {
            rate: "1G".parse().expect("a rate"),
            burst_bytes: 1 << 20,
            queue_bytes: 1 << 20,
        },
    };
    let set_ipv6 = |side, device: &IfName| Step::SetIpv6 {
        side,
        device: device.clone(),
        settings: vec![("addr_gen_mode", "1")],
    };
    let mut steps = vec![
        Step::EnsureGeneration,
        Step::EnsureUplinks(vec![host.uplink.clone()]),
        Step::CreatePair(PairSpec {
            primary: primary.clone(),
            peer: name("eth0"),
            sizes,
        }),
        Step::SetIpv4 {
            side: Side::Primary,
            device: primary.clone(),
            settings: vec![(Ipv4Setting::Forwarding, true)],
        },
        set_ipv6(Side::Primary, &primary),
        set_ipv6(Side::Peer, &name("eth0")),
        queue(Side::Primary),
        queue(Side::Peer),
        Step::FillMaps(map_spec(id)),
        Step::AttachPrograms { guard },
    ];
    let addresses = addresses(id);
    steps.extend(addresses.map(|a| Step::AddAddress(a.into())));
    steps.extend([Step::LinkUp(Side::Primary), Step::LinkUp(Side::Peer)]);
    for address in addresses {
        let route = RouteSpec {
            destination: address.into(),
            source: None,
        };
        steps.push(Step::AddRoute {
            side: Side::Primary,
            route,
        });
        let any = if address.is_ipv4() {
            "0.0.0.0/0"
        } else {
            "::/0"
        };
        let route = RouteSpec {
            destination: any.parse().unwrap(),
            source: None,
        };
        steps.push(Step::AddRoute {
            side: Side::Peer,
            route,
        });
    }
    let port = |(local_index, host): (u8, &str)| PortSpec {
        host: host.parse().unwrap(),
        host_port: 9000 + u16::try_from(id).unwrap(),
        protocol: Transport::Tcp,
        port: 80,
        local_index,
    };
    steps.push(Step::PublishPorts {
        id: EndpointId(id),
        ports: [(0, "0.0.0.0"), (1, "::")].map(port).into(),
    });
    steps.push(Step::PublishAddresses {
        id: EndpointId(id),
        addresses: addresses.iter().map(|a| (*a, Reach::Routed)).collect(),
    });
    steps
}

pub fn minute() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

/// Cookie nobody has.
pub const NOBODY: NetnsCookie = NetnsCookie(u64::MAX);
