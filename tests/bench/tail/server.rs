//! The server in a container: a thread per connection, eight small writes for each request, so that
//! an answer is several packets. Knows nothing of time.

use std::error::Error;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

use crate::{REQUEST_BYTES, WRITE_BYTES, WRITES};

/// Says `ready` on standard output when it listens; ends only by a signal.
pub(crate) fn serve(port: u16) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    println!("ready");
    for stream in listener.incoming() {
        let stream = stream?;
        stream.set_nodelay(true)?;
        // A client that goes away is no fault of ours.
        thread::spawn(move || drop(answer(stream)));
    }
    Ok(())
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = [0; REQUEST_BYTES];
    let part = [0; WRITE_BYTES];
    loop {
        stream.read_exact(&mut request)?;
        for _ in 0..WRITES {
            stream.write_all(&part)?;
        }
    }
}
