//! Echo servers, and what arrived at them and at the sniffer (packet.rs).

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
    sockopt,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::socket::{MOST_BYTES, text};

static HEARD: Mutex<Vec<Value>> = Mutex::new(Vec::new());

fn heard() -> MutexGuard<'static, Vec<Value>> {
    HEARD.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn note(what: Value) {
    heard().push(what);
}

/// What was heard since the last time; waits up to `wait` seconds for something.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Take {
    #[serde(default)]
    wait: f64,
}

impl Take {
    pub(crate) fn answer(&self) -> Value {
        let end = Instant::now() + Duration::from_secs_f64(self.wait);
        // Looks now and then instead of being woken: what comes together is taken together.
        while heard().is_empty() && Instant::now() < end {
            thread::sleep(Duration::from_millis(10));
        }
        json!({"ok": true, "heard": std::mem::take(&mut *heard())})
    }
}

/// Echoes on both families; [`Take`] says who came.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listen {
    protocol: String,
    port: u16,
}

impl Listen {
    pub(crate) fn answer(self) -> io::Result<Value> {
        let port = self.port;
        if self.protocol == "tcp" {
            let socket = bound(SockType::Stream, port)?;
            listen(&socket, Backlog::new(64)?)?;
            thread::spawn(move || serve_tcp(&socket.into(), port));
        } else {
            let socket = bound(SockType::Datagram, port)?;
            thread::spawn(move || serve_udp(&socket.into(), port));
        }
        Ok(json!({"ok": true}))
    }
}

fn bound(kind: SockType, port: u16) -> io::Result<OwnedFd> {
    let socket = socket(AddressFamily::Inet6, kind, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    bind(socket.as_raw_fd(), &SockaddrStorage::from(everywhere))?;
    Ok(socket)
}

fn note_peer(protocol: &str, port: u16, peer: SocketAddr, data: &[u8]) {
    note(json!({
        "protocol": protocol,
        "port": port,
        "from": peer.ip().to_canonical().to_string(),
        "from_port": peer.port(),
        "data": text(data),
    }));
}

fn serve_tcp(listener: &TcpListener, port: u16) {
    loop {
        match listener.accept() {
            Ok((stream, peer)) => {
                thread::spawn(move || {
                    note_peer("tcp", port, peer, b"");
                    // A peer that goes away is no fault of ours.
                    drop(echo(stream));
                });
            }
            Err(error) => return eprintln!("no longer listens on tcp {port}: {error}"),
        }
    }
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut data = vec![0; MOST_BYTES];
    loop {
        match stream.read(&mut data)? {
            0 => return Ok(()),
            size => stream.write_all(&data[..size])?,
        }
    }
}

fn serve_udp(socket: &UdpSocket, port: u16) {
    let mut data = vec![0; MOST_BYTES];
    loop {
        match socket.recv_from(&mut data) {
            Ok((size, peer)) => {
                note_peer("udp", port, peer, &data[..size]);
                let _ = socket.send_to(&data[..size], peer);
            }
            Err(error) => return eprintln!("no longer listens on udp {port}: {error}"),
        }
    }
}
