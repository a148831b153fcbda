//! TCP connections: one exchange, connections that outlive their request, and bulk over HTTP.

use std::collections::HashMap;
use std::io;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::reply;
use crate::socket::{self, Socket, text};

const PATIENCE_S: f64 = 5.0;
/// For bulk.
const LONG_PATIENCE_S: f64 = 60.0;
const BLOCK_BYTES: usize = 1 << 18;

/// Connections by their names.
pub(crate) type Kept = HashMap<String, Socket>;

/// Connects; with `send` also waits for an answer, with `until_end` for all of it.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Exchange {
    pub(crate) to: String,
    pub(crate) port: u16,
    pub(crate) send: Option<String>,
    #[serde(default)]
    pub(crate) until_end: bool,
    pub(crate) timeout: Option<f64>,
    #[serde(default)]
    pub(crate) source: String,
}

impl Exchange {
    pub(crate) fn answer(&self) -> io::Result<Value> {
        let socket = Socket::tcp(&self.to, self.timeout.unwrap_or(PATIENCE_S))?;
        if !self.source.is_empty() {
            socket.bind(socket::address(&self.source, 0)?)?;
        }
        socket.connect(&self.to, self.port)?;
        let Some(send) = &self.send else {
            return Ok(json!({"ok": true}));
        };
        socket.send_all(send.as_bytes())?;
        let data = if self.until_end {
            receive_all(&socket)?
        } else {
            socket.receive()?
        };
        Ok(reply(text(&data)))
    }
}

/// Makes a connection that stays.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Open {
    name: String,
    to: String,
    port: u16,
    timeout: Option<f64>,
}

impl Open {
    pub(crate) fn answer(self, kept: &mut Kept) -> io::Result<Value> {
        let socket = Socket::tcp(&self.to, self.timeout.unwrap_or(PATIENCE_S))?;
        // One of the same name ends here, and this one stays even if it does not connect.
        kept.remove(&self.name);
        let socket = kept.entry(self.name).or_insert(socket);
        socket.connect(&self.to, self.port)?;
        Ok(json!({"ok": true, "port": socket.local_port()?}))
    }
}

/// One exchange over a connection that [`Open`] made.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Say {
    name: String,
    send: String,
    timeout: Option<f64>,
}

impl Say {
    pub(crate) fn answer(&self, kept: &mut Kept) -> io::Result<Value> {
        let Some(socket) = kept.get_mut(&self.name) else {
            return Err(io::Error::other(format!("{} is not open", self.name)));
        };
        socket.set_patience(self.timeout.unwrap_or(PATIENCE_S));
        socket.send_all(self.send.as_bytes())?;
        Ok(reply(text(&socket.receive()?)))
    }
}

/// Sends `size` bytes as the body of an HTTP request; the server says how many came.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Upload {
    to: String,
    port: u16,
    size: usize,
    timeout: Option<f64>,
}

impl Upload {
    pub(crate) fn answer(&self) -> io::Result<Value> {
        let socket = Socket::tcp(&self.to, self.timeout.unwrap_or(LONG_PATIENCE_S))?;
        socket.connect(&self.to, self.port)?;
        let head = format!(
            "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            self.size
        );
        socket.send_all(head.as_bytes())?;
        let block = vec![b'u'; BLOCK_BYTES];
        let mut left = self.size;
        while left > 0 {
            left -= socket.send(&block[..left.min(BLOCK_BYTES)])?;
        }
        Ok(reply(text(&receive_all(&socket)?)))
    }
}

/// Fetches `size` bytes over HTTP; the answer is how many came.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Download {
    to: String,
    port: u16,
    size: usize,
    timeout: Option<f64>,
}

impl Download {
    pub(crate) fn answer(&self) -> io::Result<Value> {
        const HEAD_ENDS: &[u8] = b"\r\n\r\n";
        let socket = Socket::tcp(&self.to, self.timeout.unwrap_or(LONG_PATIENCE_S))?;
        socket.connect(&self.to, self.port)?;
        let request = format!(
            "GET /bytes/{} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            self.size
        );
        socket.send_all(request.as_bytes())?;
        let mut block = vec![0; BLOCK_BYTES];
        let (mut head, mut in_body, mut got) = (Vec::new(), false, 0);
        loop {
            match socket.receive_into(&mut block)? {
                0 => return Ok(reply(got.to_string())),
                size if in_body => got += size,
                size => {
                    head.extend_from_slice(&block[..size]);
                    let at = head.windows(HEAD_ENDS.len()).position(|w| w == HEAD_ENDS);
                    if let Some(at) = at {
                        in_body = true;
                        got = head.len() - at - HEAD_ENDS.len();
                    }
                }
            }
        }
    }
}

/// Until the other side ends it or enough has come.
fn receive_all(socket: &Socket) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    while all.len() < socket::MOST_BYTES {
        let part = socket.receive()?;
        if part.is_empty() {
            break;
        }
        all.extend(part);
    }
    Ok(all)
}
