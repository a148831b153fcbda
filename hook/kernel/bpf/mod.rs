//! Programs, maps and links of ours in the kernel.

pub mod skel;
