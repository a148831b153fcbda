//! Single packets and their answers: datagrams, and echo requests of unprivileged sockets.

use std::io;

use nix::sys::socket::{SockProtocol, SockType, setsockopt};
use nix::{libc, setsockopt_impl, sockopt_impl};
use serde::Deserialize;
use serde_json::Value;

use crate::socket::{Socket, family, is_v6, source, text};
use crate::{failure, reply};

const PATIENCE_S: f64 = 5.0;

/// One datagram, and what comes back.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Exchange {
    pub(crate) to: String,
    pub(crate) port: u16,
    pub(crate) send: Option<String>,
    pub(crate) timeout: Option<f64>,
    #[serde(default)]
    pub(crate) source: String,
    #[serde(default)]
    pub(crate) source_port: u16,
}

impl Exchange {
    pub(crate) fn answer(&self) -> io::Result<Value> {
        let socket = Socket::udp(&self.to, self.timeout.unwrap_or(PATIENCE_S))?;
        if !self.source.is_empty() || self.source_port != 0 {
            socket.bind(source(&self.source, self.source_port, &self.to)?)?;
        }
        socket.connect(&self.to, self.port)?;
        socket.send(self.send.as_deref().unwrap_or("ping").as_bytes())?;
        Ok(reply(text(&socket.receive()?)))
    }
}

sockopt_impl!(
    /// IP_PMTUDISC_DO: nobody may fragment.
    Ipv4MtuDiscover,
    SetOnly,
    libc::IPPROTO_IP,
    libc::IP_MTU_DISCOVER,
    i32
);
sockopt_impl!(
    /// IPV6_PMTUDISC_DO, the same.
    Ipv6MtuDiscover,
    SetOnly,
    libc::IPPROTO_IPV6,
    libc::IPV6_MTU_DISCOVER,
    i32
);

/// Datagrams of these sizes that nobody may fragment, each with its echo: how each of them fared.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sizes {
    to: String,
    port: u16,
    sizes: Vec<usize>,
    timeout: Option<f64>,
}

impl Sizes {
    pub(crate) fn answer(&self) -> io::Result<Value> {
        let socket = Socket::udp(&self.to, self.timeout.unwrap_or(2.0))?;
        if is_v6(&self.to) {
            setsockopt(&socket, Ipv6MtuDiscover, &libc::IPV6_PMTUDISC_DO)?;
        } else {
            setsockopt(&socket, Ipv4MtuDiscover, &libc::IP_PMTUDISC_DO)?;
        }
        socket.connect(&self.to, self.port)?;
        let mut fared = Vec::new();
        for size in &self.sizes {
            let sent = socket.send(&vec![b's'; *size]);
            fared.push(match sent.and_then(|_| socket.receive()) {
                Ok(echo) if echo.len() == *size => "echo".into(),
                Ok(_) => "another".into(),
                Err(error) => failure(&error).ok_or(error)?,
            });
        }
        Ok(reply(fared.join(" ")))
    }
}

/// One ICMP echo through an unprivileged socket; the answer is the type of the reply.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ping {
    pub(crate) to: String,
    pub(crate) timeout: Option<f64>,
    pub(crate) size: Option<usize>,
}

impl Ping {
    pub(crate) fn answer(&self) -> io::Result<Value> {
        let (protocol, kind) = if is_v6(&self.to) {
            (SockProtocol::IcmpV6, 128)
        } else {
            (SockProtocol::Icmp, 8)
        };
        let patience_s = self.timeout.unwrap_or(PATIENCE_S);
        let of = family(&self.to);
        let socket = Socket::new(of, SockType::Datagram, Some(protocol), patience_s)?;
        socket.connect(&self.to, 0)?;
        // Type, code, checksum and identifier, which the kernel fills in, and sequence number 1.
        let mut packet = vec![kind, 0, 0, 0, 0, 0, 0, 1];
        packet.resize(packet.len() + self.size.unwrap_or(16), b'p');
        socket.send(&packet)?;
        match socket.receive()?.first() {
            Some(kind) => Ok(reply(kind.to_string())),
            None => Err(io::Error::other("an empty echo")),
        }
    }
}
