//! Capabilities of this process.
