//! Where programs, links and maps are pinned: `<bpffs dir>/abi<N>/{maps,programs,links}`, and for as long as a map gets another
//! size, its successor in `filling` or `swapping` beside them.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use azure_cni_common::ABI;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::error::DatapathError;
use crate::hook::Hook;

pub(crate) const FILLING: &str = "filling";

/// The pins of one map layout.
#[derive(Debug, Clone)]
pub(crate) struct Pins {
    pub root: PathBuf,
}

impl Pins {
    /// Those of a layout, whether they exist or not.
    pub fn of_layout(dir: &Path, number: u32) -> Self {
        Self { root: dir.join(format!("abi{number}")) }
    }

    /// Makes the directories of today's layout.
    pub fn create(dir: &Path) -> Result<Self, DatapathError> {
        let pins = Self::of_layout(dir, ABI);
        for path in [pins.maps(), pins.programs(), pins.links()] {
            std::fs::create_dir_all(&path).map_err(|source| DatapathError::Pin { path, source })?;
        }
        Ok(pins)
    }

    /// Claims the pins for one agent. The claim ends with the returned lock, at the latest when the process ends.
    pub fn claim(&self) -> Result<Flock<File>, DatapathError> {
        let path = || self.root.clone();
        let dir = File::open(&self.root).map_err(|source| DatapathError::Pin { path: path(), source })?;
        Flock::lock(dir, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            Errno::EWOULDBLOCK => DatapathError::InUse { path: path() },
            errno => DatapathError::Pin { path: path(), source: errno.into() },
        })
    }

    pub fn maps(&self) -> PathBuf {
        self.root.join("maps")
    }

    /// Where the map is that the programs loaded last work with.
    pub fn map(&self, name: &str) -> PathBuf {
        let successor = self.swapping().join(name);
        if successor.exists() { successor } else { self.maps().join(name) }
    }

    /// Successors of maps that no program that runs works with yet.
    pub fn filling(&self) -> PathBuf {
        self.root.join(FILLING)
    }

    /// Successors of maps that some programs work with, while others still work with the predecessors.
    pub fn swapping(&self) -> PathBuf {
        self.root.join("swapping")
    }

    pub fn programs(&self) -> PathBuf {
        self.root.join("programs")
    }

    pub fn program(&self, hook: Hook) -> PathBuf {
        self.programs().join(hook.program())
    }

    pub fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    pub fn link(&self, hook: Hook, interface: &str) -> PathBuf {
        // bpffs refuses names with a dot (kernel/bpf/inode.c, bpf_lookup), which an interface may have.
        self.links().join(format!("{}-{}", interface.replace('.', "%2e"), hook.program()))
    }

    /// The interfaces of pods that have a link pinned.
    pub fn endpoint_interfaces(&self) -> Result<BTreeSet<String>, DatapathError> {
        let dir = self.links();
        let failed = |source| DatapathError::Pin { path: dir.clone(), source };
        let mut interfaces = BTreeSet::new();
        for entry in std::fs::read_dir(&dir).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            interfaces.extend(name.to_str().and_then(interface_of_link));
        }
        Ok(interfaces)
    }
}

/// The interface for which [`Pins::link`] gave this name, if it is a pod's.
fn interface_of_link(pin: &str) -> Option<String> {
    let of = |hook: &Hook| pin.strip_suffix(hook.program())?.strip_suffix('-').map(|name| name.replace("%2e", "."));
    Hook::ENDPOINT.iter().find_map(of)
}

/// Removes a pin; succeeds if there is none.
pub(crate) fn unpin(path: &Path) -> Result<(), DatapathError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(DatapathError::Pin { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Gives a pin another place, and removes what is pinned there. A pin that is gone was moved by an agent that was killed before
/// it had finished.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), DatapathError> {
    absent_is_done(from, std::fs::rename(from, to))
}

pub(crate) fn create_dir(dir: &Path) -> Result<(), DatapathError> {
    std::fs::create_dir_all(dir).map_err(|source| DatapathError::Pin { path: dir.to_owned(), source })
}

pub(crate) fn remove_dir(dir: &Path) -> Result<(), DatapathError> {
    absent_is_done(dir, std::fs::remove_dir(dir))
}

fn absent_is_done(path: &Path, result: std::io::Result<()>) -> Result<(), DatapathError> {
    match result {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(DatapathError::Pin { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// What is in a directory; nothing if there is none.
pub(crate) fn entries(dir: &Path) -> Result<Vec<std::ffi::OsString>, DatapathError> {
    let failed = |source| DatapathError::Pin { path: dir.to_owned(), source };
    match std::fs::read_dir(dir) {
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries.map_err(failed)?.map(|entry| entry.map(|entry| entry.file_name()).map_err(failed)).collect(),
    }
}
