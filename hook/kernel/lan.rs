//! An uplink's neighbours, spoken to before a container gets an address among them and right after:
//! is it free (RFC 5227, RFC 4862), and where it lives now. By AF_PACKET, since the host must not
//! have the address. From then on bpf/reply.h answers; `lan/frames.rs` knows what frames say.

use std::fmt::Write as _;
use std::mem;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::error::{Context, Error, ErrorList, Kind, Result};
use crate::plan::step::{LanSpec, Uplink};
use frames::Claim;

mod frames;
#[cfg(test)]
mod tests;

/// `PROBE_NUM` of RFC 5227, 1.1, for IPv6 as well.
const PROBES: u32 = 3;
/// Between two, and after the last one. RFC 5227 takes 1 to 2 s and RFC 4862 one, since their
/// link layers may be slow and their hosts many at once after a power cut; on Ethernet an answer
/// takes milliseconds, and a container's start would wait for all of it.
const INTERVAL: Duration = Duration::from_millis(200);
/// An Ethernet frame with VLAN tag; what we look for is far shorter.
const FRAME_BYTES: usize = 1518;

nix::ioctl_read_bad!(
    /// `SIOCGIFFLAGS`, include/uapi/linux/sockios.h.
    device_flags,
    0x8913,
    libc::ifreq
);

/// Asks for all the addresses at the same time, and listens: to answers, and to who asks the same.
///
/// # Errors
/// [`Kind::Conflict`] for addresses that are taken ([`Error::taken`]), with who has them; what keeps
/// an uplink from being asked.
pub fn probe(specs: &[LanSpec]) -> Result<()> {
    let lines = open_all(specs)?;
    for _ in 0..PROBES {
        for line in &lines {
            line.check_carrier()?;
            line.send_all(frames::question)?;
        }
        let claims = listen(&lines, Instant::now() + INTERVAL)?;
        if !claims.is_empty() {
            return claims.into_result(());
        }
    }
    Ok(())
}

/// Tells all neighbours that the addresses are at the uplinks' MACs, once each: who has heard of
/// another place before. Nobody waits for the second one that RFC 5227, 2.3 wants 2 s later: by
/// then bpf/reply.h has answered who asks.
///
/// # Errors
/// When an uplink takes no frames.
pub fn announce(specs: &[LanSpec]) -> Result<()> {
    for line in open_all(specs)? {
        line.send_all(frames::announcement)?;
    }
    Ok(())
}

/// One family's socket on one uplink.
struct Line<'s> {
    socket: OwnedFd,
    uplink: &'s Uplink,
    addresses: Vec<IpAddr>,
}

fn open_all(specs: &[LanSpec]) -> Result<Vec<Line<'_>>> {
    let mut lines = Vec::new();
    for spec in specs {
        for is_ipv4 in [true, false] {
            let of_family = spec.addresses.iter().filter(|a| a.is_ipv4() == is_ipv4);
            let addresses: Vec<IpAddr> = of_family.copied().collect();
            if !addresses.is_empty() {
                let name = &spec.uplink.name;
                let line = Line::open(&spec.uplink, addresses);
                lines.push(line.with_context(|| format!("speak to the neighbours on {name}"))?);
            }
        }
    }
    Ok(lines)
}

impl<'s> Line<'s> {
    /// Bound last, so that the first frame it gets is one that passed the filter.
    fn open(uplink: &'s Uplink, addresses: Vec<IpAddr>) -> Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket =
            socket(AddressFamily::Packet, SockType::Raw, flags, None).context("open socket")?;
        let mut protocol = libc::ETH_P_ARP;
        for address in &addresses {
            if let IpAddr::V6(v6) = address {
                protocol = libc::ETH_P_IPV6;
                join(&socket, uplink.ifindex, frames::group_mac(*v6))?;
            }
        }
        if protocol == libc::ETH_P_IPV6 {
            filter(&socket)?;
        }
        bind(&socket, uplink.ifindex, protocol)?;
        Ok(Self {
            socket,
            uplink,
            addresses,
        })
    }

    fn send_all(&self, frame: fn(IpAddr, [u8; 6]) -> Vec<u8>) -> Result<()> {
        for address in &self.addresses {
            let frame = frame(*address, self.uplink.mac);
            let name = &self.uplink.name;
            nix::unistd::write(&self.socket, &frame)
                .with_context(|| format!("send to the neighbours on {name}"))?;
        }
        Ok(())
    }

    /// Without a carrier the kernel takes frames and drops them (noop_enqueue(),
    /// net/sched/sch_generic.c): nobody would answer, and every address look free.
    fn check_carrier(&self) -> Result<()> {
        let name = &self.uplink.name;
        // SAFETY: all bytes zero are an ifreq.
        let mut request: libc::ifreq = unsafe { mem::zeroed() };
        let most = request.ifr_name.len() - 1; // the last byte stays 0
        for (to, from) in request.ifr_name[..most].iter_mut().zip(name.bytes()) {
            *to = libc::c_char::from_ne_bytes([from]);
        }
        // SAFETY: the kernel reads the name and writes the flags of an ifreq that is ours.
        let done = unsafe { device_flags(self.socket.as_raw_fd(), &raw mut request) };
        done.with_context(|| format!("look at {name}"))?;
        // SAFETY: the kernel has written this member.
        let flags = libc::c_int::from(unsafe { request.ifr_ifru.ifru_flags });
        if flags & libc::IFF_UP != 0 && flags & libc::IFF_RUNNING != 0 {
            return Ok(());
        }
        let text = format!(
            "{name} is down or has no carrier: its neighbours cannot be asked who has {}",
            self.addresses[0]
        );
        Err(Error::new(Kind::Unsupported, text).with_hint(format!("see: ip link show {name}")))
    }

    /// Claims among the frames that have arrived.
    fn take_claims(&self, claims: &mut Vec<(IpAddr, Claim)>) -> Result<()> {
        while let Some(frame) = receive(&self.socket)? {
            for address in &self.addresses {
                let is_known = claims.iter().any(|(known, _)| known == address);
                if let (false, Some(claim)) =
                    (is_known, frames::claim(&frame, *address, self.uplink.mac))
                {
                    claims.push((*address, claim));
                }
            }
        }
        Ok(())
    }

    fn conflict(&self, address: IpAddr, claim: Claim) -> Error {
        let name = &self.uplink.name;
        let text = match claim {
            Claim::Has(mac) => format!("{address} belongs to {} on {name}", words(mac)),
            Claim::Wants(mac) => {
                format!("{address} is what {} on {name} wants as well", words(mac))
            }
        };
        Error::new(Kind::Conflict, text)
            .with_hint("take another address, or take it away from that machine")
            .with_taken([address])
    }
}

/// Until the end, even once somebody claims one of the addresses: all that are taken are named.
fn listen(lines: &[Line<'_>], end: Instant) -> Result<ErrorList> {
    let mut claims: Vec<Vec<(IpAddr, Claim)>> = vec![Vec::new(); lines.len()];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let mut fds: Vec<PollFd<'_>> = lines
            .iter()
            .map(|l| PollFd::new(l.socket.as_fd(), PollFlags::POLLIN))
            .collect();
        // Rounded up, or the last millisecond would be spent spinning.
        let timeout = PollTimeout::try_from(left + Duration::from_millis(1));
        match poll(&mut fds, timeout.unwrap_or(PollTimeout::ZERO)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e).context("wait for the neighbours"),
        }
        for (line, claims) in lines.iter().zip(&mut claims) {
            line.take_claims(claims)?;
        }
    }
    let mut conflicts = ErrorList::new();
    for (line, claims) in lines.iter().zip(claims) {
        for (address, claim) in claims {
            conflicts.push(line.conflict(address, claim));
        }
    }
    Ok(conflicts)
}

fn words(mac: [u8; 6]) -> String {
    let mut text = String::new();
    for (i, byte) in mac.iter().enumerate() {
        let colon = if i == 0 { "" } else { ":" };
        // Writing to a String cannot fail.
        let _ = write!(text, "{colon}{byte:02x}");
    }
    text
}

/// The next frame from the wire for this host; `None` when there is none yet.
fn receive(socket: &OwnedFd) -> Result<Option<Vec<u8>>> {
    let mut frame = vec![0u8; FRAME_BYTES];
    loop {
        // SAFETY: all bytes zero are a sockaddr_ll.
        let mut from: libc::sockaddr_ll = unsafe { mem::zeroed() };
        let mut from_bytes = socket_length::<libc::sockaddr_ll>();
        // SAFETY: buffer and address are ours and as long as it says.
        let got = unsafe {
            libc::recvfrom(
                socket.as_raw_fd(),
                frame.as_mut_ptr().cast(),
                frame.len(),
                0,
                (&raw mut from).cast(),
                &raw mut from_bytes,
            )
        };
        match Errno::result(got) {
            // A VLAN of its own that happens to arrive here, or what a switch flooded.
            Ok(_) if from.sll_pkttype == libc::PACKET_OTHERHOST => {}
            Ok(bytes) => {
                frame.truncate(usize::try_from(bytes).unwrap_or(0));
                return Ok(Some(frame));
            }
            Err(Errno::EINTR) => {}
            // The device went down while we listened: the next question says so.
            Err(Errno::EAGAIN | Errno::ENETDOWN) => return Ok(None),
            Err(e) => return Err(e).context("hear the neighbours"),
        }
    }
}

fn socket_length<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(libc::socklen_t::MAX)
}

fn bind(socket: &OwnedFd, ifindex: u32, protocol: i32) -> Result<()> {
    // SAFETY: all bytes zero are a sockaddr_ll.
    let mut to: libc::sockaddr_ll = unsafe { mem::zeroed() };
    to.sll_family = u16::try_from(libc::AF_PACKET).unwrap_or(0);
    to.sll_protocol = u16::try_from(protocol).unwrap_or(0).to_be();
    to.sll_ifindex = index(ifindex)?;
    // SAFETY: the address is a sockaddr_ll of the length it says.
    let done = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const to).cast(),
            socket_length::<libc::sockaddr_ll>(),
        )
    };
    Errno::result(done).map(drop).context("bind socket")
}

/// NICs filter groups that nobody joined; this membership ends with the socket.
fn join(socket: &OwnedFd, ifindex: u32, group: [u8; 6]) -> Result<()> {
    // SAFETY: all bytes zero are a packet_mreq.
    let mut request: libc::packet_mreq = unsafe { mem::zeroed() };
    request.mr_ifindex = index(ifindex)?;
    request.mr_type = u16::try_from(libc::PACKET_MR_MULTICAST).unwrap_or(0);
    request.mr_alen = 6;
    request.mr_address[..6].copy_from_slice(&group);
    set(
        socket,
        libc::SOL_PACKET,
        libc::PACKET_ADD_MEMBERSHIP,
        &request,
    )
    .context("join group")
}

/// Lets only neighbour solicitations and advertisements through (classic BPF, from the MAC header
/// on), or every IPv6 packet of a busy host would be copied to us.
fn filter(socket: &OwnedFd) -> Result<()> {
    const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
    const IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    let op = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut program = [
        op(LOAD_BYTE, 0, 0, frames::NEXT_HEADER_AT),
        op(IF_EQUAL, 0, 4, u32::from(frames::ICMPV6)),
        op(LOAD_BYTE, 0, 0, frames::TYPE_AT),
        op(IF_EQUAL, 1, 0, u32::from(frames::SOLICITATION)),
        op(IF_EQUAL, 0, 1, u32::from(frames::ADVERTISEMENT)),
        op(RETURN, 0, 0, u32::MAX),
        op(RETURN, 0, 0, 0),
    ];
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).unwrap_or(0),
        filter: program.as_mut_ptr(),
    };
    set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program).context("filter socket")
}

fn set<T>(socket: &OwnedFd, level: i32, name: i32, value: &T) -> std::result::Result<(), Errno> {
    // SAFETY: the kernel reads one T; what a filter points to is alive in the caller.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            socket_length::<T>(),
        )
    };
    Errno::result(done).map(drop)
}

fn index(ifindex: u32) -> Result<i32> {
    i32::try_from(ifindex)
        .map_err(|_| Error::new(Kind::Internal, format!("no device has index {ifindex}")))
}
