//! Front-ends: each translates one dialect into a [`crate::request::Request`] or a read-only
//! question, and what comes back into output. They decide nothing and touch nothing themselves.

pub mod cli;
pub mod environment;
pub mod failures;
pub mod hooks_dir;
pub mod io;
pub mod logging;
pub mod oci_hook;
pub mod oci_state;
pub mod reap;
pub mod render;
