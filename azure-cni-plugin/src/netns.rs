//! Whether `CNI_NETNS` is a network namespace, and not the one that the plugin runs in.

use std::fs::{File, Metadata, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use azure_cni_api::cni::CniError;
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};

const OWN: &str = "/proc/self/ns/net";

/// Fails with error 8 if a pod cannot have this namespace.
pub(crate) fn check(path: &Path) -> Result<(), CniError> {
    let refused = |why: &str| CniError::invalid_netns(format!("CNI_NETNS {} {why}", path.display()));
    let file = open(path).map_err(|error| refused("cannot be opened").with_details(error.to_string()))?;
    if !is_network_namespace(&file) {
        return Err(refused("is not a network namespace"));
    }
    if file.metadata().is_ok_and(|data| is_same_as_own(&data)) {
        return Err(refused("is the namespace that the plugin runs in"));
    }
    Ok(())
}

/// True if `path` is this process's own network namespace.
pub(crate) fn is_own(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|data| is_same_as_own(&data))
}

fn is_same_as_own(data: &Metadata) -> bool {
    std::fs::metadata(OWN).is_ok_and(|own| (own.dev(), own.ino()) == (data.dev(), data.ino()))
}

/// Without `O_NONBLOCK`, opening a FIFO would wait for a writer.
fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

/// A file of the kernel's namespace file system whose kind is "net" (ioctl_ns(2)).
fn is_network_namespace(file: &File) -> bool {
    if !fstatfs(file).is_ok_and(|stat| stat.filesystem_type() == NSFS_MAGIC) {
        return false;
    }
    // SAFETY: the descriptor is open for the length of the call, and NS_GET_NSTYPE takes no argument.
    let kind = unsafe { libc::ioctl(file.as_raw_fd(), libc::NS_GET_NSTYPE) };
    kind == libc::CLONE_NEWNET
}
