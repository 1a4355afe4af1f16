//! What can go wrong in this crate.

use std::path::PathBuf;

use crate::bpffs::BpffsError;

/// A failure in the kernel or on the bpffs. An immediate retry helps for no variant, except where its comment says so.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    #[error(transparent)]
    Bpffs(#[from] BpffsError),
    /// The object does not fit this kernel, or the process lacks CAP_BPF or CAP_NET_ADMIN.
    #[error("loading the eBPF object: {0}")]
    Load(#[from] Box<aya::EbpfError>),
    /// No retry helps on this kernel.
    #[error("this kernel lacks what the eBPF programs need: {0}")]
    Kernel(String),
    /// The process may not ask, or the kernel has no memory.
    #[error("asking the kernel whether it has TCX: {0}")]
    AskTcx(#[source] std::io::Error),
    #[error("this kernel has no TCX (Linux 6.6 or later): set `datapath.attach` to \"auto\" or \"clsact\"")]
    NoTcx,
    /// The verifier refused a program; the source has its log.
    #[error("eBPF program {name}: {source}")]
    Program { name: &'static str, source: Box<aya::programs::ProgramError> },
    #[error("eBPF map {name}: {source}")]
    Map { name: &'static str, source: Box<aya::maps::MapError> },
    #[error("reading eBPF map {name}: {source}")]
    Walk { name: &'static str, source: std::io::Error },
    /// The interface may have gone in between; a retry helps if it comes back.
    #[error("attaching {hook} to {interface}: {reason}")]
    Attach { hook: &'static str, interface: String, reason: String },
    /// There is a filter already. Find out whose it is: only one of ours may be replaced.
    #[error("attaching {hook} to {interface}: another filter has this place")]
    Occupied { hook: &'static str, interface: String },
    /// Two agents would swap each other's programs and remove each other's pods. A retry helps once the other has ended.
    #[error("another agent works with {}; stop it, or give this one a bpffs_dir of its own", path.display())]
    InUse { path: PathBuf },
    /// Pinned by a version that this one does not know: beside it, two generations of programs would see each packet.
    #[error(
        "{} has what another version of azure-cni-agent has pinned, and this one cannot carry it over: run that version, or drain the node and remove the directory",
        path.display()
    )]
    UnknownLayout { path: PathBuf },
    /// A development version with the same number had another layout.
    #[error(
        "eBPF map {map} is pinned with keys or values of another length, and cannot be carried over: run the version that has pinned it, or drain the node and remove its pins"
    )]
    Layout { map: String },
    #[error("carrying over eBPF map {map}: {source}")]
    CarryOver { map: String, source: std::io::Error },
    /// An address of IPv6, where the programs were loaded without. A retry helps once the agent has started again.
    #[error("the data path was started without IPv6, as no pod had any: restart azure-cni-agent")]
    NoIpv6,
    #[error("pin {}: {source}", path.display())]
    Pin { path: PathBuf, source: std::io::Error },
}
