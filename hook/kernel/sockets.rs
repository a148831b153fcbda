//! Which sockets of the host have a port, and whose they are: what `publish` must not take. Looks at
//! /proc of this namespace only when asked.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use procfs::ProcError;
use procfs::net::{TcpState, UdpState};
use procfs::process::{FDTarget, Process, all_processes};

use crate::error::{Error, Kind, Result};
use crate::facts::HostSocket;
use crate::types::publish::Transport;

/// Who has a socket that no process is seen to have: the kernel's own (NFS), or one of a process in
/// the middle of its end.
const NOBODY: &str = "no process that can be seen (the kernel itself?)";

struct Found {
    addr: SocketAddr,
    protocol: Transport,
    inode: u64,
}

/// The sockets that hold one of the ports: TCP that listens, UDP that hears everybody.
///
/// # Errors
/// [`Kind::Kernel`] when /proc cannot be read.
pub fn holding(ports: &[u16]) -> Result<Vec<HostSocket>> {
    if ports.is_empty() {
        return Ok(Vec::new());
    }
    let mut found = all()?;
    found.retain(|f| ports.contains(&f.addr.port()));
    let owners = owners(&found);
    let sockets = found.iter().map(|f| HostSocket {
        addr: plain(f.addr.ip()),
        port: f.addr.port(),
        protocol: f.protocol,
        owner: owners
            .get(&f.inode)
            .map_or(NOBODY, String::as_str)
            .to_owned(),
    });
    Ok(sockets.collect())
}

fn all() -> Result<Vec<Found>> {
    let mut found = Vec::new();
    let tcp = [
        table("tcp", procfs::net::tcp())?,
        table("tcp6", procfs::net::tcp6())?,
    ];
    let listening = tcp.into_iter().flatten();
    let listening = listening.filter(|e| e.state == TcpState::Listen);
    found.extend(listening.map(|e| Found {
        addr: e.local_address,
        protocol: Transport::Tcp,
        inode: e.inode,
    }));
    let udp = [
        table("udp", procfs::net::udp())?,
        table("udp6", procfs::net::udp6())?,
    ];
    let open = udp.into_iter().flatten();
    let open = open.filter(|e| e.state != UdpState::Established);
    found.extend(open.map(|e| Found {
        addr: e.local_address,
        protocol: Transport::Udp,
        inode: e.inode,
    }));
    Ok(found)
}

/// A family that the kernel does not speak has no table.
fn table<T>(name: &str, read: procfs::ProcResult<Vec<T>>) -> Result<Vec<T>> {
    match read {
        Ok(entries) => Ok(entries),
        Err(ProcError::NotFound(_)) => Ok(Vec::new()),
        Err(e) => Err(failed(&format!("/proc/net/{name}"), &e)),
    }
}

fn failed(what: &str, error: &ProcError) -> Error {
    Error::new(Kind::Kernel, format!("read {what}: {error}"))
}

/// By inode. The process that was there first, where several share the socket.
fn owners(found: &[Found]) -> HashMap<u64, String> {
    let mut owners = HashMap::new();
    if found.is_empty() {
        return owners;
    }
    let processes = all_processes().into_iter().flatten();
    for process in processes.filter_map(std::result::Result::ok) {
        // It may end meanwhile.
        let files = process.fd().into_iter().flatten();
        for file in files.filter_map(std::result::Result::ok) {
            if let FDTarget::Socket(inode) = file.target {
                if found.iter().any(|f| f.inode == inode) {
                    owners.entry(inode).or_insert_with(|| words(&process));
                }
            }
        }
    }
    owners
}

fn words(process: &Process) -> String {
    match process.stat() {
        Ok(stat) => format!("{} (pid {})", stat.comm.escape_debug(), process.pid()),
        Err(_) => format!("pid {}", process.pid()),
    }
}

/// An IPv4 address as such.
fn plain(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(addr, IpAddr::V4),
        IpAddr::V4(_) => addr,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    #[test]
    fn what_holds_a_port_is_named_with_its_process() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp = listener.local_addr().unwrap();
        let udp = datagrams.local_addr().unwrap();
        let client = TcpStream::connect(tcp).unwrap();
        let connected = client.local_addr().unwrap();
        let sockets = holding(&[tcp.port(), udp.port(), connected.port()]).unwrap();
        let of = |addr: SocketAddr, protocol| {
            let mut all = sockets.iter();
            all.find(|s| (s.addr, s.port, s.protocol) == (addr.ip(), addr.port(), protocol))
        };
        let owner = format!("(pid {})", std::process::id());
        for (addr, protocol) in [(tcp, Transport::Tcp), (udp, Transport::Udp)] {
            let socket = of(addr, protocol).unwrap();
            assert!(socket.owner.ends_with(&owner), "{socket:?}");
        }
        // A connection holds no port for others.
        assert_eq!(of(connected, Transport::Tcp), None);
        assert!(holding(&[]).unwrap().is_empty());
    }
}
