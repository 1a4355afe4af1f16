//! The NAT range.

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Ports that translated flows may use, both ends included. Host byte order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
}

impl PortRange {
    /// Below the NodePorts of Kubernetes (30000–32767) and the kernel's ephemeral ports (32768–60999,
    /// net.ipv4.ip_local_port_range), above the privileged ones: a flow of the host and one of a pod never meet.
    pub const DEFAULT: Self = Self { first: 1024, last: 29_999 };

    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// At least 1.
    pub const fn size(self) -> u32 {
        self.last.saturating_sub(self.first) as u32 + 1
    }
}
