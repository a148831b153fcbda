//! The engine behind this hook: which program it is and what it calls itself. Judges nothing.
//!
//! Not by the container's annotations, where an image could say otherwise: podman starts a runtime
//! through conmon(8), and names itself as the command to run when the container ends.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::getppid;

use super::process;
use crate::error::{Context, Result};
use crate::types::engine::{PodmanVersion, Program};

/// A process that ends while it is looked at leaves its child to another: the way up is gone once more.
const TRIES: u32 = 8;
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// podman's, if it started this hook.
///
/// # Errors
/// When the program is gone, or /proc does not say: unknown is not harmless.
pub fn podman() -> Result<Option<Program>> {
    let mut tries = 1;
    let found = loop {
        match exit_command_of_ours() {
            Err(_) if tries < TRIES => tries += 1,
            other => break other?,
        }
    };
    let Some(path) = found else {
        return Ok(None);
    };
    let meta = fs::metadata(&path).with_context(|| format!("look at {}", path.display()))?;
    Ok(Some(Program {
        path,
        device: meta.dev(),
        inode: meta.ino(),
        changed: (meta.ctime(), meta.ctime_nsec()),
    }))
}

/// What a podman says, by path or by name. `None` where it says nothing of use.
#[must_use]
pub fn version(podman: &Path) -> Option<PodmanVersion> {
    let output = Command::new(podman)
        .env_clear()
        .env("PATH", PATH)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    PodmanVersion::parse(&String::from_utf8_lossy(&output.stdout))
}

/// Of the nearest among the processes that this one descends from. Only podman has conmon run one.
fn exit_command_of_ours() -> Result<Option<PathBuf>> {
    let mut pid = getppid().as_raw();
    while pid > 1 {
        let path = format!("/proc/{pid}/cmdline");
        let line = fs::read(&path).with_context(|| format!("read {path}"))?;
        if let Some(program) = exit_command(&line) {
            return Ok(Some(program));
        }
        pid = process::parent(pid)?;
    }
    Ok(None)
}

/// The program in a conmon's command line, whose words end with NUL.
fn exit_command(line: &[u8]) -> Option<PathBuf> {
    let mut words = line.split(|b| *b == 0);
    words.find(|w| *w == b"--exit-command")?;
    let path = words.next().filter(|w| w.starts_with(b"/"))?;
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_is_the_command_at_the_end() {
        let line = b"/usr/bin/conmon\0-c\x001234\0--exit-dir\0/run/libpod/exits\0--exit-command\0\
                     /usr/bin/podman\0--exit-command-arg\0--root\0";
        assert_eq!(exit_command(line), Some("/usr/bin/podman".into()));
        assert_eq!(exit_command(b"/usr/bin/conmon\0--exit-command\0"), None);
        assert_eq!(exit_command(b"/usr/bin/conmon\0-c\x001234\0"), None);
    }
}
