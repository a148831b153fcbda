//! Runs as a container's only process and does there what a test asks for.
//!
//! One JSON object per line on standard input, one answer per line on standard output; ends with its
//! input. One process for a whole test, since a program started in an emulated guest costs more than
//! everything it then does: hence no interpreter either. Owns no expectation: whether an answer is
//! right is for the test to say. Client: tests/rig/container.rs.

mod flows;
mod heard;
mod packet;
mod probes;
mod program;
mod socket;
mod tcp;
mod udp;

use std::fs::{self, File};
use std::io::{self, BufRead as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use nix::errno::Errno;
use serde::Deserialize;
use serde_json::{Value, json};

/// What a test may ask for.
#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
enum Request {
    Tcp(tcp::Exchange),
    OpenTcp(tcp::Open),
    Say(tcp::Say),
    Upload(tcp::Upload),
    Download(tcp::Download),
    Udp(udp::Exchange),
    SendSizes(udp::Sizes),
    Ping(udp::Ping),
    Probes(probes::Probes),
    Flows(flows::Flows),
    Listen(heard::Listen),
    TakeHeard(heard::Take),
    Sniff(packet::Sniff),
    Raw(packet::Raw),
    Run(program::Run),
    Read { path: PathBuf },
    Devices {},
}

impl Request {
    fn answer(self, kept: &mut tcp::Kept) -> io::Result<Value> {
        match self {
            Self::Tcp(request) => request.answer(),
            Self::OpenTcp(request) => request.answer(kept),
            Self::Say(request) => request.answer(kept),
            Self::Upload(request) => request.answer(),
            Self::Download(request) => request.answer(),
            Self::Udp(request) => request.answer(),
            Self::SendSizes(request) => request.answer(),
            Self::Ping(request) => request.answer(),
            Self::Probes(request) => Ok(request.answer()),
            Self::Flows(request) => request.answer(),
            Self::Listen(request) => request.answer(),
            Self::TakeHeard(request) => Ok(request.answer()),
            Self::Sniff(request) => request.answer(),
            Self::Raw(request) => request.answer(),
            Self::Run(request) => request.answer(),
            Self::Read { path } => Ok(reply(program::text(fs::read(path)?)?)),
            Self::Devices {} => devices(),
        }
    }
}

fn reply(text: impl Into<String>) -> Value {
    json!({"ok": true, "reply": text.into()})
}

/// The name of the errno, or "timeout"; `None` if it is not the system that failed, but the request.
fn failure(error: &io::Error) -> Option<String> {
    if error.kind() == io::ErrorKind::TimedOut {
        return Some("timeout".into());
    }
    let errno = Errno::from_raw(error.raw_os_error()?);
    Some(format!("{errno:?}"))
}

fn devices() -> io::Result<Value> {
    let devices = nix::net::if_::if_nameindex()?;
    let mut names: Vec<String> = devices
        .iter()
        .map(|d| d.name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    Ok(reply(names.join(" ")))
}

fn answer(line: &str, kept: &mut tcp::Kept) -> io::Result<Value> {
    let request: Request = serde_json::from_str(line)?;
    request.answer(kept).or_else(|error| match failure(&error) {
        Some(name) => Ok(json!({"ok": false, "error": name})),
        None => Err(error),
    })
}

fn main() -> io::Result<()> {
    let mut out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    // Whatever a child prints must not look like an answer.
    nix::unistd::dup2_stdout(io::stderr())?;
    let mut say = |answer: Value| out.write_all(format!("{answer}\n").as_bytes());
    say(json!({"ok": true, "ready": true}))?;
    let mut kept = tcp::Kept::new();
    for line in io::stdin().lock().lines() {
        say(answer(&line?, &mut kept)?)?;
    }
    Ok(())
}
