//! A netlink socket of one namespace: dumps and changes, each with a time limit and the kernel's
//! own words in its error. The only file that knows netlink-proto and its executor, which runs on
//! the calling thread and only while a request waits.

use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use futures::StreamExt;
use netlink_packet_core::{
    DecodeError, NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST,
    NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_proto::sys::{AsyncSocket, SocketAddr, protocols::NETLINK_ROUTE};
use netlink_proto::{ConnectionHandle, new_connection};
use nix::errno::Errno;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::error::{Context, Error, Kind, Result, lower};
use crate::kernel::netns::Netns;

/// The kernel answers at once unless another process keeps rtnl for long.
const PATIENCE: Duration = Duration::from_secs(5);
/// Dumps that a concurrent change tore apart are repeated for so long: the list of more than a
/// hundred devices takes a while, and while many containers start, changes come in a row.
const DUMP_PATIENCE: Duration = Duration::from_secs(5);

/// A socket, bound to the namespace it was opened in whatever the caller's thread does later. A clone
/// is the same one.
#[derive(Clone, Debug)]
pub struct Netlink {
    runtime: Arc<Runtime>,
    handle: ConnectionHandle<Message>,
}

/// Answers stay as they came until somebody looks at them: decoded, a device takes ten times the room,
/// and of a thousand all would wait for the last.
#[derive(Clone, Debug)]
enum Message {
    Request(RouteNetlinkMessage),
    Answer(NetlinkHeader, Vec<u8>),
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        match self {
            Self::Request(request) => request.message_type(),
            Self::Answer(header, _) => header.message_type,
        }
    }

    fn buffer_len(&self) -> usize {
        match self {
            Self::Request(request) => request.buffer_len(),
            Self::Answer(_, bytes) => bytes.len(),
        }
    }

    fn serialize(&self, buffer: &mut [u8]) {
        match self {
            Self::Request(request) => request.serialize(buffer),
            Self::Answer(_, bytes) => buffer.copy_from_slice(bytes),
        }
    }
}

impl NetlinkDeserializable for Message {
    type Error = DecodeError;

    fn deserialize(
        header: &NetlinkHeader,
        payload: &[u8],
    ) -> std::result::Result<Self, DecodeError> {
        Ok(Self::Answer(*header, payload.to_owned()))
    }
}

impl Message {
    fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Request(_) => None,
            Self::Answer(_, bytes) => Some(bytes),
        }
    }

    fn decode(self) -> std::result::Result<RouteNetlinkMessage, DecodeError> {
        match self {
            Self::Request(request) => Ok(request),
            Self::Answer(header, bytes) => RouteNetlinkMessage::deserialize(&header, &bytes),
        }
    }
}

/// Why the kernel did not do what it was asked.
#[derive(Clone, Debug)]
pub struct Refused {
    /// What it answered; `None` when there was no answer.
    pub errno: Option<Errno>,
    error: Error,
}

impl Refused {
    /// Whether it answered with this.
    #[must_use]
    pub fn is(&self, errno: Errno) -> bool {
        self.errno == Some(errno)
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        refused.error
    }
}

impl<T> Context<T> for std::result::Result<T, Refused> {
    fn with_context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|r| r.error.with_context(what()))
    }
}

impl Netlink {
    /// For the namespace of the calling thread.
    ///
    /// # Errors
    /// When the kernel gives no socket.
    pub fn open() -> Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .context("start tokio")?;
        let entered = runtime.enter();
        let (mut connection, handle, _) =
            new_connection::<Message>(NETLINK_ROUTE).context("open netlink socket")?;
        let socket = connection.socket_mut().socket_mut();
        // Errors with the reason in words; the request itself is not wanted back.
        socket.set_ext_ack(true).context("set NETLINK_EXT_ACK")?;
        socket.set_cap_ack(true).context("set NETLINK_CAP_ACK")?;
        // What a request for a list says of its objects counts.
        socket
            .set_netlink_get_strict_chk(true)
            .context("set NETLINK_GET_STRICT_CHK")?;
        drop(entered);
        runtime.spawn(connection);
        Ok(Self {
            runtime: Arc::new(runtime),
            handle,
        })
    }

    /// For another namespace: the one that its handle has, from the second time on.
    ///
    /// # Errors
    /// When it cannot be entered.
    pub fn open_in(netns: &Netns) -> Result<Self> {
        netns.netlink(Self::open)
    }

    /// What `pick` makes of all objects of a kind.
    ///
    /// # Errors
    /// When the kernel refuses, or changes kept tearing the list apart.
    pub fn dump<T, P: IntoIterator<Item = T>>(
        &self,
        request: &RouteNetlinkMessage,
        pick: impl Fn(&RouteNetlinkMessage) -> P,
    ) -> std::result::Result<Vec<T>, Refused> {
        self.dump_some(request, |_| true, pick)
    }

    /// As [`Netlink::dump`], of those only that are wanted by their bytes (behind the netlink header):
    /// a thousand that are known already need not be decoded.
    ///
    /// # Errors
    /// As [`Netlink::dump`].
    pub fn dump_some<T, P: IntoIterator<Item = T>>(
        &self,
        request: &RouteNetlinkMessage,
        is_wanted: impl Fn(&[u8]) -> bool,
        pick: impl Fn(&RouteNetlinkMessage) -> P,
    ) -> std::result::Result<Vec<T>, Refused> {
        let end = Instant::now() + DUMP_PATIENCE;
        let mut pause = Duration::from_millis(1);
        while Instant::now() < end {
            let (mut objects, torn) = self.send(request.clone(), NLM_F_DUMP)?;
            if !torn {
                objects.retain(|object| object.bytes().is_none_or(&is_wanted));
                return Ok(decode(objects).flat_map(|object| pick(&object)).collect());
            }
            sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        Err(unanswered(Error::new(
            Kind::Kernel,
            "the list changed while it was read",
        )))
    }

    /// What one request brings.
    ///
    /// # Errors
    /// When the kernel refuses: [`Errno::ENODEV`] for what is not there.
    pub fn ask(
        &self,
        request: RouteNetlinkMessage,
    ) -> std::result::Result<Vec<RouteNetlinkMessage>, Refused> {
        Ok(decode(self.send(request, 0)?.0).collect())
    }

    /// Changes something and waits until it is done. `flags` beside REQUEST and ACK.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn change(
        &self,
        request: RouteNetlinkMessage,
        flags: u16,
    ) -> std::result::Result<(), Refused> {
        self.send(request, NLM_F_ACK | flags).map(drop)
    }

    fn send(
        &self,
        request: RouteNetlinkMessage,
        flags: u16,
    ) -> std::result::Result<(Vec<Message>, bool), Refused> {
        let payload = NetlinkPayload::InnerMessage(Message::Request(request));
        let mut message = NetlinkMessage::new(NetlinkHeader::default(), payload);
        message.header.flags = NLM_F_REQUEST | flags;
        self.runtime.block_on(async {
            let answers = self
                .handle
                .request(message, SocketAddr::new(0, 0))
                .map_err(|e| unanswered(Error::new(Kind::Kernel, lower(&e.to_string()))))?;
            let collected = timeout(PATIENCE, collect(answers)).await;
            collected.unwrap_or_else(|_| {
                let text = format!("the kernel did not answer for {} s", PATIENCE.as_secs());
                Err(unanswered(Error::new(Kind::Timeout, text)))
            })
        })
    }
}

async fn collect(
    answers: impl futures::Stream<Item = NetlinkMessage<Message>>,
) -> std::result::Result<(Vec<Message>, bool), Refused> {
    let mut answers = std::pin::pin!(answers);
    let (mut objects, mut torn) = (Vec::new(), false);
    while let Some(answer) = answers.next().await {
        torn |= answer.header.flags & NLM_F_DUMP_INTR != 0;
        match answer.payload {
            NetlinkPayload::InnerMessage(object) => objects.push(object),
            NetlinkPayload::Error(e) if e.raw_code() != 0 => {
                let words = answer.header.flags & NLM_F_ACK_TLVS != 0;
                let words = words.then(|| extended_ack(&e.header)).flatten();
                return Err(refusal(e.raw_code(), words));
            }
            _ => {}
        }
    }
    Ok((objects, torn))
}

/// One that our crate cannot decode is passed over.
fn decode(objects: Vec<Message>) -> impl Iterator<Item = RouteNetlinkMessage> {
    objects.into_iter().filter_map(|object| {
        let decoded = object.decode();
        decoded.map_err(|e| log::warn!("netlink: {e}")).ok()
    })
}

fn unanswered(error: Error) -> Refused {
    Refused { errno: None, error }
}

fn refusal(code: i32, words: Option<String>) -> Refused {
    let errno = Errno::from_raw(code.abs());
    let mut text = lower(errno.desc());
    if let Some(words) = words {
        text = format!("{text} ({})", lower(words.trim_end_matches('.')));
    }
    Refused {
        errno: Some(errno),
        error: Error::new(Kind::Kernel, text),
    }
}

/// `NLMSGERR_ATTR_MSG` behind the 16 bytes of the request's header, include/uapi/linux/netlink.h.
fn extended_ack(rest: &[u8]) -> Option<String> {
    const NLMSGHDR_BYTES: usize = 16;
    const ATTR_MSG: u16 = 1;
    let mut rest = rest.get(NLMSGHDR_BYTES..)?;
    loop {
        let len = usize::from(u16::from_ne_bytes([*rest.first()?, *rest.get(1)?]));
        let kind = u16::from_ne_bytes([*rest.get(2)?, *rest.get(3)?]);
        let value = rest.get(4..len)?;
        if kind == ATTR_MSG {
            let text = value.strip_suffix(&[0]).unwrap_or(value);
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        rest = rest.get(len.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let len = u16::try_from(value.len() + 4).unwrap();
        let mut bytes = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn the_kernels_words_are_found_behind_other_attributes() {
        let mut bytes = vec![0; 16];
        bytes.extend(attribute(2, &[1, 0, 0, 0]));
        bytes.extend(attribute(1, b"Unknown device type.\0"));
        assert_eq!(extended_ack(&bytes).unwrap(), "Unknown device type.");
        let refused = refusal(-95, extended_ack(&bytes));
        assert!(refused.is(Errno::EOPNOTSUPP));
        assert!(
            Error::from(refused)
                .to_string()
                .ends_with("(unknown device type)")
        );
    }

    #[test]
    fn torn_or_absent_words_are_none() {
        assert_eq!(extended_ack(&[]), None);
        assert_eq!(extended_ack(&[0; 16]), None);
        assert_eq!(extended_ack(&[0; 20]), None); // length 0 must not loop
        let mut bytes = vec![0; 16];
        bytes.extend([200, 0, 1, 0, b'x']);
        assert_eq!(extended_ack(&bytes), None);
    }
}
