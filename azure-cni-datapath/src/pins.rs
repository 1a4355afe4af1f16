//! Where programs, links and maps are pinned: `<bpffs dir>/abi<N>/{maps,programs,links}`.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use azure_cni_common::ABI;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::error::DatapathError;
use crate::hook::Hook;

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

    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
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
