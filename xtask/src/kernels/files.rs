//! Files on their way into an image, and images out of files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{progress, workspace::Workspace};

/// A new folder, in place of what an earlier run has left.
pub(super) fn fresh(root: &Path) -> Result<()> {
    if root.exists() {
        fs::remove_dir_all(root).with_context(|| format!("cannot clear {}", root.display()))?;
    }
    fs::create_dir_all(root).with_context(|| format!("cannot create {}", root.display()))
}

/// Copies a file, or all that is below a folder.
pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    let context = || format!("cannot copy {} into the image", from.display());
    if from.is_dir() {
        for entry in fs::read_dir(from).with_context(context)? {
            let entry = entry.with_context(context)?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    fs::create_dir_all(to.parent().expect("below the image's root")).with_context(context)?;
    fs::copy(from, to).map(drop).with_context(context)
}

/// Unpacks packages of Debian into a folder.
pub(super) fn unpack(workspace: &Workspace, packages: &[PathBuf], root: &Path) -> Result<()> {
    let mut unpack = workspace.command("sh");
    unpack.args(["-ec", "root=$0; for package; do dpkg-deb --extract \"$package\" \"$root\"; done"]);
    unpack.arg(root).args(packages);
    progress::run(&format!("unpack {} packages", packages.len()), unpack, None)
}

/// Writes an archive of the form that the kernel unpacks at its start.
pub(super) fn pack(workspace: &Workspace, root: &Path, archive: &Path) -> Result<()> {
    let mut pack = workspace.command("sh");
    pack.args(["-c", "find . -print0 | cpio --null --quiet --create --format=newc > \"$0\""])
        .arg(archive)
        .current_dir(root);
    progress::run("pack the image", pack, None)
}
