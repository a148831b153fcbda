//! Sends datagrams as fast as the kernel takes them, a system call for each, so that little but the
//! network stack is measured. For tests/bench/workloads/udp.py, which owns the socket and the clock.
//!
//! `flood SIZE`: standard output is the connected socket; each line on standard input is a number
//! of datagrams to send, answered by `sent` on standard error.

use std::error::Error;
use std::net::UdpSocket;
use std::os::fd::AsFd as _;

fn main() -> Result<(), Box<dyn Error>> {
    let size = std::env::args().nth(1).ok_or("usage: flood SIZE")?;
    let payload = vec![0; size.parse()?];
    let socket = UdpSocket::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    for line in std::io::stdin().lines() {
        for _ in 0..line?.trim().parse::<u32>()? {
            socket.send(&payload)?;
        }
        eprintln!("sent");
    }
    Ok(())
}
