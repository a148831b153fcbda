//! Programs, maps and links of ours in the kernel.

pub mod attach;
pub mod cgroup;
pub mod load;
pub mod maps;
pub mod skel;
mod sys;
