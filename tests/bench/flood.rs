//! Sends and takes datagrams as fast as the kernel does, a system call for each, so that little but
//! the network stack is measured. For tests/bench/workloads/udp.py, which owns the socket and the
//! clock.
//!
//! Standard output is the socket. Each line on standard input is a number of datagrams, answered on
//! standard error.
//!
//! `flood send SIZE` sends so many to where the socket is connected to; answers `sent`.
//!
//! `flood take WINDOW` takes so many, fewer if one of a single byte comes, which says that this was all;
//! answers with the number. Lets the sender know by one byte after each window (0: never), and by two
//! in the end.

use std::error::Error;
use std::io::{self, BufRead as _};
use std::net::UdpSocket;
use std::os::fd::AsFd as _;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<_> = std::env::args().collect();
    let [_, verb, value] = &args[..] else {
        return Err("usage: flood send SIZE | flood take WINDOW".into());
    };
    let value: usize = value.parse()?;
    let socket = UdpSocket::from(io::stdout().as_fd().try_clone_to_owned()?);
    for line in io::stdin().lock().lines() {
        let count = line?.trim().parse()?;
        if verb == "send" {
            let payload = vec![0; value];
            for _ in 0..count {
                socket.send(&payload)?;
            }
            eprintln!("sent");
        } else {
            eprintln!("{}", take(&socket, count, value)?);
        }
    }
    Ok(())
}

fn take(socket: &UdpSocket, count: usize, window: usize) -> io::Result<usize> {
    let mut buffer = [0; 2048];
    let mut taken = 0;
    while taken < count && socket.recv(&mut buffer)? != 1 {
        taken += 1;
        if window != 0 && taken % window == 0 {
            socket.send(&[0])?;
        }
    }
    if window != 0 {
        socket.send(&[0; 2])?;
    }
    Ok(taken)
}
