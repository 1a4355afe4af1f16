//! `build-ebpf`: compiles the eBPF programs, and puts the objects where the agent's build, and the benchmark's, look for them.
//!
//! An object is replaced only when its content changed, so that the agent is not rebuilt without need. An object without BTF is an
//! error here, not on a node.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    elf,
    machine::Facts,
    progress, setup,
    toolchain::{TARGET, rust_flags},
    workspace::{Workspace, write_if_changed},
};

pub(crate) const PACKAGE: &str = "azure-cni-ebpf";
/// What the package builds.
const OBJECTS: [Object; 3] = [
    // What users load.
    Object { name: PACKAGE, binary: PACKAGE, features: "" },
    // For the benchmark: the same, and it counts how often tables are used.
    Object { name: "counting-ebpf", binary: PACKAGE, features: "count-uses" },
    // For the benchmark: what it measures against.
    Object { name: "bench-ebpf", binary: "bench-ebpf", features: "" },
];

struct Object {
    name: &'static str,
    binary: &'static str,
    features: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Profile {
    Dev,
    Release,
}

pub(crate) fn run(workspace: &Workspace, facts: &Facts, profile: Profile) -> Result<()> {
    let (toolchain, linker) = setup::require(facts)?;
    let target_dir = target_dir(workspace);
    let (name, directory) = match profile {
        Profile::Dev => ("dev", "debug"),
        Profile::Release => ("release", "release"),
    };

    OBJECTS.iter().try_for_each(|object| {
        let mut build = toolchain.cargo(workspace, "build");
        build.args(["--package", PACKAGE, "--bin", object.binary, "--features", object.features]);
        build.args(["--target", TARGET, "--profile", name, "--target-dir"]).arg(&target_dir);
        build.env("CARGO_ENCODED_RUSTFLAGS", rust_flags(&linker.path, &[]));
        progress::show(&format!("eBPF programs {}, with `core` from {toolchain}", object.name), build)?;
        // Before the next one, which may have the same file.
        let built = target_dir.join(TARGET).join(directory).join(object.binary);
        place(&built, &workspace.ebpf_object.with_file_name(object.name))
    })
}

/// Not the host's target directory: the two compilers would throw away each other's work.
pub(crate) fn target_dir(workspace: &Workspace) -> PathBuf {
    workspace.target.join("ebpf-build")
}

fn place(built: &Path, object: &Path) -> Result<()> {
    let content = fs::read(built).with_context(|| format!("cannot read {}", built.display()))?;
    if !elf::section_names(&content).is_some_and(|names| names.contains(&b".BTF".as_slice())) {
        bail!("{} has no BTF: the kernel would refuse it", built.display());
    }
    if write_if_changed(object, &content)? {
        eprintln!("    new object: {} ({} bytes)", object.display(), content.len());
    }
    Ok(())
}
