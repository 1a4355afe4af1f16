//! The modules of a guest's kernel.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{archive::Kernel, files};
use crate::{progress, workspace::Workspace};

/// Folders of the kernel's modules that a network of namespaces may ask for.
const MODULES: &[&str] = &[
    "net",
    "drivers/net/veth",
    "drivers/net/dummy",
    "drivers/net/vxlan",
    "drivers/net/geneve",
    "lib",
    "crypto",
    "arch",
];

/// Puts them below `root`, where a guest looks for them.
pub(super) fn take(workspace: &Workspace, kernel: &Kernel, root: &Path) -> Result<()> {
    files::fresh(root)?;
    let folder = root.join("lib").join("modules").join(&kernel.release);
    for name in MODULES {
        let of_one = ["ko", "ko.xz", "ko.zst"].map(|end| format!("{name}.{end}"));
        for name in of_one.iter().map(String::as_str).chain([*name]) {
            let from = kernel.modules.join("kernel").join(name);
            if from.exists() {
                files::copy(&from, &folder.join("kernel").join(name))?;
            }
        }
    }
    for list in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
        let from = kernel.modules.join(list);
        if from.exists() {
            files::copy(&from, &folder.join(list))?;
        }
    }
    decompress(workspace, &folder)?;
    let mut depmod = workspace.command("depmod");
    depmod.arg("--basedir").arg(root).arg(&kernel.release);
    progress::run("modules", depmod, None)?;
    // depmod looks below `lib`, which is a link in a guest: a folder of that name would take its place.
    let (lib, usr) = (root.join("lib"), root.join("usr"));
    fs::create_dir_all(&usr).and_then(|()| fs::rename(lib, usr.join("lib"))).context("cannot move the modules")
}

fn decompress(workspace: &Workspace, folder: &Path) -> Result<()> {
    // zstd leaves the compressed file where it was, and a guest's modprobe would take that one.
    for (end, program, options) in [("xz", "xz", ["-d", "-q"].as_slice()), ("zst", "zstd", &["-d", "-q", "--rm"])] {
        let mut files = Vec::new();
        files_with(folder, end, &mut files)?;
        if !files.is_empty() {
            let mut command = workspace.command(program);
            command.args(options).args(&files);
            progress::run("modules", command, None)?;
        }
    }
    Ok(())
}

fn files_with(folder: &Path, end: &str, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            files_with(&path, end, found)?;
        } else if path.extension().is_some_and(|extension| extension == end) {
            found.push(path);
        }
    }
    Ok(())
}
