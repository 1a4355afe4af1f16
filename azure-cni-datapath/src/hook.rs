//! The programs by where they run, and the ways to attach them.

use crate::error::DatapathError;
use crate::tcx_query;

/// A program and its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    FromEndpoint,
    ToEndpoint,
    FromWire,
    ToWire,
}

impl Hook {
    pub const ALL: [Hook; 4] = [Hook::FromEndpoint, Hook::ToEndpoint, Hook::FromWire, Hook::ToWire];
    /// On the host veth of every pod.
    pub const ENDPOINT: [Hook; 2] = [Hook::FromEndpoint, Hook::ToEndpoint];
    /// On the NIC.
    pub const UPLINK: [Hook; 2] = [Hook::FromWire, Hook::ToWire];

    /// Name of the program in the object, of its pin, of its filter, and in `bpftool prog`.
    pub const fn program(self) -> &'static str {
        match self {
            Hook::FromEndpoint => "from_endpoint",
            Hook::ToEndpoint => "to_endpoint",
            Hook::FromWire => "from_wire",
            Hook::ToWire => "to_wire",
        }
    }

    /// Whether the program sees what comes into the host; else what leaves it.
    pub(crate) const fn is_ingress(self) -> bool {
        matches!(self, Hook::FromEndpoint | Hook::FromWire)
    }
}

/// How programs are attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachMode {
    Tcx,
    Clsact,
}

impl AttachMode {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

/// How programs are attached, by where they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttachModes {
    pub uplink: AttachMode,
    pub endpoints: AttachMode,
}

impl AttachModes {
    pub const TCX: Self = Self { uplink: AttachMode::Tcx, endpoints: AttachMode::Tcx };
    pub const CLSACT: Self = Self { uplink: AttachMode::Clsact, endpoints: AttachMode::Clsact };

    /// TCX for the uplink if the kernel has it, and clsact for pods. To attach by TCX, the kernel holds the lock of all
    /// interfaces and waits for every processor twice (kernel/bpf/tcx.c, tcx_entry_sync): a pod's start takes six times as
    /// long.
    pub fn detect() -> Result<Self, DatapathError> {
        let uplink =
            if tcx_query::is_known().map_err(DatapathError::AskTcx)? { AttachMode::Tcx } else { AttachMode::Clsact };
        Ok(Self { uplink, endpoints: AttachMode::Clsact })
    }

    pub(crate) const fn of(self, hook: Hook) -> AttachMode {
        match hook {
            Hook::FromEndpoint | Hook::ToEndpoint => self.endpoints,
            Hook::FromWire | Hook::ToWire => self.uplink,
        }
    }
}
