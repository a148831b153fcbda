//! oci-netkit: an OCI hook that gives a container a netkit network which does only what its rules
//! say.
//!
//! # Four layers
//!
//! **Front-ends translate, `plan/` decides, `apply/` does, `kernel/` touches.** Imports go downward
//! only (`tests/layering.rs` reads them):
//!
//! - [`roles`]: the OCI hook and the command line. Each turns its dialect into a
//!   [`request::Request`], or a question into a read-only [`inspect`] view.
//! - [`plan`]: request + [`config`] + [`facts`] → a list of [`plan::step::Step`], or *all* reasons
//!   why not. Pure: no I/O, no clock, no randomness. Everything this program can do to a host is
//!   that one enum.
//! - [`apply`]: runs the steps in order, with the undo of each in a journal before the step runs;
//!   takes them back newest first when one fails.
//! - [`kernel`]: one file per kind of kernel object: rtnetlink, namespaces, sysctls, bpffs, BPF
//!   programs and maps. [`state`] is its twin for files under /run, and for the few that
//!   outlive the boot.
//!
//! `bpf/` holds the programs; `bpf/abi.h` is everything both sides agree on.
//!
//! # Life of a container
//!
//! 1. The runtime has made the namespaces and calls `hook create` with the state on standard input
//!    ([`roles::oci_hook`]). The process is held by a pidfd, its namespace by a descriptor.
//! 2. The plan is made against what is known, so that what cannot work is refused before anything
//!    is touched; it is made again under the ledger lock if that has changed meanwhile, and there it
//!    reserves an id and addresses.
//! 3. The steps: programs and maps if they are not loaded yet; from_wire on the uplinks; the pair,
//!    born in the namespace, both policies *blackhole*; the maps; the links, pinned; addresses,
//!    devices up, routes; last the addresses enter the map that packets are delivered by.
//! 4. The hook exits. The kernel goes on alone.
//! 5. `hook poststop` takes the endpoint down when its last member's process has ended.
//!
//! # What survives a crash, and who cleans it up
//!
//! Until the programs are attached the pair drops everything, so a hook killed at any instruction
//! leaves a container without network, never one without rules. What it left on the host is listed
//! in its journal and taken away by the next create, or by `gc`. What dead containers left is found
//! by their pids and start times. A pinned link of a device that is gone is unpinned by whoever
//! meets it. Everything else of ours is in the container's namespace and dies with it.

pub mod annotations;
pub mod apply;
pub mod config;
pub mod error;
pub mod facts;
pub mod inspect;
pub mod kernel;
pub mod plan;
pub mod request;
pub mod roles;
pub mod state;
pub mod types;
