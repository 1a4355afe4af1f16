//! `demo` and `bench`: from a bare machine to traffic on a simulated VNet.
//!
//! xtask becomes the program in the end, so that Ctrl-C and the exit status are the program's own.

use std::{ffi::OsString, os::unix::process::CommandExt as _};

use anyhow::{Context as _, Result};

use crate::{
    build_ebpf, progress, setup,
    workspace::{WHAT_IS_BUILT, Workspace},
};

pub(crate) fn run(workspace: &Workspace, program: &str, arguments: &[OsString]) -> Result<()> {
    let facts = setup::ensure(workspace)?;
    build_ebpf::run(workspace, &facts, build_ebpf::Profile::Release)?;
    progress::show(WHAT_IS_BUILT, workspace.build_binaries())?;

    let binaries = workspace.release_dir();
    let mut launched = workspace.command(binaries.join(program));
    launched.args(arguments).env("AZURE_CNI_BIN_DIR", &binaries);
    Err(launched.exec()).with_context(|| format!("cannot run {}", launched.get_program().display()))
}
