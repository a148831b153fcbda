//! Containers of real runtimes that run tests/inside: through podman and hooks.d, or from a bundle
//! of our own that names the hook. Gone when dropped, whatever the test did.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{cli, frames, wire};

const PREFIX: &str = "io.oci-netkit.";
/// The program of tests/inside, in the guest and in its containers.
pub const INSIDE: &str = "/opt/oci-netkit/inside";
const DIR: &str = "/run/oci-netkit-tests";
const PATIENCE: Duration = Duration::from_secs(150);

/// crun or runc.
pub fn runtime() -> String {
    std::env::var("OCI_NETKIT_RUNTIME").unwrap_or_else(|_| "crun".into())
}

/// Who starts the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// `podman run`; the hook comes from hooks.d.
    Podman,
    /// `crun run` or `runc run` of a bundle that names the hook.
    Bundle,
}

/// What to start.
#[derive(Clone, Debug)]
pub struct Spec {
    door: Door,
    name: String,
    annotations: Vec<(String, String)>,
    capabilities: Vec<String>,
    podman: Vec<String>,
    network: String,
    user_namespace: bool,
    hooks: bool,
    keep: bool,
    root: Option<String>,
}

/// A container from a bundle.
pub fn bundle(name: &str) -> Spec {
    Spec::new(Door::Bundle, name)
}

/// A container of podman.
pub fn podman(name: &str) -> Spec {
    Spec::new(Door::Podman, name)
}

impl Spec {
    pub fn new(door: Door, name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        Self {
            door,
            name: format!("{name}-{}-{n}", std::process::id()),
            annotations: Vec::new(),
            capabilities: Vec::new(),
            podman: Vec::new(),
            network: "none".into(),
            user_namespace: false,
            hooks: true,
            keep: false,
            root: None,
        }
    }

    /// An annotation of ours; `key` without the prefix.
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.annotations
            .push((format!("{PREFIX}{key}"), value.into()));
        self
    }

    pub fn address(self, value: &str) -> Self {
        self.with("address", value)
    }

    pub fn egress(self, value: &str) -> Self {
        self.with("egress", value)
    }

    pub fn ingress(self, value: &str) -> Self {
        self.with("ingress", value)
    }

    /// Beside none in a bundle and podman's default ones; without `CAP_`.
    pub fn capability(mut self, name: &str) -> Self {
        self.capabilities.push(name.into());
        self
    }

    /// A raw socket: what an attacker has.
    pub fn raw_socket(self) -> Self {
        self.capability("NET_RAW")
    }

    /// Its own user namespace, root inside is nobody outside.
    pub fn user_namespace(mut self) -> Self {
        self.user_namespace = true;
        self
    }

    /// More options of `podman run`.
    pub fn podman_options(mut self, options: &[&str]) -> Self {
        assert_eq!(self.door, Door::Podman, "only podman has options");
        self.podman.extend(options.iter().map(|o| (*o).to_owned()));
        self
    }

    /// `--network`; for a bundle `none`, `host` or the path of a namespace.
    pub fn network(mut self, network: &str) -> Self {
        self.network = network.into();
        self
    }

    /// A bundle that does not name the hook: no network at all.
    pub fn without_hook(mut self) -> Self {
        self.hooks = false;
        self
    }

    /// Another root file system of a bundle than the guest's own.
    pub fn root(mut self, path: &str) -> Self {
        self.root = Some(path.into());
        self
    }

    /// podman keeps the container when it ends.
    pub fn keep(mut self) -> Self {
        self.keep = true;
        self
    }

    /// # Panics
    /// If it does not start.
    #[track_caller]
    pub fn start(self) -> Container {
        match self.try_start() {
            Ok(container) => container,
            Err(refused) => {
                panic!(
                    "did not start: {}; errors: {:#}",
                    refused.text,
                    cli::run(&["errors"]).out
                )
            }
        }
    }

    /// What the runtime says instead, after which nothing of it runs.
    ///
    /// # Panics
    /// If it does start.
    #[track_caller]
    pub fn refused(self) -> Refused {
        match self.try_start() {
            Ok(container) => panic!("{} started", container.id),
            Err(refused) => refused,
        }
    }

    pub fn try_start(self) -> Result<Container, Refused> {
        std::fs::create_dir_all(DIR).expect("make the tests' directory");
        let log = PathBuf::from(format!("{DIR}/{}.log", self.name));
        let mut command = match self.door {
            Door::Podman => self.podman_command(),
            Door::Bundle => self.bundle_command(),
        };
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).expect("make a log"))
            .spawn()
            .expect("start the runtime");
        let input = child.stdin.take().expect("a pipe");
        let answers = pump(child.stdout.take().expect("a pipe"));
        let mut container = Container {
            id: self.name.clone(),
            name: self.name,
            door: self.door,
            keep: self.keep,
            log,
            child,
            input: Some(input),
            answers,
        };
        match container.answers.recv_timeout(PATIENCE) {
            Ok(_ready) => {
                if container.door == Door::Podman {
                    let file = format!("{DIR}/{}.cid", container.name);
                    container.id = std::fs::read_to_string(file).expect("podman wrote the id");
                }
                Ok(container)
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = container.child.wait().expect("the runtime ended");
                Err(Refused {
                    code: status.code().unwrap_or(-1),
                    text: container.log(),
                })
            }
            Err(RecvTimeoutError::Timeout) => panic!("no sign of life: {}", container.log()),
        }
    }

    fn podman_command(&self) -> Command {
        let mut c = Command::new("podman");
        c.arg("--runtime")
            .arg(runtime())
            .args(["run", "-i", "--name", &self.name]);
        c.arg(format!("--cidfile={DIR}/{}.cid", self.name));
        if !self.network.is_empty() {
            c.args(["--network", &self.network]);
        }
        if !self.keep {
            c.arg("--rm");
        }
        for (key, value) in &self.annotations {
            c.arg("--annotation").arg(format!("{key}={value}"));
        }
        for name in &self.capabilities {
            c.args(["--cap-add", name]);
        }
        if self.user_namespace {
            c.args(["--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536"]);
        }
        c.args(&self.podman).args(["--rootfs", "/:O", INSIDE]);
        c
    }

    fn bundle_command(&self) -> Command {
        let dir = format!("{DIR}/{}", self.name);
        std::fs::create_dir_all(&dir).expect("make the bundle");
        std::fs::write(
            format!("{dir}/config.json"),
            self.bundle_config().to_string(),
        )
        .expect("write config.json");
        let mut c = Command::new(runtime());
        c.args(["run", "--bundle", &dir, &self.name]);
        c
    }

    /// Writes a bundle whose process only waits, for somebody else to run; its id and directory.
    pub fn waiting_bundle(self) -> (String, String) {
        let mut config = self.bundle_config();
        config["process"]["args"] = json!(["/usr/bin/sleep", "3600"]);
        let dir = format!("{DIR}/{}", self.name);
        std::fs::create_dir_all(&dir).expect("make the bundle");
        std::fs::write(format!("{dir}/config.json"), config.to_string())
            .expect("write config.json");
        (self.name, dir)
    }

    fn bundle_config(&self) -> Value {
        let capabilities: Vec<String> = self
            .capabilities
            .iter()
            .map(|c| format!("CAP_{c}"))
            .collect();
        let mut namespaces: Vec<Value> = ["pid", "ipc", "uts", "mount", "cgroup"]
            .iter()
            .map(|kind| json!({ "type": kind }))
            .collect();
        match self.network.as_str() {
            "host" => {}
            "none" => namespaces.push(json!({"type": "network"})),
            path => namespaces.push(json!({"type": "network", "path": path})),
        }
        let mut linux = json!({ "cgroupsPath": format!("/oci-netkit-tests/{}", self.name) });
        if self.user_namespace {
            namespaces.push(json!({"type": "user"}));
            let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
            linux["uidMappings"] = map.clone();
            linux["gidMappings"] = map;
        }
        if self.network == "none" {
            linux["sysctl"] = json!({"net.ipv4.ping_group_range": "0 0"});
        }
        linux["namespaces"] = namespaces.into();
        let annotations: serde_json::Map<String, Value> = self
            .annotations
            .iter()
            .map(|(k, v)| (k.clone(), json!(v)))
            .collect();
        json!({
            "ociVersion": "1.0.2",
            "hostname": "inside",
            "root": {"path": self.root.clone().unwrap_or_else(root), "readonly": true},
            "process": {
                "terminal": false,
                "user": {"uid": 0, "gid": 0},
                "cwd": "/",
                "args": [INSIDE],
                "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
                "noNewPrivileges": true,
                "capabilities": {
                    "bounding": capabilities, "permitted": capabilities, "effective": capabilities,
                },
            },
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                 "options": ["nosuid", "mode=755", "size=64k"]},
                {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
            ],
            "hooks": if self.hooks { hooks() } else { json!({}) },
            "annotations": annotations,
            "linux": linux,
        })
    }
}

fn hooks() -> Value {
    let hook = |stage: &str| {
        json!([{
            "path": cli::BINARY, "args": [cli::BINARY, "hook", stage],
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], "timeout": 30,
        }])
    };
    json!({"createRuntime": hook("create"), "poststop": hook("poststop")})
}

/// The guest's own root once more, as the root of every bundle.
fn root() -> String {
    let root = format!("{DIR}/root");
    let mounts = std::fs::read_to_string("/proc/mounts").expect("read the mounts");
    if !mounts.lines().any(|l| l.split(' ').nth(1) == Some(&root)) {
        for dir in ["root", "upper", "work"] {
            std::fs::create_dir_all(format!("{DIR}/{dir}")).expect("make the root");
        }
        let options = format!("lowerdir=/,upperdir={DIR}/upper,workdir={DIR}/work");
        let status = Command::new("mount")
            .args(["-t", "overlay", "overlay", "-o", &options, &root])
            .status()
            .expect("run mount");
        assert!(status.success(), "mount the root of the bundles");
    }
    root
}

fn pump(out: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines() {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// A start that failed.
#[derive(Debug)]
pub struct Refused {
    /// Of the runtime or podman, not of the hook.
    pub code: i32,
    pub text: String,
}

/// A running container.
pub struct Container {
    /// OCI id.
    pub id: String,
    name: String,
    door: Door,
    keep: bool,
    log: PathBuf,
    child: Child,
    input: Option<ChildStdin>,
    answers: Receiver<String>,
}

fn echo_reply(to: &str) -> String {
    if to.contains(':') { "129" } else { "0" }.into()
}

/// `Ok` with what came back, `Err` with the name of the errno, or "timeout".
pub type Answer = Result<String, String>;

impl Container {
    /// Asks the program inside for one operation.
    #[track_caller]
    pub fn ask(&self, request: &Value) -> Value {
        let mut input = self.input.as_ref().expect("it runs");
        writeln!(input, "{request}").expect("the container listens");
        let line = self
            .answers
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|e| panic!("{e} after {request}: {}", self.log()));
        serde_json::from_str(&line).expect("JSON from the container")
    }

    #[track_caller]
    fn answer(&self, request: &Value) -> Answer {
        let v = self.ask(request);
        let text = |key: &str| v[key].as_str().unwrap_or_default().to_owned();
        if v["ok"] == true {
            Ok(text("reply"))
        } else {
            Err(text("error"))
        }
    }

    /// One exchange with an echo server; `protocol` is tcp, udp or icmp, which has no port.
    #[track_caller]
    pub fn exchange(&self, protocol: &str, to: &str, port: u16) -> Answer {
        self.exchange_for(protocol, to, port, 5.0)
    }

    /// The same with little patience, for what is expected to fail.
    #[track_caller]
    pub fn attempt(&self, protocol: &str, to: &str, port: u16) -> Answer {
        self.exchange_for(protocol, to, port, 0.4)
    }

    #[track_caller]
    fn exchange_for(&self, protocol: &str, to: &str, port: u16, timeout_s: f64) -> Answer {
        let send = format!("{protocol} to {to} {port}");
        match protocol {
            "icmp" => self.answer(&json!({"op": "ping", "to": to, "timeout": timeout_s})),
            _ => self.answer(&json!({
                "op": protocol, "to": to, "port": port, "send": send, "timeout": timeout_s,
            })),
        }
    }

    /// Asserts that an echo server answers.
    #[track_caller]
    pub fn reaches(&self, protocol: &str, to: &str, port: u16) {
        let answer = self.exchange(protocol, to, port);
        match protocol {
            // The type of the reply.
            "icmp" => assert_eq!(answer, Ok(echo_reply(to)), "icmp to {to}"),
            _ => assert_eq!(answer, Ok(format!("{protocol} to {to} {port}"))),
        }
    }

    /// Asserts that its packets to there are dropped, under exactly this reason.
    #[track_caller]
    pub fn is_kept_from(&self, reason: &str, protocol: &str, to: &str, port: u16) {
        let answer = self.expect_drop("egress", reason, || self.attempt(protocol, to, port));
        // A drop on the way out fails the system call of some sockets.
        let error = answer.expect_err("nothing comes back");
        assert!(
            matches!(error.as_str(), "timeout" | "ENOBUFS"),
            "{protocol} to {to}: {error}"
        );
    }

    /// One TCP exchange from one of its addresses.
    #[track_caller]
    pub fn tcp_from(&self, source: &str, to: &str, port: u16, send: &str) -> Answer {
        self.answer(
            &json!({"op": "tcp", "to": to, "port": port, "send": send, "source": source,
            "until_end": true}),
        )
    }

    /// HTTP GET of a path; the whole answer.
    #[track_caller]
    pub fn http(&self, to: &str, port: u16, path: &str) -> Answer {
        let send = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        self.answer(&json!({"op": "tcp", "to": to, "port": port, "send": send, "until_end": true}))
    }

    /// A connection that stays, under a name.
    #[track_caller]
    pub fn open_tcp(&self, name: &str, to: &str, port: u16) -> Answer {
        self.answer(&json!({"op": "open_tcp", "name": name, "to": to, "port": port}))
    }

    /// One exchange over it.
    #[track_caller]
    pub fn say(&self, name: &str, send: &str) -> Answer {
        self.answer(&json!({"op": "say", "name": name, "send": send, "timeout": 2}))
    }

    /// One datagram from a port of its own, without patience for an answer.
    #[track_caller]
    pub fn send_udp(&self, from_port: u16, to: &str, port: u16, send: &str) -> Answer {
        self.answer(&json!({
            "op": "udp", "to": to, "port": port, "send": send, "source_port": from_port,
            "timeout": 0.1,
        }))
    }

    /// Datagrams of these sizes that nobody may fragment, and how each of them fared: `echo`, or
    /// the errno of the send or of the wait for its echo.
    #[track_caller]
    pub fn send_sizes(&self, to: &str, port: u16, sizes: &[u32]) -> String {
        self.answer(&json!({"op": "send_sizes", "to": to, "port": port, "sizes": sizes}))
            .expect("a list")
    }

    /// Echoes from now on.
    #[track_caller]
    pub fn listen(&self, protocol: &str, port: u16) {
        let done = self.answer(&json!({"op": "listen", "protocol": protocol, "port": port}));
        done.unwrap_or_else(|e| panic!("listen {protocol} {port}: {e}"));
    }

    /// From now on [`Self::heard`] has every frame that arrives.
    #[track_caller]
    pub fn sniff(&self, device: &str) {
        self.answer(&json!({"op": "sniff", "device": device}))
            .expect("a raw socket");
    }

    /// What arrived since the last time; waits this long for something to arrive.
    #[track_caller]
    pub fn heard(&self, wait_s: f64) -> Vec<Value> {
        self.ask(&json!({"op": "take_heard", "wait": wait_s}))["heard"]
            .as_array()
            .expect("a list")
            .clone()
    }

    /// The same, as frames.
    #[track_caller]
    pub fn heard_frames(&self, wait_s: f64) -> Vec<Vec<u8>> {
        self.heard(wait_s)
            .iter()
            .filter_map(|h| h["hex"].as_str().map(wire::unhex))
            .collect()
    }

    /// Sends one frame; `Err` is what the system call says, a drop on the way included.
    #[track_caller]
    pub fn raw(&self, shot: &Shot) -> Answer {
        self.answer(&json!({
            "op": "raw",
            "device": shot.device,
            "hex": wire::hex(&shot.frame),
            "protocol": shot.protocol,
            "vnet": shot.vnet.map(|v| wire::hex(&v.bytes())).unwrap_or_default(),
            "bypass": shot.bypass,
            "mark": shot.mark,
        }))
    }

    /// Uploads over HTTP; the server's answer says `body=N`.
    #[track_caller]
    pub fn upload(&self, to: &str, port: u16, bytes: u64) -> Answer {
        self.answer(&json!({"op": "upload", "to": to, "port": port, "size": bytes}))
    }

    /// Downloads over HTTP; how many bytes came.
    #[track_caller]
    pub fn download(&self, to: &str, port: u16, bytes: u64) -> Answer {
        self.answer(&json!({"op": "download", "to": to, "port": port, "size": bytes}))
    }

    /// Runs a command inside; its output.
    #[track_caller]
    pub fn run(&self, argv: &[&str]) -> String {
        let v = self.ask(&json!({"op": "run", "argv": argv}));
        assert_eq!(v["ok"], true, "inside {argv:?}: {v}");
        v["out"].as_str().unwrap_or_default().to_owned()
    }

    /// A file inside.
    #[track_caller]
    pub fn read(&self, path: &str) -> String {
        self.answer(&json!({"op": "read", "path": path}))
            .expect("the file is there")
    }

    /// Names of its network devices, sorted.
    #[track_caller]
    pub fn devices(&self) -> String {
        self.answer(&json!({"op": "devices"})).expect("a list")
    }

    /// Drops counted so far.
    #[track_caller]
    pub fn drops(&self, direction: &str) -> cli::Drops {
        cli::drops(&self.id, direction)
    }

    /// Asserts that what `act` does is dropped, counted once or more under exactly this reason.
    #[track_caller]
    pub fn expect_drop<T>(&self, direction: &str, reason: &str, act: impl FnOnce() -> T) -> T {
        let before = self.drops(direction);
        let result = act();
        let end = Instant::now() + Duration::from_secs(3);
        loop {
            let added = cli::added(&before, &self.drops(direction));
            // What comes over the wire may still be on its way.
            if added.is_empty() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
            let reasons: Vec<&String> = added.keys().collect();
            assert_eq!(reasons, [reason], "drops of {direction}: {added:?}");
            return result;
        }
    }

    /// Pid of the first process, seen from the host.
    pub fn pid(&self) -> i32 {
        let v = cli::show(&self.id);
        i32::try_from(v["containers"][0]["pid"].as_i64().expect("a pid")).expect("a pid")
    }

    /// Name of the host-side device.
    pub fn primary(&self) -> String {
        cli::show(&self.id)["primary"]
            .as_str()
            .expect("a name")
            .to_owned()
    }

    /// What the runtime wrote to its standard error.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it as a container ends by itself, poststop included.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.input.take());
        let end = Instant::now() + Duration::from_secs(15);
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > end {
                self.remove();
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn remove(&mut self) {
        let mut command = match self.door {
            Door::Podman => Command::new("podman"),
            Door::Bundle => Command::new(runtime()),
        };
        match self.door {
            Door::Podman => command.args(["rm", "--force", "--time", "0", &self.name]),
            Door::Bundle => command.args(["delete", "--force", &self.name]),
        };
        let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.end();
        if self.keep && self.door == Door::Podman {
            self.remove();
        }
        let _ = std::fs::remove_file(&self.log);
        let _ = std::fs::remove_file(format!("{DIR}/{}.cid", self.name));
        if self.door == Door::Bundle {
            let _ = std::fs::remove_dir_all(Path::new(DIR).join(&self.name));
        }
    }
}

/// One frame to send from inside, and how.
#[derive(Clone, Debug)]
pub struct Shot {
    pub device: String,
    pub frame: Vec<u8>,
    /// What the kernel is told the frame is.
    pub protocol: u16,
    pub vnet: Option<frames::Vnet>,
    pub bypass: bool,
    pub mark: u32,
}

impl Shot {
    /// Announced as what its EtherType says.
    pub fn new(frame: Vec<u8>) -> Self {
        let protocol = u16::from_be_bytes([frame[12], frame[13]]);
        Self {
            device: "eth0".into(),
            frame,
            protocol,
            vnet: None,
            bypass: false,
            mark: 0,
        }
    }

    pub fn announced_as(mut self, protocol: u16) -> Self {
        self.protocol = protocol;
        self
    }

    pub fn vnet(mut self, vnet: frames::Vnet) -> Self {
        self.vnet = Some(vnet);
        self
    }

    pub fn bypassing_the_qdisc(mut self) -> Self {
        self.bypass = true;
        self
    }

    pub fn marked(mut self, mark: u32) -> Self {
        self.mark = mark;
        self
    }
}
