//! A container's /etc/resolv.conf: a file of ours over the image's, in the container's own mount
//! namespace, before the runtime makes the image its root. Nothing is written into the image but an
//! empty file where it has none, and nothing stays on the host: the file is unlinked once it is
//! mounted, and goes with the namespace.
//!
//! The image is hostile: its links are followed inside its root only (openat2(2), `RESOLVE_IN_ROOT`),
//! and what is mounted over is the very file that was looked at, by descriptor.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::libc;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{Mode, mkdirat};

use super::netns::Netns;
use super::process::Process;
use crate::error::{Context, Error, Kind, Result};

/// Inside the container.
const PATH: &str = "etc/resolv.conf";

/// include/uapi/linux/mount.h.
const OPEN_TREE_CLONE: u32 = 1;
const OPEN_TREE_CLOEXEC: u32 = 0o2_000_000;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 0x4;
const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;
const MOUNT_ATTR_RDONLY: u64 = 0x1;
const MOUNT_ATTR_NOSUID: u64 = 0x2;
const MOUNT_ATTR_NODEV: u64 = 0x4;
const MOUNT_ATTR_NOEXEC: u64 = 0x8;

/// `STATX_ATTR_MOUNT_ROOT`, include/uapi/linux/stat.h.
const MOUNT_ROOT: u64 = 0x2000;

/// openat2(2) leaves it to the caller to try again. A rename takes the kernel about as long as one
/// try: a neighbour that renames in a loop fails half of them, not this many in a row.
const TRIES: u32 = 1000;

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provided {
    /// The container reads ours.
    Ours,
    /// Somebody mounted another there already, such as `-v FILE:/etc/resolv.conf`.
    Theirs,
    /// The process has no mount namespace of its own: it reads the host's.
    Shared,
    /// The image has no place for it: a link into nowhere, a directory, no /etc on a read-only root.
    NoPlace,
}

/// Mounts a file with this text over the resolv.conf of a container whose process waits for its
/// hooks. `netns` is its network namespace, whose thread goes on into the other one and ends there;
/// `root` is its root as the bundle has it, `dir` a directory of ours for a moment.
///
/// # Errors
/// When the kernel refuses.
pub fn provide(
    process: &Process,
    netns: &mut Netns,
    root: PathBuf,
    dir: &Path,
    text: &str,
) -> Result<Provided> {
    let Some(namespace) = mount_namespace(process)? else {
        return Ok(Provided::Shared);
    };
    let path = dir.join(format!("resolv.tmp-{}", process.pid()));
    let done = detached(&path, text)
        .and_then(|tree| netns.run_last(move || inside(&namespace, &root, tree.as_fd())));
    // Only now: what has no name cannot be mounted any more, and what is mounted needs none.
    let removed = remove(&path);
    done.and_then(|provided| removed.map(|()| provided))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// A mount that is nowhere yet, of a new file.
fn detached(path: &Path, text: &str) -> Result<OwnedFd> {
    let what = || format!("write {}", path.display());
    // What a killed hook left under the name.
    remove(path)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .with_context(what)?;
    file.write_all(text.as_bytes()).with_context(what)?;
    let tree = open_tree(path)?;
    // struct mount_attr: what is set, what is cleared, propagation, a user namespace. Read-only, or
    // the container could fill the host's /run.
    let set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    let attr = [set, 0, 0, 0];
    // SAFETY: an empty path that ends with NUL, and a struct of the size it says; both outlive the
    // call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            size_of_val(&attr),
        )
    };
    Errno::result(done).context("make the mount read-only")?;
    Ok(tree)
}

fn open_tree(path: &Path) -> Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::new(Kind::Internal, "a path with a NUL"))?;
    let flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
    // SAFETY: the path ends with NUL and outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    let fd = Errno::result(fd).context("open_tree")?;
    let fd = i32::try_from(fd)
        .map_err(|_| Error::new(Kind::Internal, "open_tree gave no descriptor"))?;
    // SAFETY: the kernel just made this descriptor; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Of the process; `None` if it is ours, where a mount would be the host's.
fn mount_namespace(process: &Process) -> Result<Option<File>> {
    let path = format!("/proc/{}/ns/mnt", process.pid());
    let theirs = File::open(&path).with_context(|| format!("open {path}"))?;
    process.check_alive()?;
    let ours = File::open("/proc/thread-self/ns/mnt").context("open own mount namespace")?;
    let id = |file: &File| -> Result<(u64, u64)> {
        let stat = nix::sys::stat::fstat(file).context("look at mount namespace")?;
        Ok((stat.st_dev, stat.st_ino))
    };
    let is_ours = id(&theirs)? == id(&ours)?;
    Ok((!is_ours).then_some(theirs))
}

/// On a thread that ends in there.
fn inside(namespace: &File, root: &Path, tree: BorrowedFd<'_>) -> Result<Provided> {
    // A thread that shares its directories with others may not change namespaces.
    unshare(CloneFlags::CLONE_FS).context("unshare")?;
    setns(namespace, CloneFlags::CLONE_NEWNS).context("enter the mount namespace")?;
    let what = format!("open {}", root.display());
    let root = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
        .open(root)
        .context(what)?;
    let target = match place(root.as_fd()) {
        Ok(target) => target,
        Err(
            Errno::ENOENT
            | Errno::ELOOP
            | Errno::ENOTDIR
            | Errno::EROFS
            | Errno::EEXIST
            | Errno::EACCES,
        ) => {
            return Ok(Provided::NoPlace);
        }
        Err(e) => return Err(e).with_context(|| format!("open /{PATH} of the container")),
    };
    match look(target.as_fd()).with_context(|| format!("look at /{PATH} of the container"))? {
        Look::MountPoint => return Ok(Provided::Theirs),
        Look::NoFile => return Ok(Provided::NoPlace),
        Look::File => {}
    }
    // SAFETY: two empty paths that end with NUL, and descriptors that are open.
    let done = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            target.as_raw_fd(),
            c"".as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH,
        )
    };
    Errno::result(done).with_context(|| format!("mount over /{PATH} of the container"))?;
    Ok(Provided::Ours)
}

fn open_in(root: BorrowedFd<'_>, path: &str, flags: OFlag) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .mode(if flags.contains(OFlag::O_CREAT) {
            Mode::from_bits_truncate(0o644)
        } else {
            Mode::empty()
        })
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let mut tries = 1;
    loop {
        match openat2(root, path, how) {
            // A rename anywhere on the host met a `..` of a link.
            Err(Errno::EAGAIN) if tries < TRIES => tries += 1,
            other => return other,
        }
    }
}

/// The file to mount over; made empty, with its directory, where the image has none.
fn place(root: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    match open_in(root, PATH, OFlag::O_PATH) {
        Err(Errno::ENOENT) => {}
        other => return other,
    }
    match mkdirat(root, "etc", Mode::from_bits_truncate(0o755)) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(e) => return Err(e),
    }
    let made = open_in(root, PATH, OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY)?;
    drop(made);
    open_in(root, PATH, OFlag::O_PATH)
}

enum Look {
    File,
    NoFile,
    MountPoint,
}

fn look(target: BorrowedFd<'_>) -> nix::Result<Look> {
    // SAFETY: all bytes zero are a statx.
    let mut found: libc::statx = unsafe { mem::zeroed() };
    // SAFETY: an empty path that ends with NUL, and a statx that is ours to write.
    let done = unsafe {
        libc::statx(
            target.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_TYPE,
            &raw mut found,
        )
    };
    Errno::result(done)?;
    if found.stx_attributes & MOUNT_ROOT != 0 {
        return Ok(Look::MountPoint);
    }
    let kind = u32::from(found.stx_mode) & libc::S_IFMT;
    Ok(if kind == libc::S_IFREG {
        Look::File
    } else {
        Look::NoFile
    })
}
