//! The programs of the tail latency benchmark: lean, so that the network is most of what is measured.
//!
//! `tail serve PORT` answers requests in a container, `tail hog` keeps a CPU busy beside it, and
//! `tail client PORT` takes orders of the guest on the wire machine (client.py).

mod client;
mod host_cpu;
mod server;
mod tcp;

use std::error::Error;

/// What crosses the wire: a request of so many bytes is answered by so many writes of so many.
const REQUEST_BYTES: usize = 64;
const WRITES: usize = 8;
const WRITE_BYTES: usize = 1200;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["serve", port] => server::serve(port.parse()?),
        ["hog"] => loop {
            std::hint::spin_loop();
        },
        ["client", port] => client::serve(port.parse()?),
        _ => Err("usage: tail serve PORT | hog | client PORT".into()),
    }
}
