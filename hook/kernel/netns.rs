//! Opens a network namespace and runs code inside it without ever moving the caller: the code
//! runs on a thread of its own that enters and then ends. Says nothing about processes
//! (`process.rs`) or devices (`netlink/`).

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::thread;

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::sys::statfs::{FsType, fstatfs};

use super::process::Process;
use crate::error::{Context, Error, Kind, Result};
use crate::types::id::NetnsCookie;

/// `NSFS_MAGIC`, include/uapi/linux/magic.h.
const NSFS_MAGIC: i64 = 0x6e73_6673;

nix::ioctl_none_bad!(
    /// Which kind of namespace this is (`CLONE_NEW*`).
    ns_get_nstype, nix::request_code_none!(0xb7, 0x3)
);

/// An open network namespace; it lives at least as long as this.
#[derive(Debug)]
pub struct Netns {
    fd: OwnedFd,
    cookie: NetnsCookie,
}

impl Netns {
    /// The namespace of a process, checked to be one, and the process checked to be alive after
    /// it was opened: so the pid was not another process's.
    ///
    /// # Errors
    /// [`Kind::BadInput`] when the process is dead, [`Kind::Kernel`] when /proc refuses.
    pub fn of_process(process: &Process) -> Result<Self> {
        let file = File::open(format!("/proc/{}/ns/net", process.pid())).context(format!(
            "open network namespace of process {}",
            process.pid()
        ));
        process.check_alive()?;
        Self::checked(file?.into())
    }

    /// The namespace of this thread.
    ///
    /// # Errors
    /// When /proc is not mounted.
    pub fn own() -> Result<Self> {
        let file = File::open("/proc/thread-self/ns/net").context("open own network namespace")?;
        Self::checked(file.into())
    }

    /// Takes any descriptor, trusts none.
    fn checked(fd: OwnedFd) -> Result<Self> {
        let magic = fstatfs(&fd).context("look at namespace")?.filesystem_type();
        // SAFETY: NS_GET_NSTYPE takes no argument and only reads; fd is open.
        let kind = unsafe { ns_get_nstype(fd.as_raw_fd()) };
        if magic != FsType(NSFS_MAGIC) || kind != Ok(CloneFlags::CLONE_NEWNET.bits()) {
            return Err(Error::new(Kind::BadInput, "not a network namespace"));
        }
        let cookie = inside(fd.as_fd(), own_cookie)?;
        Ok(Self { fd, cookie })
    }

    /// Another handle of the same namespace.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn try_clone(&self) -> Result<Self> {
        Ok(Self {
            fd: self.fd.try_clone().context("duplicate descriptor")?,
            cookie: self.cookie,
        })
    }

    /// What identifies it until reboot.
    #[must_use]
    pub fn cookie(&self) -> NetnsCookie {
        self.cookie
    }

    /// Whether it is the one this thread is in.
    ///
    /// # Errors
    /// When no socket can be made.
    pub fn is_own(&self) -> Result<bool> {
        Ok(own_cookie()? == self.cookie)
    }

    /// Runs `work` inside. The caller's thread stays where it is.
    ///
    /// # Errors
    /// What `work` says, or that the namespace cannot be entered (`CAP_SYS_ADMIN`).
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        inside(self.fd.as_fd(), work)
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Enters on a new thread, which ends afterwards: there is no way back to get wrong.
fn inside<T: Send>(fd: BorrowedFd<'_>, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, || {
                setns(fd, CloneFlags::CLONE_NEWNET).context("enter network namespace")?;
                work()
            });
        match thread.context("start a thread")?.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// The cookie of the namespace this thread is in; needs no privilege.
///
/// # Errors
/// When no socket can be made.
pub fn own_cookie() -> Result<NetnsCookie> {
    let probe = socket(
        AddressFamily::Unix,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .context("make a socket")?;
    let mut cookie = 0u64;
    let mut len = 8u32;
    // SAFETY: the option writes at most `len` = 8 bytes, the size of `cookie`, and `probe` is open.
    let rc = unsafe {
        nix::libc::getsockopt(
            probe.as_raw_fd(),
            nix::libc::SOL_SOCKET,
            nix::libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    };
    nix::errno::Errno::result(rc).context("read SO_NETNS_COOKIE")?;
    Ok(NetnsCookie(cookie))
}
