//! `demo`: from a bare machine to traffic on a simulated VNet.
//!
//! xtask becomes the demo in the end, so that Ctrl-C and the exit status are the demo's own.

use std::{ffi::OsString, os::unix::process::CommandExt as _};

use anyhow::{Context as _, Result};

use crate::{build_ebpf, progress, setup, workspace::Workspace};

pub(crate) fn run(workspace: &Workspace, arguments: &[OsString]) -> Result<()> {
    let facts = setup::ensure(workspace)?;
    build_ebpf::run(workspace, &facts, build_ebpf::Profile::Release)?;
    progress::show("the agent, the plugin, the operator's command, the demo", workspace.build_binaries())?;

    let binaries = workspace.release_dir();
    let mut demo = workspace.command(binaries.join("demo"));
    demo.args(arguments).env("AZURE_CNI_BIN_DIR", &binaries);
    Err(demo.exec()).with_context(|| format!("cannot run {}", demo.get_program().display()))
}
