//! The bpf(2) calls that libbpf-rs does not wrap, or wraps without types. Every call names what
//! it relies on; nothing outside this file passes pointers to the kernel.

use std::ffi::{CString, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use libbpf_sys as raw;
use nix::errno::Errno;

use crate::error::{Context, Error, Kind, Result};

/// What the kernel answered, unless it did what it was asked.
pub(super) type Answer<T> = std::result::Result<T, Errno>;

/// A type whose bytes may be anything: integers and arrays of them, without references.
///
/// # Safety
/// Every bit pattern is a value of the type.
pub(super) unsafe trait Plain: Copy + Default {}

macro_rules! plain {
    ($($name:ty),* $(,)?) => {
        $(
            // SAFETY: made of integers and arrays of integers only (bpf/abi.h).
            unsafe impl Plain for $name {}
        )*
    };
}

use super::skel::types;
plain!(
    u32,
    u64,
    types::nk_settings,
    types::nk_policy_word,
    types::nk_endpoint,
    types::nk_addr_key,
    types::nk_addr,
    types::nk_uplink,
    types::nk_rule_key,
    types::nk_rule,
    types::nk_flow_key,
    types::nk_flow,
    types::nk_local_key,
    types::nk_nat,
    types::nk_published_key,
    types::nk_published,
    types::nk_passed,
    types::nk_dropped,
    types::nk_denied_key,
    types::nk_denied,
    types::nk_name_rule,
    types::nk_learned,
    types::nk_query_key,
    types::nk_query,
    types::nk_resolved,
    types::nk_refused,
    types::nk_name_key,
);

/// Of one map; twice what the largest that is listed can hold.
const MOST_KEYS: usize = 1 << 17;

/// Kind, flags and capacity of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// `BPF_MAP_TYPE_*`.
    pub(super) kind: u32,
    /// Bytes.
    pub(super) key_bytes: u32,
    /// Bytes.
    pub(super) value_bytes: u32,
    /// Elements.
    pub(super) max_entries: u32,
    /// `BPF_F_*`.
    pub(super) flags: u32,
}

/// A map with keys `K` and values `V`; for a per-CPU map, `V` is one CPU's.
#[derive(Debug)]
pub(super) struct Map<K, V> {
    fd: OwnedFd,
    types: PhantomData<fn(K) -> V>,
}

impl<K: Plain, V: Plain> Map<K, V> {
    /// Opens a pinned map.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let what = || format!("open map {}", path.display());
        let fd = obj_get(path).with_context(what)?;
        Self::checked(fd).with_context(what)
    }

    /// Opens the inner map that an outer one names.
    pub(super) fn open_inner(outer: &Map<u32, u32>, key: u32) -> Result<Option<Self>> {
        let what = || format!("open inner map {key}");
        let Some(id) = outer.lookup(&key).with_context(what)? else {
            return Ok(None);
        };
        match map_by_id(id).with_context(what)? {
            Some(fd) => Self::checked(fd).with_context(what).map(Some),
            None => Ok(None),
        }
    }

    /// Creates a map without a pin. Not by libbpf, which loads programs first to find out what every
    /// kernel with netkit can do: name maps and account their memory to a cgroup.
    pub(super) fn create(name: &str, kind: u32, max_entries: u32, flags: u32) -> Result<Self> {
        let mut fields = raw::bpf_attr__bindgen_ty_1 {
            map_type: kind,
            key_size: bytes::<K>(),
            value_size: bytes::<V>(),
            max_entries,
            map_flags: flags,
            ..Default::default()
        };
        // The last byte stays 0 (BPF_OBJ_NAME_LEN counts it).
        let (_, room) = fields.map_name.split_last_mut().unzip();
        for (to, from) in room.into_iter().flatten().zip(name.bytes()) {
            *to = c_char::from_ne_bytes([from]);
        }
        let mut attr = raw::bpf_attr::default();
        attr.__bindgen_anon_1 = fields;
        // SAFETY: BPF_MAP_CREATE reads `attr`, of the size that is given and zeroed beyond the fields,
        // and has no pointers in them.
        let fd = unsafe {
            nix::libc::syscall(
                nix::libc::SYS_bpf,
                raw::BPF_MAP_CREATE,
                &raw const attr,
                size_of::<raw::bpf_attr>(),
            )
        };
        let fd = Errno::result(fd).with_context(|| format!("create map {name}"))?;
        let fd = c_int::try_from(fd)
            .map_err(|_| Error::new(Kind::Internal, "bpf(2) gave no descriptor"))?;
        Ok(Self {
            // SAFETY: the kernel just made this descriptor (close-on-exec); nobody else has it.
            fd: unsafe { OwnedFd::from_raw_fd(fd) },
            types: PhantomData,
        })
    }

    /// Keys and values of another size than the types' would make the kernel read and write
    /// beyond them.
    fn checked(fd: OwnedFd) -> Result<Self> {
        let shape = shape(fd.as_fd())?;
        if (shape.key_bytes, shape.value_bytes) != (bytes::<K>(), bytes::<V>()) {
            return Err(Error::new(
                Kind::Internal,
                format!(
                    "has keys of {} and values of {} bytes",
                    shape.key_bytes, shape.value_bytes
                ),
            ));
        }
        Ok(Self {
            fd,
            types: PhantomData,
        })
    }

    pub(super) fn lookup(&self, key: &K) -> Answer<Option<V>> {
        let mut value = V::default();
        // SAFETY: key and value have the map's sizes (checked when opened or created); for a
        // per-CPU map `lookup_cpus` is used instead.
        let rc = unsafe {
            raw::bpf_map_lookup_elem(self.raw(), ptr(key), (&raw mut value).cast::<c_void>())
        };
        match answer(rc) {
            Ok(_) => Ok(Some(value)),
            Err(Errno::ENOENT) => Ok(None),
            Err(e) => Err(e),
        }
    }

    pub(super) fn update(&self, key: &K, value: &V) -> Answer<()> {
        // SAFETY: key and value have the map's sizes (checked when opened or created).
        let rc = unsafe { raw::bpf_map_update_elem(self.raw(), ptr(key), ptr(value), 0) };
        answer(rc).map(drop)
    }

    /// Writes an element that is there; false if it is not.
    pub(super) fn replace(&self, key: &K, value: &V) -> Answer<bool> {
        let flags = raw::BPF_EXIST.into();
        // SAFETY: key and value have the map's sizes (checked when opened or created).
        let rc = unsafe { raw::bpf_map_update_elem(self.raw(), ptr(key), ptr(value), flags) };
        match answer(rc) {
            Ok(_) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Removes an element; true if it was there.
    pub(super) fn delete(&self, key: &K) -> Answer<bool> {
        // SAFETY: key has the map's size (checked when opened or created).
        let rc = unsafe { raw::bpf_map_delete_elem(self.raw(), ptr(key)) };
        match answer(rc) {
            Ok(_) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// All keys, in no order. What comes or goes meanwhile may be missed or seen twice: after a key
    /// that has gone the kernel begins anew, so there is an end to how many are taken.
    pub(super) fn keys(&self) -> Answer<Vec<K>> {
        let mut keys = Vec::new();
        let mut next = K::default();
        loop {
            if keys.len() > MOST_KEYS {
                return Ok(keys);
            }
            let last = keys.last().map_or(std::ptr::null(), ptr);
            // SAFETY: `last` is null, for the first one, or a key; `next` has a key's size (checked
            // when opened or created).
            let rc = unsafe {
                raw::bpf_map_get_next_key(self.raw(), last, (&raw mut next).cast::<c_void>())
            };
            match answer(rc) {
                Ok(_) => keys.push(next),
                Err(Errno::ENOENT) => return Ok(keys),
                Err(e) => return Err(e),
            }
        }
    }

    /// Writes many elements; one grace period for all where each would wait for one.
    pub(super) fn update_many(&self, keys: &[K], values: &[V]) -> Answer<()> {
        assert_eq!(keys.len(), values.len());
        if keys.is_empty() {
            return Ok(());
        }
        let mut count = u32::try_from(keys.len()).map_err(|_| Errno::E2BIG)?;
        let opts = batch_opts();
        // SAFETY: both arrays hold `count` elements of the map's sizes and are only read.
        let rc = unsafe {
            raw::bpf_map_update_batch(
                self.raw(),
                keys.as_ptr().cast::<c_void>(),
                values.as_ptr().cast::<c_void>(),
                &raw mut count,
                &raw const opts,
            )
        };
        match answer(rc) {
            Ok(_) => Ok(()),
            // ENOTSUPP of the kernel's own, not known to user space: this map type has no batches.
            Err(Errno::EOPNOTSUPP | Errno::EINVAL | Errno::UnknownErrno) => keys
                .iter()
                .zip(values)
                .try_for_each(|(k, v)| self.update(k, v)),
            Err(e) => Err(e),
        }
    }

    /// The values of all CPUs.
    pub(super) fn lookup_cpus(&self, key: &K) -> Answer<Option<Vec<V>>> {
        let cpus = cpus()?;
        let words = bytes::<V>().div_ceil(8) as usize;
        let mut buffer = vec![0u64; words * cpus];
        // SAFETY: the kernel writes the value, rounded up to 8 bytes, once for each possible CPU.
        let rc = unsafe {
            raw::bpf_map_lookup_elem(self.raw(), ptr(key), buffer.as_mut_ptr().cast::<c_void>())
        };
        match answer(rc) {
            Ok(_) => {}
            Err(Errno::ENOENT) => return Ok(None),
            Err(e) => return Err(e),
        }
        let values = buffer.chunks_exact(words).map(|chunk| {
            // SAFETY: the chunk is at least as long as V, and V is Plain.
            unsafe { chunk.as_ptr().cast::<V>().read_unaligned() }
        });
        Ok(Some(values.collect()))
    }

    /// Writes zero for all CPUs.
    pub(super) fn zero_cpus(&self, key: &K) -> Answer<()> {
        let words = bytes::<V>().div_ceil(8) as usize;
        let zeros = vec![0u64; words * cpus()?];
        // SAFETY: the kernel reads the value, rounded up to 8 bytes, once for each possible CPU.
        let rc = unsafe {
            raw::bpf_map_update_elem(self.raw(), ptr(key), zeros.as_ptr().cast::<c_void>(), 0)
        };
        answer(rc).map(drop)
    }

    fn raw(&self) -> c_int {
        self.fd.as_raw_fd()
    }
}

impl<K, V> AsFd for Map<K, V> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl<K, V> Map<K, V> {
    /// The number by which an outer map takes an inner one.
    pub(super) fn as_value(&self) -> u32 {
        u32::try_from(self.fd.as_raw_fd()).unwrap_or(u32::MAX)
    }
}

/// Kind, sizes and flags of a map.
pub(super) fn shape(map: BorrowedFd<'_>) -> Result<Shape> {
    let mut info = raw::bpf_map_info::default();
    let mut len = bytes::<raw::bpf_map_info>();
    // SAFETY: `info` is `len` bytes of initialised memory that the kernel may write.
    let rc = unsafe { raw::bpf_map_get_info_by_fd(map.as_raw_fd(), &raw mut info, &raw mut len) };
    answer(rc).context("look at map")?;
    Ok(Shape {
        kind: info.type_,
        key_bytes: info.key_size,
        value_bytes: info.value_size,
        max_entries: info.max_entries,
        flags: info.map_flags,
    })
}

/// Opens a map by `bpf_map_info.id`, which is what an outer map's lookup gives; `None` if it was
/// replaced or removed since.
pub(super) fn map_by_id(id: u32) -> Answer<Option<OwnedFd>> {
    // SAFETY: takes a number and gives a descriptor.
    match owned(unsafe { raw::bpf_map_get_fd_by_id(id) }) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::ENOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

/// What a map takes of the kernel's memory, bytes, as the kernel counts it: `memlock` of its
/// descriptor in /proc (kernel/bpf/syscall.c, bpf_map_show_fdinfo). A trie's inner nodes are not in it.
pub(super) fn memory_bytes(map: BorrowedFd<'_>) -> Result<u64> {
    let path = format!("/proc/self/fdinfo/{}", map.as_raw_fd());
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let value = text.lines().find_map(|l| l.strip_prefix("memlock:"));
    value
        .and_then(|v| v.trim().parse().ok())
        .ok_or_else(|| Error::new(Kind::Kernel, format!("{path} names no memory")))
}

/// Opens what is pinned at a path.
pub(super) fn obj_get(path: &Path) -> Answer<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: `path` ends with NUL and outlives the call.
    owned(unsafe { raw::bpf_obj_get(path.as_ptr()) })
}

/// Pins an object.
pub(super) fn obj_pin(object: BorrowedFd<'_>, path: &Path) -> Answer<()> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: `path` ends with NUL and outlives the call; the descriptor is borrowed.
    answer(unsafe { raw::bpf_obj_pin(object.as_raw_fd(), path.as_ptr()) }).map(drop)
}

/// `bpf_prog_info.id`.
pub(super) fn program_id(program: BorrowedFd<'_>) -> Answer<u32> {
    let mut info = raw::bpf_prog_info::default();
    let mut len = bytes::<raw::bpf_prog_info>();
    // SAFETY: `info` is `len` bytes of zeroes: no buffers are offered, so only it is written.
    let rc =
        unsafe { raw::bpf_prog_get_info_by_fd(program.as_raw_fd(), &raw mut info, &raw mut len) };
    answer(rc).map(|_| info.id)
}

/// Which program a link of a device runs, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkInfo {
    /// `bpf_prog_info.id`.
    pub(super) program_id: u32,
    /// 0 once the device is gone; of a cgroup's link, 0 once the cgroup is.
    pub(super) ifindex: u32,
}

/// Looks at a tcx, netkit or cgroup link.
pub(super) fn link_info(link: BorrowedFd<'_>) -> Answer<LinkInfo> {
    let mut info = raw::bpf_link_info::default();
    let mut len = bytes::<raw::bpf_link_info>();
    // SAFETY: `info` is `len` bytes of zeroes: no buffers are offered, so only it is written.
    let rc = unsafe { raw::bpf_link_get_info_by_fd(link.as_raw_fd(), &raw mut info, &raw mut len) };
    answer(rc)?;
    // SAFETY: the memory was zeroed, so the field is initialised whatever kind of link it is; it
    // begins the union for tcx and netkit alike, as the low half of the id does for a cgroup.
    let ifindex = unsafe { info.__bindgen_anon_1.tcx.ifindex };
    Ok(LinkInfo {
        program_id: info.prog_id,
        ifindex,
    })
}

/// Attaches a program to a device of this thread's namespace. `kind` is BPF_TCX_* or BPF_NETKIT_*;
/// `flags` BPF_F_BEFORE and such.
pub(super) fn link_create(
    program: BorrowedFd<'_>,
    ifindex: u32,
    kind: u32,
    flags: u32,
) -> Answer<OwnedFd> {
    let opts = raw::bpf_link_create_opts {
        sz: size_of::<raw::bpf_link_create_opts>() as raw::size_t,
        flags,
        ..Default::default()
    };
    let target = c_int::try_from(ifindex).map_err(|_| Errno::ENODEV)?;
    // SAFETY: `opts` is initialised, with no relative link or program, and outlives the call.
    owned(unsafe { raw::bpf_link_create(program.as_raw_fd(), target, kind, &raw const opts) })
}

/// Attaches a program to a cgroup. `kind` is BPF_CGROUP_*.
pub(super) fn link_create_on(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    kind: u32,
) -> Answer<OwnedFd> {
    // SAFETY: both descriptors are borrowed; no options.
    owned(unsafe {
        raw::bpf_link_create(
            program.as_raw_fd(),
            cgroup.as_raw_fd(),
            kind,
            std::ptr::null(),
        )
    })
}

/// Makes a link run another program, with no packet in between unseen.
pub(super) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Answer<()> {
    // SAFETY: both descriptors are borrowed; no options.
    let rc =
        unsafe { raw::bpf_link_update(link.as_raw_fd(), program.as_raw_fd(), std::ptr::null()) };
    answer(rc).map(drop)
}

/// Detaches at once, whoever else holds the link.
pub(super) fn link_detach(link: BorrowedFd<'_>) -> Answer<()> {
    // SAFETY: the descriptor is borrowed.
    answer(unsafe { raw::bpf_link_detach(link.as_raw_fd()) }).map(drop)
}

fn cpus() -> Answer<usize> {
    // SAFETY: takes nothing, reads /sys.
    let count = unsafe { raw::libbpf_num_possible_cpus() };
    answer(count).and_then(|n| usize::try_from(n).map_err(|_| Errno::EINVAL))
}

fn batch_opts() -> raw::bpf_map_batch_opts {
    raw::bpf_map_batch_opts {
        sz: size_of::<raw::bpf_map_batch_opts>() as raw::size_t,
        ..Default::default()
    }
}

fn ptr<T>(value: &T) -> *const c_void {
    (value as *const T).cast::<c_void>()
}

fn bytes<T>() -> u32 {
    u32::try_from(size_of::<T>()).unwrap_or(u32::MAX)
}

/// libbpf answers with a negative error number.
fn answer(rc: c_int) -> Answer<c_int> {
    if rc < 0 {
        Err(Errno::from_raw(-rc))
    } else {
        Ok(rc)
    }
}

fn owned(fd: c_int) -> Answer<OwnedFd> {
    // SAFETY: a descriptor that libbpf just returned is open and nobody else's.
    answer(fd).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}
