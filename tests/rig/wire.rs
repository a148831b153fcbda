//! The machine on the other end of the guest's NIC: run commands there, inject frames, and read
//! what crossed the wire. Client of tests/vm/wire/agent.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const AGENT: &str = "192.0.2.1:9999";
/// The guest's NIC, which sends everything that comes from the guest.
pub const GUEST_MAC: &str = "525400000002";
pub const WIRE_MAC: &str = "525400000001";

/// A frame as it was on the tap.
#[derive(Clone, Debug)]
pub struct Frame {
    pub n: u64,
    pub from_guest: bool,
    pub data: Vec<u8>,
    /// Its L4 checksum is to be filled in by whoever sends it on.
    pub checksum_partial: bool,
}

impl Frame {
    pub fn ethertype(&self) -> u16 {
        u16::from_be_bytes([self.data[12], self.data[13]])
    }

    pub fn source_mac(&self) -> String {
        hex(&self.data[6..12])
    }

    pub fn contains(&self, text: &str) -> bool {
        self.data.windows(text.len()).any(|w| w == text.as_bytes())
    }

    /// Traffic the guest's own stack makes to find its neighbours: ARP, ND and MLD of its NIC.
    fn is_neighbour_upkeep(&self) -> bool {
        let (source, at_ip) = (&self.data[6..12], &self.data[14..]);
        if hex(source) != GUEST_MAC {
            return false;
        }
        match self.ethertype() {
            0x0806 => at_ip.get(14..18) == Some(&[192, 0, 2, 2]),
            0x86dd => {
                let (next, from, at_l4) = match at_ip.get(6) {
                    // MLD has a router alert.
                    Some(0) => (at_ip.get(40), &at_ip[8..24], at_ip.get(48)),
                    _ => (at_ip.get(6), &at_ip[8..24], at_ip.get(40)),
                };
                let ours = from[..2] == [0xfe, 0x80]
                    || from
                        == "2001:db8:1::2"
                            .parse::<std::net::Ipv6Addr>()
                            .expect("an address")
                            .octets()
                    || from == [0; 16];
                next == Some(&58) && ours && matches!(at_l4, Some(133 | 135 | 136 | 131 | 143))
            }
            _ => false,
        }
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

pub fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len() % 2 == 0, "odd hex");
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex digits"))
        .collect()
}

fn call(method: &str, path: &str, body: &str) -> Value {
    let mut conn = TcpStream::connect(AGENT).expect("the wire's agent listens");
    conn.set_read_timeout(Some(Duration::from_secs(120)))
        .expect("set a timeout");
    write!(
        conn,
        "{method} {path} HTTP/1.0\r\nHost: wire\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("ask the wire's agent");
    let mut answer = String::new();
    conn.read_to_string(&mut answer)
        .expect("hear the wire's agent");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    assert!(head.contains(" 200 "), "the wire's agent: {answer}");
    serde_json::from_str(body).expect("JSON from the wire's agent")
}

/// What a command on the wire machine did.
#[derive(Debug)]
pub struct Done {
    pub rc: i64,
    pub out: String,
    pub err: String,
}

impl Done {
    /// # Panics
    /// If the command failed.
    #[track_caller]
    pub fn success(self) -> String {
        assert_eq!(self.rc, 0, "on the wire: {self:?}");
        self.out
    }
}

/// Runs a command there.
pub fn exec(argv: &[&str]) -> Done {
    exec_for(argv, 30)
}

pub fn exec_for(argv: &[&str], timeout_s: u32) -> Done {
    let v = call(
        "POST",
        "/exec",
        &json!({"argv": argv, "timeout": timeout_s}).to_string(),
    );
    let text = |key: &str| v[key].as_str().unwrap_or_default().to_owned();
    Done {
        rc: v["rc"].as_i64().expect("a status"),
        out: text("stdout"),
        err: text("stderr"),
    }
}

/// One exchange from the wire machine: `Ok` is the answer, `Err` what Python calls the failure.
pub fn ask(protocol: &str, to: &str, port: u16, text: &str) -> Result<String, String> {
    const CLIENT: &str = "
import errno, socket, sys
kind, to, port, text = sys.argv[1:]
family = socket.AF_INET6 if ':' in to else socket.AF_INET
sock = socket.socket(family, socket.SOCK_STREAM if kind == 'tcp' else socket.SOCK_DGRAM)
sock.settimeout(1.5)
try:
    sock.connect((to, int(port)))
    sock.send(text.encode())
    print(sock.recv(65536).decode(), end='')
except TimeoutError:
    sys.exit('timeout')
except OSError as error:
    sys.exit(errno.errorcode[error.errno])
";
    let done = exec(&[
        "python3",
        "-c",
        CLIENT,
        protocol,
        to,
        &port.to_string(),
        text,
    ]);
    if done.rc == 0 {
        Ok(done.out)
    } else {
        Err(done.err.trim().to_owned())
    }
}

/// One ICMP echo from there.
pub fn ping(to: &str) -> bool {
    exec(&["ping", "-n", "-c", "1", "-W", "2", to]).rc == 0
}

/// Sends frames towards the guest.
pub fn send(frames: &[Vec<u8>]) {
    let frames: Vec<String> = frames.iter().map(|f| hex(f)).collect();
    call("POST", "/send", &json!({ "frames": frames }).to_string());
}

/// A point in the capture; what follows it can be read.
#[derive(Clone, Copy, Debug)]
pub struct Cursor(u64);

/// Now.
pub fn cursor() -> Cursor {
    Cursor(
        call("GET", "/cursor", "")["next"]
            .as_u64()
            .expect("a number"),
    )
}

impl Cursor {
    /// All frames since then. The frame of a returned system call is already among them: the tap
    /// hands it over in the sender's context. It may still be on its way through QEMU, hence `settle`.
    pub fn frames(self) -> Vec<Frame> {
        let v = call("GET", &format!("/capture?since={}", self.0), "");
        assert_eq!(v["lost"], 0, "frames are missing in the capture");
        v["frames"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|f| Frame {
                n: f["n"].as_u64().expect("a number"),
                from_guest: f["direction"] == "from-guest",
                data: unhex(f["hex"].as_str().expect("hex")),
                checksum_partial: f["checksum"] == "partial",
            })
            .collect()
    }

    /// What the guest sent since then beside looking for its neighbours, after a round trip that
    /// pushes everything sent before it through.
    pub fn sent_by_guest(self) -> Vec<Frame> {
        settle();
        self.frames()
            .into_iter()
            .filter(|f| f.from_guest && !f.is_neighbour_upkeep() && !f.contains(SETTLE))
            .collect()
    }

    /// # Panics
    /// If the guest sent anything since then.
    #[track_caller]
    pub fn assert_silence(self) {
        let frames = self.sent_by_guest();
        assert!(frames.is_empty(), "on the wire: {:#?}", summaries(&frames));
    }

    /// Frames with this text in them; waits for the first.
    pub fn wait_for(self, text: &str) -> Vec<Frame> {
        let end = Instant::now() + Duration::from_secs(3);
        loop {
            let found: Vec<Frame> = self
                .frames()
                .into_iter()
                .filter(|f| f.from_guest && f.contains(text))
                .collect();
            if !found.is_empty() || Instant::now() > end {
                return found;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

const SETTLE: &str = "oci-netkit settles";

/// The NIC has one queue: when our own datagram is answered, all that was sent before it is out.
fn settle() {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket");
    socket
        .set_read_timeout(Some(Duration::from_secs(2)))
        .expect("set a timeout");
    socket
        .send_to(SETTLE.as_bytes(), "192.0.2.1:7777")
        .expect("send to the wire");
    socket.recv(&mut [0; 64]).expect("the wire echoes");
}

/// Short forms for a failing test's message.
pub fn summaries(frames: &[Frame]) -> Vec<String> {
    frames
        .iter()
        .map(|f| {
            format!(
                "{} {} {}",
                f.n,
                f.source_mac(),
                hex(&f.data[12..f.data.len().min(90)])
            )
        })
        .collect()
}
