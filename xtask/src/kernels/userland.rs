//! What a guest has around the tests: packages of Debian for its processor, unpacked and trimmed. Not this machine's own programs, which
//! may be for another processor.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{archive::Archive, files};
use crate::workspace::Workspace;

/// They bring their libraries, the C library among them: the suite is the newest stable one, since binaries that were linked with an older
/// C library run there, and not the other way round.
const PACKAGES: &[&str] = &[
    "busybox-static",
    "iperf3",
    "iproute2",
    "iptables",
    // `/sbin/modprobe`: by it the kernel loads what is asked for.
    "kmod",
    "libgcc-s1",
    "mount",
    "nftables",
    "procps",
    "util-linux",
];
const SUITE: &str = "trixie";

/// What packages make only while they are configured, or what another package would bring: a name and what it leads to, both below
/// `usr/bin` and `usr/sbin`.
const LINKS: &[(&str, &str)] = &[
    ("usr/sbin/iptables", "xtables-nft-multi"),
    ("usr/sbin/ip6tables", "xtables-nft-multi"),
    ("usr/bin/sh", "busybox"),
    ("usr/bin/cat", "busybox"),
    ("usr/bin/mkdir", "busybox"),
    ("usr/bin/sleep", "busybox"),
    ("usr/bin/uname", "busybox"),
    ("usr/bin/true", "busybox"),
    ("usr/sbin/poweroff", "busybox"),
];

/// Old names of folders.
const FOLDERS: &[&str] = &["bin", "sbin", "lib", "lib64"];

/// Where packages have what nothing here reads.
const TRIMMED: &[&str] = &["usr/share", "usr/lib/systemd", "var"];

/// Unpacks them, unless the same are there already, and packs them into an archive for the kernel to unpack.
pub(super) fn build(workspace: &Workspace, archive: &Archive<'_>, directory: &Path) -> Result<PathBuf> {
    let packed = directory.join("userland.cpio");
    let list = directory.join("userland.list");
    let packages = archive.download(SUITE, PACKAGES)?;
    let names: String = packages.iter().map(|path| path.display().to_string() + "\n").collect();
    if packed.exists() && fs::read_to_string(&list).is_ok_and(|before| before == names) {
        return Ok(packed);
    }
    let root = directory.join("userland");
    files::fresh(&root)?;
    files::unpack(workspace, &packages, &root)?;
    for folder in TRIMMED {
        let _ = fs::remove_dir_all(root.join(folder));
    }
    for folder in FOLDERS {
        symlink(Path::new("usr").join(folder), root.join(folder)).with_context(|| format!("cannot link {folder}"))?;
    }
    for (name, to) in LINKS {
        symlink(to, root.join(name)).with_context(|| format!("cannot link {name}"))?;
    }
    for folder in ["proc", "sys", "dev", "run", "tmp", "var"] {
        fs::create_dir_all(root.join(folder)).context("cannot create a folder of the image")?;
    }
    files::pack(workspace, &root, &packed)?;
    fs::write(&list, names).with_context(|| format!("cannot write {}", list.display()))?;
    Ok(packed)
}
