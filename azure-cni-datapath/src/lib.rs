//! The kernel side as the agent sees it: programs, links and maps. Nothing outside this module knows aya.
//!
//! Everything that lasts is pinned, so the data path goes on without the agent and the next agent finds it again:
//! `<bpffs dir>/abi<N>/{maps,programs,links}`.

mod attach;
mod batch;
mod bpffs;
mod carry_over;
#[cfg(test)]
mod documents;
mod endpoints;
mod events;
mod family;
mod host_ports;
mod load;
mod sweep;
mod tables;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

pub use attach::{AttachMode, AttachModes, Hook};
pub use azure_cni_common::endpoint::Endpoint;
use azure_cni_common::ABI;
pub use bpffs::BpffsError;
pub use events::{Event, EventSource};
pub use host_ports::HostPorts;
pub use load::{Constants, OBJECT, loader};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
pub use sweep::{SweepReport, Sweeper};
pub use tables::{DropCounter, Gateways, TableFill, Tables};

/// What went wrong at the kernel's side. None is worth an immediate retry, except where it is said.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    #[error(transparent)]
    Bpffs(#[from] BpffsError),
    /// The object does not fit this kernel, or the process lacks CAP_BPF or CAP_NET_ADMIN.
    #[error("loading the eBPF object: {0}")]
    Load(#[from] Box<aya::EbpfError>),
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
    /// Two agents would swap each other's programs and forget each other's pods. A retry helps once the other has ended.
    #[error("another agent works with {}; stop it, or give this one a bpffs_dir of its own", path.display())]
    InUse { path: PathBuf },
    #[error("pin {}: {source}", path.display())]
    Pin { path: PathBuf, source: std::io::Error },
}

/// What the programs are loaded with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// On a bpffs, or where one will be mounted.
    pub dir: PathBuf,
    pub constants: Constants,
    /// Entries of a family's connection table, and of its table of translations.
    pub max_flows: u32,
    /// Entries of a family's table of half-open and one-way flows, and of their translations.
    pub max_half_open: u32,
    pub attach: AttachModes,
}

/// The loaded data path.
pub struct Datapath {
    /// Ends with the agent, however it ends.
    _claim: Flock<File>,
    pins: Pins,
    modes: AttachModes,
    tables: Tables,
}

impl Datapath {
    /// Loads the programs; maps that are pinned already are taken over with what they hold.
    ///
    /// Interfaces keep running the programs of an earlier agent until they are attached again.
    pub fn open(settings: &Settings) -> Result<Self, DatapathError> {
        bpffs::ensure_mounted(&settings.dir)?;
        let pins = Pins::create(&settings.dir)?;
        let claim = pins.claim()?;
        let carried_over = carry_over::begin(&settings.dir, &pins)?;
        load::load_programs(settings, &pins)?;
        carried_over.finish(&pins)?;
        let tables = Tables::open(&pins, &settings.constants)?;
        Ok(Self { _claim: claim, pins, modes: settings.attach, tables })
    }

    /// Attaches a program to an interface, or swaps the one that is attached there for the one loaded now.
    pub fn attach(&self, hook: Hook, interface: &str) -> Result<(), DatapathError> {
        attach::attach(&self.pins, self.modes, hook, interface)
    }

    /// Takes a program off an interface. An interface or link that is already gone is no error.
    pub fn detach(&self, hook: Hook, interface: &str) -> Result<(), DatapathError> {
        attach::detach(&self.pins, hook, interface)
    }

    /// Whether the program loaded now runs at the interface. A clsact filter is asked by replacing it with the same
    /// program, which succeeds only if it is there.
    pub fn is_attached(&self, hook: Hook, interface: &str) -> Result<bool, DatapathError> {
        attach::is_attached(&self.pins, self.modes, hook, interface)
    }

    /// Interfaces of pods at which programs are pinned, or were before the interfaces went.
    pub fn pinned_interfaces(&self) -> Result<BTreeSet<String>, DatapathError> {
        let dir = self.pins.links();
        let failed = |source| DatapathError::Pin { path: dir.clone(), source };
        let mut interfaces = BTreeSet::new();
        for entry in std::fs::read_dir(&dir).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            interfaces.extend(name.to_str().and_then(Pins::interface_of_link));
        }
        Ok(interfaces)
    }

    /// What keeps programs and maps from being pinned, if anything does.
    pub fn bpffs_problem(&self) -> Option<String> {
        bpffs::problem(&self.pins.root)
    }

    pub fn modes(&self) -> AttachModes {
        self.modes
    }

    pub fn tables(&self) -> &Tables {
        &self.tables
    }
}

/// Where things are pinned.
#[derive(Debug, Clone)]
pub(crate) struct Pins {
    root: PathBuf,
}

impl Pins {
    fn create(dir: &Path) -> Result<Self, DatapathError> {
        let pins = Self { root: dir.join(format!("abi{ABI}")) };
        for path in [pins.maps(), pins.programs(), pins.links()] {
            std::fs::create_dir_all(&path).map_err(|source| DatapathError::Pin { path, source })?;
        }
        Ok(pins)
    }

    /// For one agent at a time.
    fn claim(&self) -> Result<Flock<File>, DatapathError> {
        let path = || self.root.clone();
        let dir = File::open(&self.root).map_err(|source| DatapathError::Pin { path: path(), source })?;
        Flock::lock(dir, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            Errno::EWOULDBLOCK => DatapathError::InUse { path: path() },
            errno => DatapathError::Pin { path: path(), source: errno.into() },
        })
    }

    fn maps(&self) -> PathBuf {
        self.root.join("maps")
    }

    fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    fn programs(&self) -> PathBuf {
        self.root.join("programs")
    }

    fn program(&self, hook: Hook) -> PathBuf {
        self.programs().join(hook.program())
    }

    fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    fn link(&self, hook: Hook, interface: &str) -> PathBuf {
        // bpffs refuses names with a dot (kernel/bpf/inode.c, bpf_lookup), which an interface may have.
        self.links().join(format!("{}-{}", interface.replace('.', "%2e"), hook.program()))
    }

    /// Of a pin that [`Self::link`] names for a pod's interface.
    fn interface_of_link(pin: &str) -> Option<String> {
        let of = |hook: &Hook| pin.strip_suffix(hook.program())?.strip_suffix('-').map(|name| name.replace("%2e", "."));
        Hook::ENDPOINT.iter().find_map(of)
    }
}

/// Removes a pin; one that is not there is no error.
fn unpin(path: &Path) -> Result<(), DatapathError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(DatapathError::Pin { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}
