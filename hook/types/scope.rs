//! Where the remote side of a flow lives; mirrors `enum nk_scope` in bpf/abi.h. Pure.

use std::fmt;

/// Where the remote side lives. The numbers are the ABI's (checked in `kernel/bpf`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Scope {
    /// The route leads out of an uplink.
    Outside = 0,
    /// An address of this host.
    Host = 1,
    /// Another endpoint.
    Containers = 2,
    /// A network behind another interface of the host: docker0, a VPN.
    Network = 3,
    /// Cloud metadata services.
    Metadata = 4,
    /// 169.254.0.0/16 and fe80::/10.
    LinkLocal = 5,
    /// 224.0.0.0/4 and ff00::/8.
    Multicast = 6,
}

impl Scope {
    /// All of them, in ABI order.
    pub const ALL: [Self; 7] = [
        Self::Outside,
        Self::Host,
        Self::Containers,
        Self::Network,
        Self::Metadata,
        Self::LinkLocal,
        Self::Multicast,
    ];
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Outside => "outside",
            Self::Host => "host",
            Self::Containers => "containers",
            Self::Network => "other network",
            Self::Metadata => "metadata",
            Self::LinkLocal => "link-local",
            Self::Multicast => "multicast",
        })
    }
}
