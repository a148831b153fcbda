//! Programs that are there beside us: each is run to its end, with nothing to read.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::socket::wait;

/// Runs it to its end; what it printed, and how long it took. One that takes longer than `timeout` is
/// an error of the test, which ends us too.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Run {
    argv: Vec<String>,
    timeout: Option<f64>,
}

impl Run {
    pub(crate) fn answer(&self) -> io::Result<Value> {
        let Some((program, args)) = self.argv.split_first() else {
            return Err(io::Error::other("nothing to run"));
        };
        let begun = Instant::now();
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let patience = Duration::from_secs_f64(self.timeout.unwrap_or(30.0));
        let (out, err, status) = match finish(&mut child, Instant::now() + patience) {
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                child.kill()?;
                child.wait()?;
                let text = format!("{:?} takes longer than {patience:?}", self.argv);
                return Err(io::Error::other(text));
            }
            done => done?,
        };
        let seconds = begun.elapsed().as_secs_f64();
        // After signal N it is -N.
        let rc = status.code().or(status.signal().map(|n| -n));
        Ok(json!({
            "ok": status.success(), "rc": rc, "out": text(out)?, "err": text(err)?,
            "seconds": seconds,
        }))
    }
}

/// What it says on standard output and standard error until it says no more, and its status.
fn finish(child: &mut Child, end: Instant) -> io::Result<(Vec<u8>, Vec<u8>, ExitStatus)> {
    let out = child.stdout.take().map(OwnedFd::from);
    let err = child.stderr.take().map(OwnedFd::from);
    let mut pipes = [out, err].map(|source| Pipe {
        source: source.map(File::from),
        said: Vec::new(),
    });
    while pipes.iter().any(|p| p.source.is_some()) {
        read_some(&mut pipes, end)?;
    }
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > end {
            return Err(ErrorKind::TimedOut.into());
        }
        thread::sleep(Duration::from_millis(1));
    };
    let [out, err] = pipes.map(|p| p.said);
    Ok((out, err, status))
}

struct Pipe {
    /// `None` at its end.
    source: Option<File>,
    said: Vec<u8>,
}

fn read_some(pipes: &mut [Pipe], end: Instant) -> io::Result<()> {
    let sources = pipes.iter().filter_map(|p| p.source.as_ref());
    let mut polled: Vec<PollFd> = sources
        .map(|s| PollFd::new(s.as_fd(), PollFlags::POLLIN))
        .collect();
    wait(&mut polled, end)?;
    let ready: Vec<bool> = polled.iter().map(|p| p.any() == Some(true)).collect();
    let open = pipes.iter_mut().filter(|p| p.source.is_some());
    for (pipe, _) in open.zip(ready).filter(|(_, is_ready)| *is_ready) {
        let Some(source) = &mut pipe.source else {
            continue;
        };
        let mut part = [0; 8192];
        match source.read(&mut part)? {
            0 => pipe.source = None,
            size => pipe.said.extend_from_slice(&part[..size]),
        }
    }
    Ok(())
}

/// With one way to end a line, whoever wrote it.
pub(crate) fn text(data: Vec<u8>) -> io::Result<String> {
    let text = String::from_utf8(data).map_err(|e| io::Error::other(e.utf8_error()))?;
    Ok(text.replace("\r\n", "\n").replace('\r', "\n"))
}
