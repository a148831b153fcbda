//! The container's init process: held by a pidfd, asked for liveness, start time, user namespace
//! and the capabilities it is going to have. Judges nothing. Its network namespace: `netns.rs`.

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use oci_spec::runtime::{
    Capability, LinuxCapabilities, LinuxNamespace, LinuxNamespaceType, Mount, Root,
};
use serde::Deserialize;

use crate::error::{Context, Error, Kind, Result};

/// Inode of the initial user namespace: `PROC_USER_INIT_INO`, include/linux/proc_ns.h.
const INITIAL_USER_NAMESPACE: &str = "user:[4026531837]";
/// More than any sane config.json.
const MAX_CONFIG_BYTES: u64 = 8 << 20;

/// A process that cannot be confused with a later one of the same pid.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    fd: OwnedFd,
}

impl Process {
    /// Takes hold of a process.
    ///
    /// # Errors
    /// [`Kind::BadInput`] for a pid that is none (the runtime gave 0, or a negative one) or that
    /// has ended.
    pub fn open(pid: i32) -> Result<Self> {
        if pid <= 0 {
            return Err(Error::new(
                Kind::BadInput,
                format!("pid {pid} in the container's state is not a process"),
            ));
        }
        // SAFETY: pidfd_open takes two integers and touches no memory of ours.
        let fd = unsafe { nix::libc::syscall(nix::libc::SYS_pidfd_open, pid, 0) };
        match Errno::result(fd) {
            Ok(fd) => {
                let fd = i32::try_from(fd)
                    .map_err(|_| Error::new(Kind::Internal, "pidfd_open gave no descriptor"))?;
                // SAFETY: the kernel just made this descriptor (close-on-exec); nobody else has it.
                let fd = unsafe { OwnedFd::from_raw_fd(fd) };
                let process = Self { pid, fd };
                process.check_alive()?;
                Ok(process)
            }
            // ENOENT and EINVAL: the pid is a thread's, or gone.
            Err(Errno::ESRCH | Errno::ENOENT | Errno::EINVAL) => Err(ended(pid)),
            Err(e) => Err(e).with_context(|| format!("pidfd_open {pid}")),
        }
    }

    /// The number, in this pid namespace.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Says whether it still runs; a zombie does not.
    ///
    /// # Errors
    /// When the descriptor cannot be polled.
    pub fn is_alive(&self) -> Result<bool> {
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut fds, PollTimeout::ZERO).context("poll pidfd")?;
        Ok(ready == 0)
    }

    /// As [`Process::is_alive`], as an error.
    ///
    /// # Errors
    /// [`Kind::BadInput`] when it has ended.
    pub fn check_alive(&self) -> Result<()> {
        if self.is_alive()? {
            Ok(())
        } else {
            Err(ended(self.pid))
        }
    }

    /// Field 22 of /proc/PID/stat: clock ticks between boot and its start.
    ///
    /// # Errors
    /// When it has ended.
    pub fn start_time(&self) -> Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.pid));
        self.check_alive()?;
        let text = text.with_context(|| format!("read /proc/{}/stat", self.pid))?;
        start_time(&text)
            .ok_or_else(|| Error::new(Kind::Kernel, format!("/proc/{}/stat is odd", self.pid)))
    }

    /// Whether it is in another user namespace than this process.
    ///
    /// # Errors
    /// When /proc refuses.
    pub fn has_user_namespace(&self) -> Result<bool> {
        let theirs = fs::read_link(format!("/proc/{}/ns/user", self.pid));
        self.check_alive()?;
        let theirs =
            theirs.with_context(|| format!("read user namespace of process {}", self.pid))?;
        let own = fs::read_link("/proc/self/ns/user").context("read own user namespace")?;
        Ok(theirs != own)
    }
}

/// Whether the process that had this pid and start time has ended.
#[must_use]
pub fn is_dead(pid: i32, start: u64) -> bool {
    if is_running(pid, start) {
        return false;
    }
    match Process::open(pid) {
        Ok(process) => process
            .start_time()
            .map_or_else(|e| e.kind() == Kind::BadInput, |t| t != start),
        // Only what is surely gone is dead: an endpoint of a live container must not be reaped.
        Err(e) => e.kind() == Kind::BadInput,
    }
}

/// What one read tells of nearly all that a start asks for, each container there is. `false` proves
/// nothing: /proc may be elsewhere, and the first thread may have ended before the others.
fn is_running(pid: i32, start: u64) -> bool {
    let mut text = [0; 1024];
    let size = fs::File::open(format!("/proc/{pid}/stat")).and_then(|mut f| f.read(&mut text));
    // A name may be any bytes.
    let text = String::from_utf8_lossy(&text[..size.unwrap_or(0)]);
    let runs = |state: char| !matches!(state, 'Z' | 'X' | 'x');
    start_time(&text) == Some(start) && field(&text, 3).is_some_and(runs)
}

fn ended(pid: i32) -> Error {
    Error::new(Kind::BadInput, format!("process {pid} has ended"))
}

/// Pid of a process's parent; 0 or 1 above the first of this pid namespace.
///
/// # Errors
/// When it has ended.
pub fn parent(pid: i32) -> Result<i32> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    field(&text, 4).ok_or_else(|| Error::new(Kind::Kernel, format!("{path} is odd")))
}

fn start_time(stat: &str) -> Option<u64> {
    field(stat, 22)
}

/// Number out of the text of a stat file, by its place in proc_pid_stat(5). The name may hold blanks
/// and parentheses, so fields are counted from the last closing one.
fn field<T: FromStr>(stat: &str, number: usize) -> Option<T> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    fields.nth(number.checked_sub(3)?)?.parse().ok()
}

/// Has the threads of this process share one heap. They live for a moment, and one of its own (glibc,
/// mallopt(3)) costs each more than what it allocates.
pub fn share_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes two numbers. A refusal leaves things as they are.
    unsafe {
        nix::libc::mallopt(nix::libc::M_ARENA_MAX, 1);
    }
}

/// This process is in the host's own user namespace.
///
/// # Errors
/// When /proc is not mounted.
pub fn in_initial_user_namespace() -> Result<bool> {
    let link = fs::read_link("/proc/self/ns/user").context("read own user namespace")?;
    if link.as_os_str() != INITIAL_USER_NAMESPACE {
        return Ok(false);
    }
    // A pid namespace of a sandbox can show the link and still map ids.
    let map = fs::read_to_string("/proc/self/uid_map").context("read /proc/self/uid_map")?;
    Ok(is_identity(&map))
}

/// The uid map of the initial user namespace: everything onto itself.
fn is_identity(map: &str) -> bool {
    map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

/// The parts of config.json (runtime-spec, config.md) that are asked for. `oci_spec::runtime::Spec`
/// checks some of the others by regular expressions, whose tables cost every start of this program
/// half a millisecond.
#[derive(Debug, Deserialize)]
struct Bundle {
    process: Option<BundleProcess>,
    root: Option<Root>,
    mounts: Option<Vec<Mount>>,
    linux: Option<BundleLinux>,
}

#[derive(Debug, Deserialize)]
struct BundleProcess {
    capabilities: Option<LinuxCapabilities>,
}

#[derive(Debug, Deserialize)]
struct BundleLinux {
    namespaces: Option<Vec<LinuxNamespace>>,
}

/// What the bundle's config.json says that /proc does not tell yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleFacts {
    /// Capabilities that let the container change network devices or load BPF: the runtime's stub
    /// has not dropped the others yet.
    pub bypass_capabilities: Vec<String>,
    /// The engine prepared name resolution for a namespace that it makes itself: it is going to
    /// configure a network there. With `--network none` podman prepares none.
    pub expects_network: bool,
    /// The container's root file system.
    pub root: PathBuf,
}

/// Reads config.json. The bundle can change under us; what it says here only ever makes the start
/// fail or adds a guard, never grants anything.
///
/// # Errors
/// [`Kind::BadInput`] when there is no config.json that can be read: unknown is not harmless.
pub fn bundle_facts(bundle: &Path) -> Result<BundleFacts> {
    let path = bundle.join("config.json");
    let what = || format!("read {}", path.display());
    let mut text = String::new();
    fs::File::open(&path)
        .and_then(|f| f.take(MAX_CONFIG_BYTES).read_to_string(&mut text))
        .map_err(|e| Error::new(Kind::BadInput, e.to_string()).with_context(what()))?;
    let spec: Bundle = serde_json::from_str(&text)
        .map_err(|e| Error::new(Kind::BadInput, e.to_string()).with_context(what()))?;
    Ok(BundleFacts {
        bypass_capabilities: dangerous(&spec),
        expects_network: makes_own_namespace(&spec) && has_prepared_resolv_conf(&spec),
        // Relative to the bundle, if it is relative (runtime-spec, config.md, Root).
        root: bundle.join(spec.root.as_ref().map_or(Path::new("rootfs"), |r| r.path())),
    })
}

/// The network namespace is made by the runtime, not joined by path.
fn makes_own_namespace(spec: &Bundle) -> bool {
    let namespaces = spec.linux.as_ref().and_then(|l| l.namespaces.as_ref());
    namespaces.into_iter().flatten().any(|n| {
        n.typ() == LinuxNamespaceType::Network
            && n.path().as_ref().is_none_or(|p| p.as_os_str().is_empty())
    })
}

/// podman mounts the resolv.conf that it writes into its own directory of the container.
fn has_prepared_resolv_conf(spec: &Bundle) -> bool {
    spec.mounts.iter().flatten().any(|m| {
        m.destination() == Path::new("/etc/resolv.conf")
            && m.source()
                .as_ref()
                .is_some_and(|s| s.ends_with("userdata/resolv.conf"))
    })
}

fn dangerous(spec: &Bundle) -> Vec<String> {
    let Some(process) = &spec.process else {
        return Vec::new();
    };
    // Without the key the runtime leaves all capabilities it has itself.
    let Some(sets) = &process.capabilities else {
        return vec!["CAP_NET_ADMIN".into(), "CAP_SYS_ADMIN".into()];
    };
    let all = [
        sets.bounding(),
        sets.effective(),
        sets.permitted(),
        sets.inheritable(),
        sets.ambient(),
    ];
    let has = |c: Capability| {
        all.iter()
            .any(|set| set.as_ref().is_some_and(|s| s.contains(&c)))
    };
    let listed = [
        (Capability::NetAdmin, "CAP_NET_ADMIN"),
        (Capability::SysAdmin, "CAP_SYS_ADMIN"),
    ];
    listed
        .iter()
        .filter(|(c, _)| has(*c))
        .map(|(_, name)| (*name).to_owned())
        .collect()
}

#[cfg(test)]
mod tests;
