//! `demo` and `bench`: from a bare machine to traffic on a simulated VNet.
//!
//! xtask becomes the program in the end, so that Ctrl-C and the exit status are the program's own.

use std::{ffi::OsString, os::unix::process::CommandExt as _};

use anyhow::{Context as _, Result};

use crate::{arch::NATIVE, binaries, build_ebpf, setup, workspace::Workspace};

pub(crate) fn run(workspace: &Workspace, program: &str, arguments: &[OsString]) -> Result<()> {
    let facts = setup::ensure(workspace, setup::Purpose::Build(NATIVE))?;
    build_ebpf::run(workspace, &facts, build_ebpf::Profile::Release)?;
    let installed = binaries::for_users(workspace, NATIVE)?;

    let mut launched = workspace.command(NATIVE.release_dir(workspace).join(program));
    launched.args(arguments).env("AZURE_CNI_BIN_DIR", installed);
    Err(launched.exec()).with_context(|| format!("cannot run {}", launched.get_program().display()))
}
