//! Whether a toolchain has ever built `core` for eBPF here: remembered for each build of each compiler, beside the trial itself.

use std::{fs, path::PathBuf};

use anyhow::Result;

use crate::{
    compiler::Compiler,
    workspace::{Workspace, write_if_changed},
};

/// Holds what the compiler said of itself when its trial passed.
const PASSED: &str = "passed";

pub(crate) fn trial_dir(workspace: &Workspace, toolchain: &str) -> PathBuf {
    workspace.target.join("xtask").join("build-std").join(toolchain)
}

pub(crate) fn passed(workspace: &Workspace, toolchain: &str, compiler: &Compiler) -> bool {
    fs::read_to_string(trial_dir(workspace, toolchain).join(PASSED)).is_ok_and(|identity| identity == compiler.identity)
}

pub(crate) fn remember_pass(workspace: &Workspace, toolchain: &str, compiler: &Compiler) -> Result<()> {
    write_if_changed(&trial_dir(workspace, toolchain).join(PASSED), compiler.identity.as_bytes()).map(drop)
}
