//! The container's init process: pidfd, liveness, user namespace, capabilities.
