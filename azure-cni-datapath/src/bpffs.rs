//! A place for pins: checks that the directory is on a bpffs, and mounts one if it is not.

use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

/// The mount point that the kernel offers. Nothing can be created in sysfs beside it.
const CANONICAL: &str = "/sys/fs/bpf";

#[derive(Debug, thiserror::Error)]
pub enum BpffsError {
    #[error("creating {}: {source}", path.display())]
    Create { path: PathBuf, source: std::io::Error },
    #[error("reading the file system of {}: {source}", path.display())]
    Stat { path: PathBuf, source: nix::Error },
    /// A retry helps once the mount is allowed, or was made by hand.
    #[error("mounting a bpffs on {}: {source}; mount it by hand: mount -t bpf bpf {}", path.display(), path.display())]
    Mount { path: PathBuf, source: nix::Error },
}

/// Makes `dir` exist on a bpffs.
pub(crate) fn ensure_mounted(dir: &Path) -> Result<(), BpffsError> {
    if on_bpffs(dir)? {
        return create(dir);
    }
    let mount_point = if dir.starts_with(CANONICAL) { Path::new(CANONICAL) } else { dir };
    if mount_point == dir {
        create(dir)?;
    }
    mount(
        Some("bpf"),
        mount_point,
        Some("bpf"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        None::<&str>,
    )
    .map_err(|source| BpffsError::Mount { path: mount_point.to_owned(), source })?;
    tracing::info!(path = %mount_point.display(), "mounted a bpffs");
    create(dir)
}

/// What is wrong with the directory of a running agent.
pub(crate) fn problem(dir: &Path) -> Option<String> {
    match statfs(dir) {
        Ok(info) if info.filesystem_type() == BPF_FS_MAGIC => None,
        Ok(_) => {
            Some(format!("{} is not on a bpffs any more: restart azure-cni-agent, which mounts one", dir.display()))
        }
        Err(error) => Some(format!("{}: {error}: restart azure-cni-agent, which mounts a bpffs", dir.display())),
    }
}

/// Whether the directory is on a bpffs; if it does not exist, the nearest one above it that does.
fn on_bpffs(dir: &Path) -> Result<bool, BpffsError> {
    let existing = dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let info = statfs(existing).map_err(|source| BpffsError::Stat { path: existing.to_owned(), source })?;
    Ok(info.filesystem_type() == BPF_FS_MAGIC)
}

fn create(dir: &Path) -> Result<(), BpffsError> {
    std::fs::create_dir_all(dir).map_err(|source| BpffsError::Create { path: dir.to_owned(), source })
}
