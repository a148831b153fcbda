//! The guest as the host of the containers: what is there, what changes, and servers of its own.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::net::{Ipv6Addr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use std::io::{Read as _, Write as _};

use libbpf_rs::ProgramType;
use libbpf_rs::query::{LinkInfoIter, LinkTypeInfo, MapInfoIter, ProgInfoIter};

use super::cli;

/// Runs a command; its output.
///
/// # Panics
/// If it fails.
#[track_caller]
pub fn run(argv: &[&str]) -> String {
    let output = Command::new(argv[0])
        .args(&argv[1..])
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("{argv:?}: {e}"));
    assert!(
        output.status.success(),
        "{argv:?}: {} {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a command whose failure is of no interest.
pub fn attempt(argv: &[&str]) -> bool {
    Command::new(argv[0])
        .args(&argv[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

/// Waits for something that happens by itself, such as the end of a namespace.
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < end, "still not: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A test starts with no endpoint on the host: what an earlier one left would be its bug, and
/// would make this one's counts worthless.
#[track_caller]
pub fn start_clean() {
    eventually("no endpoint of an earlier test", || cli::list().is_empty());
}

/// What this guest takes of an exhaustive test's places: with `OCI_NETKIT_HALF` every second, another
/// guest the others, else all of them.
pub fn sample<T>(all: Vec<T>) -> Vec<T> {
    let Ok(half) = std::env::var("OCI_NETKIT_HALF") else {
        return all;
    };
    let half: usize = half.parse().expect("OCI_NETKIT_HALF is 0 or 1");
    all.into_iter().skip(half).step_by(2).collect()
}

pub const STATE: &str = "/run/oci-netkit";
pub const PINS: &str = "/sys/fs/bpf/oci-netkit";

/// Everything a start may touch, as lines of text, so that two of them can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<String, Vec<String>>);

impl Snapshot {
    pub fn take() -> Self {
        let mut all = BTreeMap::new();
        let mut add = |key: &str, lines: Vec<String>| all.insert(key.to_owned(), lines);
        add("ip", sorted(&ip()));
        add("state", tree(Path::new(STATE)));
        add("pins", tree(Path::new(PINS)));
        add("sysctls", sysctls());
        add("bpf", bpf_objects());
        Self(all)
    }

    /// # Panics
    /// If anything is different now.
    #[track_caller]
    pub fn assert_same(&self) {
        let mut now = Self::take();
        // The end of a namespace and of BPF objects comes a moment after the call that ends them.
        let end = Instant::now() + Duration::from_secs(5);
        while now != *self && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(50));
            now = Self::take();
        }
        for (key, before) in &self.0 {
            let after = &now.0[key];
            let gone: Vec<_> = before.iter().filter(|l| !after.contains(l)).collect();
            let new: Vec<_> = after.iter().filter(|l| !before.contains(l)).collect();
            assert_eq!(before, after, "{key}: gone {gone:#?}, new {new:#?}");
        }
    }
}

/// Devices, addresses, routes of both families, rules, proxies and groups, by one process: a program's
/// start takes longer here than all it then does.
fn ip() -> String {
    let all = "link\naddr\nroute show table all\nrule\nneigh show proxy\nmaddr show dev eth0\n";
    let file = "/tmp/oci-netkit-snapshot";
    std::fs::write(file, all).expect("write what to ask");
    run(&["ip", "-o", "-d", "-batch", file])
}

fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(without_numbers).collect();
    lines.sort();
    lines
}

/// Without interface numbers, which grow, and lifetimes, which count down.
fn without_numbers(line: &str) -> String {
    let line = line.split_once(": ").map_or(line, |(n, rest)| {
        if n.chars().all(|c| c.is_ascii_digit()) {
            rest
        } else {
            line
        }
    });
    let mut words: Vec<&str> = Vec::new();
    let mut skip = false;
    for word in line.split_whitespace() {
        if !std::mem::take(&mut skip) {
            skip = matches!(word, "valid_lft" | "preferred_lft" | "expires");
            if !skip {
                words.push(word);
            }
        }
    }
    words.join(" ")
}

/// Paths of files below, without the ones that are there to stay: locks and the record of errors.
fn tree(dir: &Path) -> Vec<String> {
    // Also what podman called itself.
    let kept = ["lock", "error", "fail", "podman"];
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(dir) else {
        return found;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            // What was refused to those that have ended is meant to stay.
            if name != "ended" {
                found.extend(tree(&path));
            }
        } else if !kept.iter().any(|k| name.contains(k)) {
            found.push(path.display().to_string());
        }
    }
    found.sort();
    found
}

fn sysctls() -> Vec<String> {
    let mut found = Vec::new();
    for family in ["ipv4", "ipv6"] {
        for device in ["all", "default", "eth0", "lo"] {
            let dir = format!("/proc/sys/net/{family}/conf/{device}");
            for entry in std::fs::read_dir(dir).expect("sysctls").flatten() {
                let value = std::fs::read_to_string(entry.path()).unwrap_or_default();
                found.push(format!("{}={}", entry.path().display(), value.trim()));
            }
        }
    }
    for name in [
        "ip_forward",
        "ip_local_port_range",
        "ip_local_reserved_ports",
    ] {
        let path = format!("/proc/sys/net/ipv4/{name}");
        found.push(format!(
            "{path}={}",
            std::fs::read_to_string(&path).unwrap_or_default().trim()
        ));
    }
    found.sort();
    found
}

/// How many BPF programs, maps and links there are, by kind; podman's own cgroup programs come
/// and go with containers and are not counted. Not by bpftool, which loads a program of its own
/// each time it is asked, and that takes a while in emulation.
fn bpf_objects() -> Vec<String> {
    let ours = |name: &OsStr| name.to_string_lossy().starts_with("nk_");
    let programs = ProgInfoIter::default()
        .filter(|p| p.ty == ProgramType::SchedCls || ours(&p.name))
        .count();
    let maps = MapInfoIter::default().filter(|m| ours(&m.name)).count();
    let links = LinkInfoIter::default()
        .filter(|l| matches!(l.info, LinkTypeInfo::Tcx(_) | LinkTypeInfo::Netkit(_)))
        .count();
    vec![
        format!("programs {programs}"),
        format!("maps {maps}"),
        format!("links {links}"),
    ]
}

/// A network like docker0's behind the host: 172.31.0.1/24 and 2001:db8:d::1/64.
pub struct OtherNetwork;

impl OtherNetwork {
    pub fn new() -> Self {
        attempt(&["ip", "link", "del", "other0"]);
        run(&["ip", "link", "add", "other0", "type", "dummy"]);
        run(&["ip", "addr", "add", "172.31.0.1/24", "dev", "other0"]);
        run(&[
            "ip",
            "addr",
            "add",
            "2001:db8:d::1/64",
            "dev",
            "other0",
            "nodad",
        ]);
        run(&["ip", "link", "set", "other0", "up"]);
        Self
    }
}

impl Drop for OtherNetwork {
    fn drop(&mut self) {
        attempt(&["ip", "link", "del", "other0"]);
    }
}

/// TCP and UDP echo on one port of every address of the host, and what it heard.
pub struct Echo {
    port: u16,
    heard: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
}

impl Echo {
    pub fn new(port: u16) -> Self {
        let tcp = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).expect("listen on the host");
        let udp = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).expect("listen on the host");
        udp.set_read_timeout(Some(Duration::from_millis(100)))
            .expect("set a timeout");
        tcp.set_nonblocking(true).expect("set non-blocking");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (note, ended) = (Arc::clone(&heard), Arc::clone(&stop));
        std::thread::spawn(move || {
            let mut buffer = [0; 65536];
            while !ended.load(Ordering::Relaxed) {
                if let Ok((n, peer)) = udp.recv_from(&mut buffer) {
                    note.lock()
                        .expect("no panic")
                        .push(format!("udp {}", peer.ip()));
                    let _ = udp.send_to(&buffer[..n], peer);
                }
                while let Ok((mut conn, peer)) = tcp.accept() {
                    note.lock()
                        .expect("no panic")
                        .push(format!("tcp {}", peer.ip()));
                    std::thread::spawn(move || {
                        let _ = conn.set_nonblocking(false);
                        let mut buffer = [0; 65536];
                        while let Ok(n @ 1..) = conn.read(&mut buffer) {
                            if conn.write_all(&buffer[..n]).is_err() {
                                return;
                            }
                        }
                    });
                }
            }
        });
        Self { port, heard, stop }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Who came.
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().expect("no panic").clone()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// One exchange from the host.
pub fn ask(protocol: &str, to: &str, port: u16, text: &str) -> Result<String, String> {
    let mut buffer = [0; 65536];
    let timeout = Some(Duration::from_millis(1500));
    let address: std::net::SocketAddr =
        (to.parse::<std::net::IpAddr>().expect("an address"), port).into();
    let n = if protocol == "tcp" {
        std::net::TcpStream::connect_timeout(&address, Duration::from_millis(1500)).and_then(
            |mut conn| {
                conn.set_read_timeout(timeout)?;
                conn.write_all(text.as_bytes())?;
                conn.read(&mut buffer)
            },
        )
    } else {
        let any = if address.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        UdpSocket::bind(any).and_then(|socket| {
            socket.set_read_timeout(timeout)?;
            socket.connect(address)?;
            socket.send(text.as_bytes())?;
            socket.recv(&mut buffer)
        })
    };
    n.map(|n| String::from_utf8_lossy(&buffer[..n]).into_owned())
        .map_err(|e| e.to_string())
}

/// One ICMP echo from the host.
pub fn ping(to: &str) -> bool {
    attempt(&["ping", "-n", "-c", "1", "-W", "2", to])
}

/// A process that only waits, in a network namespace of its own: a container's first process as
/// the hook sees it, without a runtime.
pub struct Sleeper(Child);

impl Sleeper {
    pub fn new() -> Self {
        let child = Self(
            Command::new("unshare")
                .args(["--net", "sleep", "3600"])
                .stdin(Stdio::null())
                .spawn()
                .expect("start unshare"),
        );
        let own = namespace(std::process::id());
        eventually("a namespace of its own", || {
            let theirs = namespace(child.0.id());
            !theirs.is_empty() && theirs != own
        });
        child
    }

    /// In the host's own namespace.
    pub fn in_host() -> Self {
        Self(
            Command::new("sleep")
                .arg("3600")
                .spawn()
                .expect("start sleep"),
        )
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Runs a command in its namespace.
    #[track_caller]
    pub fn inside(&self, argv: &[&str]) -> String {
        let pid = self.pid().to_string();
        run(&[&["nsenter", "--target", &pid, "--net", "--"], argv].concat())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A bundle as a runtime would have it, with a process that has no capabilities.
pub fn bundle() -> String {
    let dir = "/run/oci-netkit-tests/plain-bundle";
    std::fs::create_dir_all(dir).expect("make a bundle");
    let config = serde_json::json!({
        "ociVersion": "1.0.2",
        "process": {
            "cwd": "/", "args": ["sleep"], "user": {"uid": 0, "gid": 0},
            "capabilities": {"bounding": [], "effective": [], "permitted": []},
        },
        "linux": {"namespaces": [{"type": "network"}]},
    });
    std::fs::write(format!("{dir}/config.json"), config.to_string()).expect("write config.json");
    dir.into()
}

/// Which network namespace a process is in.
pub fn namespace(pid: u32) -> String {
    std::fs::read_link(format!("/proc/{pid}/ns/net"))
        .map(|p| p.display().to_string())
        .unwrap_or_default()
}

/// Counts packets that devices enqueue for a softirq of their own (`netif_rx`), through tracefs.
pub struct Enqueues {
    dir: String,
}

const TRACING: &str = "/sys/kernel/tracing";

impl Enqueues {
    /// Counts from now on, in all network namespaces.
    pub fn of(devices: &[&str]) -> Self {
        let dir = format!("{TRACING}/instances/oci-netkit-{}", devices.join("-"));
        let _ = std::fs::remove_dir(&dir);
        std::fs::create_dir(&dir).expect("make a tracing instance");
        let write = |file: &str, text: &str| {
            std::fs::write(format!("{dir}/{file}"), text)
                .unwrap_or_else(|e| panic!("write {file}: {e}"));
        };
        let names: Vec<String> = devices.iter().map(|d| format!("name == \"{d}\"")).collect();
        write("events/net/netif_rx/filter", &names.join(" || "));
        write("events/net/netif_rx/enable", "1");
        write("tracing_on", "1");
        Self { dir }
    }

    pub fn count(&self) -> usize {
        std::fs::read_to_string(format!("{}/trace", self.dir))
            .expect("read the trace")
            .lines()
            .filter(|l| !l.starts_with('#') && l.contains("netif_rx"))
            .count()
    }
}

impl Drop for Enqueues {
    fn drop(&mut self) {
        let _ = std::fs::write(format!("{}/events/net/netif_rx/enable", self.dir), "0");
        let _ = std::fs::remove_dir(&self.dir);
    }
}

/// nftables counters on every hook a packet of these addresses could pass in the host's stack.
pub struct Netfilter;

impl Netfilter {
    pub fn watch(addresses: &[&str]) -> Self {
        let mut text = String::from("table inet watch {\n");
        for hook in ["prerouting", "input", "forward", "output", "postrouting"] {
            text += &format!("chain {hook} {{ type filter hook {hook} priority -400;\n");
            for address in addresses {
                let family = if address.contains(':') { "ip6" } else { "ip" };
                text += &format!("{family} saddr {address} counter\n");
                text += &format!("{family} daddr {address} counter\n");
            }
            text += "}\n";
        }
        text += "}\n";
        attempt(&["nft", "delete", "table", "inet", "watch"]);
        let ran = cli::feed(Command::new("nft").args(["-f", "-"]), text.as_bytes());
        ran.success();
        Self
    }

    /// Packets seen by any of them.
    pub fn packets(&self) -> u64 {
        let text = run(&["nft", "list", "table", "inet", "watch"]);
        text.split("counter packets ")
            .skip(1)
            .map(|rest| {
                let number = rest.split(' ').next().unwrap_or_default();
                number.parse::<u64>().expect("a count")
            })
            .sum()
    }
}

impl Drop for Netfilter {
    fn drop(&mut self) {
        attempt(&["nft", "delete", "table", "inet", "watch"]);
    }
}

pub const CONFIG: &str = "/etc/oci-netkit/config.toml";

/// Another config for the length of a test.
pub struct OtherConfig(String);

impl OtherConfig {
    pub fn with(lines: &str) -> Self {
        let before = std::fs::read_to_string(CONFIG).expect("the guest has a config");
        std::fs::write(CONFIG, format!("{lines}\n{before}")).expect("write the config");
        Self(before)
    }

    /// As on a machine where nobody wrote one.
    pub fn none() -> Self {
        let before = std::fs::read_to_string(CONFIG).expect("the guest has a config");
        std::fs::remove_file(CONFIG).expect("remove the config");
        Self(before)
    }

    pub fn instead(text: &str) -> Self {
        let other = Self::none();
        std::fs::write(CONFIG, text).expect("write the config");
        other
    }
}

impl Drop for OtherConfig {
    fn drop(&mut self) {
        std::fs::write(CONFIG, &self.0).expect("restore the config");
    }
}
