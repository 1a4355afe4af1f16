//! `build-ebpf`: compiles the eBPF programs, and puts the object where the agent's build looks for it.
//!
//! The object is replaced only when its content changed, so that the agent is not rebuilt without need. An object without BTF is an
//! error here, not on a node.

use std::fs;

use anyhow::{Context as _, Result, bail};

use crate::{
    elf, progress,
    setup::{self, Facts},
    toolchain::{TARGET, rust_flags},
    workspace::{Workspace, write_if_changed},
};

pub(crate) const PACKAGE: &str = "azure-cni-ebpf";

#[derive(Clone, Copy, Debug)]
pub(crate) enum Profile {
    Dev,
    Release,
}

pub(crate) fn run(workspace: &Workspace, facts: &Facts, profile: Profile) -> Result<()> {
    let (toolchain, linker) = setup::require(facts)?;
    // Not the host's target directory: the two compilers would take turns in throwing away each other's work.
    let target_dir = workspace.target.join("ebpf-build");
    let (name, directory) = match profile {
        Profile::Dev => ("dev", "debug"),
        Profile::Release => ("release", "release"),
    };

    let mut build = toolchain.cargo(workspace, "build");
    build.args(["--package", PACKAGE, "--target", TARGET, "--profile", name, "--target-dir"]).arg(&target_dir);
    build.env("CARGO_ENCODED_RUSTFLAGS", rust_flags(&linker.path, &[]));
    progress::show(&format!("eBPF programs, with `core` from {toolchain}"), build)?;

    let built = target_dir.join(TARGET).join(directory).join(PACKAGE);
    let object = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    if !elf::section_names(&object).is_some_and(|names| names.contains(&b".BTF".as_slice())) {
        bail!("{} has no BTF: the kernel would refuse it", built.display());
    }
    if write_if_changed(&workspace.ebpf_object, &object)? {
        eprintln!("    new object: {} ({} bytes)", workspace.ebpf_object.display(), object.len());
    }
    Ok(())
}
