//! Pins under the bpf file system.
