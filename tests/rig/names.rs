//! Containers whose rules have names, and real programs in them that ask for names.

use serde_json::{Value, json};

use super::container::{self, Container, Spec};

/// Config that names the resolvers: the wire, in both families.
pub const RESOLVERS: &str = "dns = { servers = [\"203.0.113.10\", \"2001:db8:f::10\"] }";

/// Resolves by libc and exchanges a line with the echo server there; prints the address, or the error
/// with how long it took.
const BY_NAME: &str = r#"
import socket, sys, time
name, port, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
begun = time.monotonic()
try:
    family = {"4": socket.AF_INET, "6": socket.AF_INET6, "any": 0}[kind]
    found = socket.getaddrinfo(name, port, family, socket.SOCK_STREAM)
except OSError as e:
    sys.exit(f"{e.args[0]} after {time.monotonic() - begun:.3f}")
for family, kind, proto, _, address in found:
    with socket.socket(family, kind, proto) as sock:
        sock.settimeout(3)
        try:
            sock.connect(address)
            sock.sendall(b"by name\n")
            sock.shutdown(socket.SHUT_WR)
            print(address[0], sock.recv(100).decode().strip())
        except OSError as e:
            print(address[0], type(e).__name__)
"#;

/// A container with programs that ask for names.
pub struct Client(pub Container);

impl Client {
    pub fn start(spec: Spec) -> Self {
        Self(spec.start())
    }

    pub fn python(&self, script: &str, args: &[&str]) -> Value {
        let mut argv = vec!["python3", "-c", script];
        argv.extend(args);
        self.run(&argv)
    }

    /// What a program inside did: `rc`, `out`, `err`, and `seconds`.
    #[track_caller]
    pub fn run(&self, argv: &[&str]) -> Value {
        self.0
            .ask(&json!({"op": "run", "argv": argv, "timeout": 90}))
    }

    /// Address and echo of each address of the name.
    #[track_caller]
    pub fn reaches(&self, name: &str, port: u16, kind: &str) -> Vec<String> {
        let ran = self.python(BY_NAME, &[name, &port.to_string(), kind]);
        assert_eq!(ran["ok"], true, "{name}: {ran}");
        let out = ran["out"].as_str().expect("a text");
        out.lines().map(str::to_owned).collect()
    }

    /// The error of getaddrinfo(3) and the seconds that it took.
    #[track_caller]
    pub fn is_refused(&self, name: &str) -> (i32, f64) {
        let ran = self.python(BY_NAME, &[name, "7777", "any"]);
        let said = ran["err"].as_str().expect("a text");
        let (error, seconds) = said
            .trim()
            .split_once(" after ")
            .unwrap_or_else(|| panic!("{ran}"));
        (
            error.parse().expect("a number"),
            seconds.parse().expect("seconds"),
        )
    }

    pub fn dig(&self, args: &[&str]) -> String {
        let mut argv = vec!["dig", "+tries=1", "+time=2"];
        argv.extend(args);
        let ran = self.run(&argv);
        format!(
            "{}{}",
            ran["out"].as_str().unwrap_or(""),
            ran["err"].as_str().unwrap_or("")
        )
    }
}

/// An address behind a routed name on the list.
pub fn named(name: &str, n: u8, egress: &str) -> Spec {
    container::podman(name)
        .address(&format!("198.51.100.{n} 2001:db8:2::{n}"))
        .egress(egress)
}
