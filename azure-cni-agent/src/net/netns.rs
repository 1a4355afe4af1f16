//! A pod's network namespace, opened through a file that stands for it.

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};
use serde::{Deserialize, Serialize};

/// Why a namespace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// The namespace is gone: DEL goes on without it, ADD cannot.
    #[error("network namespace {}: {source}", path.display())]
    Open { path: PathBuf, source: std::io::Error },
    #[error("{} is not a network namespace", path.display())]
    NotANamespace { path: PathBuf },
    #[error("entering the network namespace: {0}")]
    Enter(std::io::Error),
    #[error("netlink socket: {0}")]
    Socket(std::io::Error),
}

/// Identifies a namespace whatever path leads to it: device and inode on nsfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NetnsId {
    pub device: u64,
    pub inode: u64,
}

/// An open network namespace: it lives as long as this handle.
#[derive(Debug, Clone)]
pub struct Netns {
    file: Arc<File>,
    id: NetnsId,
}

impl Netns {
    pub fn open(path: &Path) -> Result<Self, NetnsError> {
        let cannot_open = |source| NetnsError::Open { path: path.to_owned(), source };
        let file = File::open(path).map_err(cannot_open)?;
        let filesystem = fstatfs(&file).map_err(|error| cannot_open(error.into()))?;
        if filesystem.filesystem_type() != NSFS_MAGIC {
            return Err(NetnsError::NotANamespace { path: path.to_owned() });
        }
        let metadata = file.metadata().map_err(cannot_open)?;
        let id = NetnsId { device: metadata.dev(), inode: metadata.ino() };
        Ok(Self { file: Arc::new(file), id })
    }

    /// The agent's own.
    pub fn own() -> Result<Self, NetnsError> {
        Self::open(Path::new("/proc/self/ns/net"))
    }

    /// The calling thread's.
    pub fn of_thread() -> Result<Self, NetnsError> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    pub fn id(&self) -> NetnsId {
        self.id
    }

    pub(super) fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Runs something short in the namespace, on its own thread, which ends afterwards.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, NetnsError> {
        let file = self.file.clone();
        let runtime = tokio::runtime::Handle::current();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        std::thread::Builder::new()
            .name("netns".into())
            .spawn(move || {
                let _in_runtime = runtime.enter();
                let entered = setns(&*file, CloneFlags::CLONE_NEWNET);
                let result = entered.map(|()| work()).map_err(|error| NetnsError::Enter(error.into()));
                // The caller may have given up.
                let _ = sender.send(result);
            })
            .map_err(NetnsError::Enter)?;
        receiver.await.unwrap_or_else(|_| Err(NetnsError::Enter(std::io::Error::other("the thread in it panicked"))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_file_is_no_namespace() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(Netns::open(file.path()), Err(NetnsError::NotANamespace { .. })));
        assert!(matches!(Netns::open(Path::new("/nowhere")), Err(NetnsError::Open { .. })));
    }

    #[test]
    fn one_namespace_has_one_identity() {
        assert_eq!(Netns::own().unwrap().id(), Netns::open(Path::new("/proc/self/ns/net")).unwrap().id());
    }
}
