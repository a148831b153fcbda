//! Sockets that wait for whatever they do, but no longer than they are told. Their addresses, and the
//! options that nix does not have.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, getsockopt, sockopt,
};

/// As much as a datagram or one read takes.
pub(crate) const MOST_BYTES: usize = 65536;

/// A call that takes longer fails as timed out.
pub(crate) struct Socket {
    fd: OwnedFd,
    patience: Duration,
}

impl Socket {
    pub(crate) fn new(
        family: AddressFamily,
        kind: SockType,
        protocol: Option<SockProtocol>,
        patience_s: f64,
    ) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        Ok(Self {
            fd: nix::sys::socket::socket(family, kind, flags, protocol)?,
            patience: Duration::from_secs_f64(patience_s),
        })
    }

    pub(crate) fn tcp(to: &str, patience_s: f64) -> io::Result<Self> {
        Self::new(family(to), SockType::Stream, None, patience_s)
    }

    pub(crate) fn udp(to: &str, patience_s: f64) -> io::Result<Self> {
        Self::new(family(to), SockType::Datagram, None, patience_s)
    }

    pub(crate) fn set_patience(&mut self, seconds: f64) {
        self.patience = Duration::from_secs_f64(seconds);
    }

    pub(crate) fn bind(&self, to: SocketAddr) -> io::Result<()> {
        let to = SockaddrStorage::from(to);
        Ok(nix::sys::socket::bind(self.fd.as_raw_fd(), &to)?)
    }

    pub(crate) fn connect(&self, to: &str, port: u16) -> io::Result<()> {
        let to = SockaddrStorage::from(address(to, port)?);
        match nix::sys::socket::connect(self.fd.as_raw_fd(), &to) {
            Err(Errno::EINPROGRESS) => {}
            done => return Ok(done?),
        }
        self.wait(PollFlags::POLLOUT, self.end())?;
        match getsockopt(&self.fd, sockopt::SocketError)? {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    pub(crate) fn local_port(&self) -> io::Result<u16> {
        let own: SockaddrStorage = nix::sys::socket::getsockname(self.fd.as_raw_fd())?;
        let v4 = own.as_sockaddr_in().map(|a| a.port());
        let v6 = own.as_sockaddr_in6().map(|a| a.port());
        v4.or(v6).ok_or(Errno::EAFNOSUPPORT.into())
    }

    /// As much of it as there is room for; of a datagram all.
    pub(crate) fn send(&self, data: &[u8]) -> io::Result<usize> {
        self.send_until(self.end(), data)
    }

    /// The patience is for all of it together.
    pub(crate) fn send_all(&self, mut data: &[u8]) -> io::Result<()> {
        let end = self.end();
        while !data.is_empty() {
            data = &data[self.send_until(end, data)?..];
        }
        Ok(())
    }

    /// What one read gives; nothing at the end of a connection.
    pub(crate) fn receive(&self) -> io::Result<Vec<u8>> {
        let mut data = vec![0; MOST_BYTES];
        let size = self.receive_into(&mut data)?;
        data.truncate(size);
        Ok(data)
    }

    pub(crate) fn receive_into(&self, data: &mut [u8]) -> io::Result<usize> {
        let end = self.end();
        loop {
            self.wait(PollFlags::POLLIN, end)?;
            match nix::sys::socket::recv(self.fd.as_raw_fd(), data, MsgFlags::empty()) {
                Err(Errno::EAGAIN) => {}
                done => return Ok(done?),
            }
        }
    }

    fn send_until(&self, end: Instant, data: &[u8]) -> io::Result<usize> {
        loop {
            self.wait(PollFlags::POLLOUT, end)?;
            match nix::sys::socket::send(self.fd.as_raw_fd(), data, MsgFlags::empty()) {
                Err(Errno::EAGAIN) => {}
                done => return Ok(done?),
            }
        }
    }

    fn wait(&self, event: PollFlags, end: Instant) -> io::Result<()> {
        wait(&mut [PollFd::new(self.as_fd(), event)], end)
    }

    fn end(&self) -> Instant {
        Instant::now() + self.patience
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Until something happens to one of them.
///
/// # Errors
/// Timed out, if nothing does before `end`.
pub(crate) fn wait(polled: &mut [PollFd], end: Instant) -> io::Result<()> {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match ppoll(polled, Some(left.into()), None) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

pub(crate) fn is_v6(address: &str) -> bool {
    address.contains(':')
}

pub(crate) fn family(address: &str) -> AddressFamily {
    if is_v6(address) {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    }
}

pub(crate) fn address(text: &str, port: u16) -> io::Result<SocketAddr> {
    let first = (text, port).to_socket_addrs()?.next();
    first.ok_or_else(|| io::Error::other(format!("{text} is no address")))
}

/// Where a socket is bound that talks to `to`: nowhere in particular if `source` is empty.
pub(crate) fn source(source: &str, port: u16, to: &str) -> io::Result<SocketAddr> {
    match (source, is_v6(to)) {
        ("", false) => Ok((Ipv4Addr::UNSPECIFIED, port).into()),
        ("", true) => Ok((Ipv6Addr::UNSPECIFIED, port).into()),
        _ => address(source, port),
    }
}

pub(crate) fn text(data: &[u8]) -> String {
    String::from_utf8_lossy(data).into_owned()
}
