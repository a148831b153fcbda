//! Opens a network namespace and runs code inside it without ever moving the caller: the code
//! runs on a thread of its own that enters and never comes back. Says nothing about processes
//! (`process.rs`) or devices (`netlink/`).

use std::cell::OnceCell;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::sys::statfs::{FsType, fstatfs};

use super::netlink::Netlink;
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
    inside: OnceCell<Inside>,
    netlink: OnceCell<Netlink>,
}

impl Netns {
    /// The namespace of a process, checked to be one, and the process checked to be alive after
    /// it was opened: so the pid was not another process's.
    ///
    /// # Errors
    /// [`Kind::BadInput`] when the process is dead, [`Kind::Kernel`] when /proc refuses.
    pub fn of_process(process: &Process) -> Result<Self> {
        let file = File::open(format!("/proc/{}/ns/net", process.pid()))
            .with_context(|| format!("open network namespace of process {}", process.pid()));
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
        let mut netns = Self {
            fd,
            cookie: NetnsCookie(0),
            inside: OnceCell::new(),
            netlink: OnceCell::new(),
        };
        netns.cookie = netns.run(own_cookie)?;
        Ok(netns)
    }

    /// Another handle of the same namespace, without a thread in it yet.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn try_clone(&self) -> Result<Self> {
        Ok(Self {
            fd: self.fd.try_clone().context("duplicate descriptor")?,
            cookie: self.cookie,
            inside: OnceCell::new(),
            netlink: self.netlink.clone(),
        })
    }

    /// The socket that was opened inside through this handle, or one that is opened now.
    pub(super) fn netlink(&self, open: fn() -> Result<Netlink>) -> Result<Netlink> {
        if let Some(netlink) = self.netlink.get() {
            return Ok(netlink.clone());
        }
        let opened = self.run(open)?;
        Ok(self.netlink.get_or_init(|| opened).clone())
    }

    /// Ends the thread inside, which keeps the capabilities that its starter had. The next
    /// [`Netns::run`] starts another one.
    pub fn leave(&mut self) {
        self.inside.take();
    }

    /// As [`Netns::run`], and nothing runs after it on that thread, which it may take elsewhere.
    ///
    /// # Errors
    /// As [`Netns::run`].
    pub fn run_last<T: Send + 'static>(
        &mut self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let result = self.run(work);
        self.leave();
        result
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

    /// Runs `work` inside and waits for it. The caller's thread stays where it is. A thread costs a
    /// quarter of a millisecond, so there is one for all that is done through this handle.
    ///
    /// # Errors
    /// What `work` says, or that the namespace cannot be entered (`CAP_SYS_ADMIN`).
    pub fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inside = match self.inside.get() {
            Some(inside) => inside,
            None => {
                let started = Inside::start(&self.fd)?;
                self.inside.get_or_init(|| started)
            }
        };
        inside.run(work)
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

type Work = Box<dyn FnOnce() + Send>;

/// A thread inside; it ends when this is dropped.
#[derive(Debug)]
struct Inside {
    work: Option<Sender<Work>>,
    thread: Option<JoinHandle<()>>,
}

impl Inside {
    fn start(namespace: &OwnedFd) -> Result<Self> {
        let namespace = namespace.try_clone().context("duplicate descriptor")?;
        let (work, orders) = channel::<Work>();
        let (entered, answer) = channel();
        let thread = thread::Builder::new().name("netns".into()).spawn(move || {
            let result = setns(&namespace, CloneFlags::CLONE_NEWNET);
            drop(namespace);
            let is_inside = result.is_ok();
            // The starter waits for it.
            let _ = entered.send(result);
            if is_inside {
                orders.into_iter().for_each(|work| work());
            }
        });
        let inside = Self {
            work: Some(work),
            thread: Some(thread.context("start a thread")?),
        };
        match answer.recv() {
            Ok(result) => result.context("enter network namespace")?,
            Err(_) => return Err(ended()),
        }
        Ok(inside)
    }

    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer, result) = channel();
        let work = Box::new(move || {
            // The caller waits for it.
            let _ = answer.send(work());
        });
        let sent = self.work.as_ref().map(|to| to.send(work));
        match sent {
            Some(Ok(())) => result.recv().map_err(|_| ended())?,
            _ => Err(ended()),
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        drop(self.work.take());
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

fn ended() -> Error {
    Error::new(Kind::Internal, "the thread in the network namespace ended")
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
