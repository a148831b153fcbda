//! Whole frames through AF_PACKET, both ways. What is in them, the test has made and reads
//! (tests/rig/frames.rs).

use std::fmt::Write as _;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::thread;

use nix::libc;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike as _, bind,
    recvfrom, sendto, setsockopt, socket, sockopt,
};
use nix::{setsockopt_impl, sockopt_impl};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::heard;
use crate::socket::MOST_BYTES;

sockopt_impl!(
    /// A struct virtio_net_hdr precedes each frame.
    VnetHeader,
    SetOnly,
    libc::SOL_PACKET,
    libc::PACKET_VNET_HDR,
    bool
);
sockopt_impl!(
    /// Frames go to the driver at once.
    QdiscBypass,
    SetOnly,
    libc::SOL_PACKET,
    libc::PACKET_QDISC_BYPASS,
    bool
);

/// From now on every frame that arrives at the device is heard too.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sniff {
    device: String,
}

impl Sniff {
    pub(crate) fn answer(&self) -> io::Result<Value> {
        let socket = packet_socket(SockProtocol::EthAll)?;
        let everything = u16::try_from(libc::ETH_P_ALL).unwrap_or_default();
        bind(socket.as_raw_fd(), &address(&self.device, everything)?)?;
        thread::spawn(move || {
            if let Err(errno) = listen(&socket) {
                eprintln!("no longer sniffs: {errno}");
            }
        });
        Ok(json!({"ok": true}))
    }
}

fn listen(socket: &OwnedFd) -> nix::Result<()> {
    let mut data = vec![0; MOST_BYTES];
    loop {
        let (size, from) = recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut data)?;
        if from.is_some_and(|f| f.pkttype() != libc::PACKET_OUTGOING) {
            heard::note(json!({"protocol": "frame", "hex": hex(&data[..size])}));
        }
    }
}

/// One frame. `protocol` is what the kernel is told it is, `vnet` a struct virtio_net_hdr in front
/// of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Raw {
    device: String,
    hex: String,
    protocol: u16,
    #[serde(default)]
    vnet: String,
    #[serde(default)]
    bypass: bool,
    #[serde(default)]
    mark: u32,
}

impl Raw {
    pub(crate) fn answer(&self) -> io::Result<Value> {
        let socket = packet_socket(None)?;
        if !self.vnet.is_empty() {
            setsockopt(&socket, VnetHeader, &true)?;
        }
        if self.bypass {
            setsockopt(&socket, QdiscBypass, &true)?;
        }
        if self.mark != 0 {
            setsockopt(&socket, sockopt::Mark, &self.mark)?;
        }
        let frame = unhex(&format!("{}{}", self.vnet, self.hex))?;
        let to = address(&self.device, self.protocol)?;
        sendto(socket.as_raw_fd(), &frame, &to, MsgFlags::empty())?;
        Ok(json!({"ok": true}))
    }
}

/// Without a protocol nothing arrives at it.
fn packet_socket(protocol: impl Into<Option<SockProtocol>>) -> nix::Result<OwnedFd> {
    let (family, kind) = (AddressFamily::Packet, SockType::Raw);
    socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol)
}

fn address(device: &str, protocol: u16) -> io::Result<LinkAddr> {
    let index = if_nametoindex(device)?;
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).unwrap_or_default(),
        sll_protocol: protocol.to_be(),
        sll_ifindex: i32::try_from(index).unwrap_or_default(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: it is a whole sockaddr_ll of that length and its family says so; from_raw() copies it.
    let address = unsafe { LinkAddr::from_raw((&raw const address).cast(), None) };
    address.ok_or_else(|| io::Error::other("not an AF_PACKET address"))
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn unhex(text: &str) -> io::Result<Vec<u8>> {
    let pair = |i| {
        text.get(i..i + 2)
            .and_then(|p| u8::from_str_radix(p, 16).ok())
    };
    let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(pair).collect();
    bytes.ok_or_else(|| io::Error::other("not hex"))
}
