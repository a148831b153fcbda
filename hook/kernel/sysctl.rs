//! Sysctls of our own devices.
