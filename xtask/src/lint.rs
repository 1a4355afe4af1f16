//! `lint`: formatting, dependencies (deny.toml) and clippy, warnings denied; the host's packages with the host's compiler, the eBPF
//! programs with theirs.

use std::path::Path;

use anyhow::Result;

use crate::{
    build_ebpf::{self, PACKAGE},
    machine::{DEBIAN_CARGO_CLIPPY, Facts},
    progress, setup,
    toolchain::{TARGET, Toolchain, rust_flags},
    workspace::Workspace,
};

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let facts = setup::ensure(workspace, setup::Purpose::Check)?;
    // The agent embeds the programs, so that clippy cannot look at it without them.
    build_ebpf::run(workspace, &facts, build_ebpf::Profile::Release)?;
    check(workspace, &facts)
}

/// Lints a workspace whose eBPF programs are built.
pub(crate) fn check(workspace: &Workspace, facts: &Facts) -> Result<()> {
    let mut format = workspace.cargo();
    format.args(["fmt", "--all", "--check"]);
    progress::show("formatting", format)?;

    // Without advisories: their database comes from the network.
    let mut deny = workspace.cargo();
    deny.args(["deny", "--workspace", "--locked", "check", "--hide-inclusion-graph", "licenses", "bans", "sources"]);
    progress::show("licenses, bans and sources of dependencies", deny)?;

    // In the profile of the tests: build scripts and macros are then compiled once for both.
    let mut clippy = workspace.cargo();
    clippy.args(["clippy", "--release", "--workspace", "--exclude", PACKAGE, "--all-targets", "--", "-D", "warnings"]);
    progress::show("clippy, for the host", clippy)?;

    let mut stack = workspace.cargo();
    stack.args(["run", "--release", "--quiet", "--package", "ebpf-stack", "--"]).arg(&workspace.ebpf_object);
    progress::show("the deepest stack of each eBPF program", stack)?;

    ebpf(workspace, facts)
}

/// Where the programs' compiler comes without clippy, its own warnings have to do.
fn ebpf(workspace: &Workspace, facts: &Facts) -> Result<()> {
    let (toolchain, linker) = setup::require(facts)?;
    let has_clippy = match &toolchain {
        Toolchain::Debian => Path::new(DEBIAN_CARGO_CLIPPY).is_file(),
        Toolchain::Rustup { name, .. } => {
            let mut ask = workspace.command("rustup");
            ask.args(["run", name, "cargo-clippy", "--version"]);
            ask.output().is_ok_and(|output| output.status.success())
        }
    };
    let mut lint = toolchain.cargo(workspace, if has_clippy { "clippy" } else { "check" });
    lint.args(["--package", PACKAGE, "--target", TARGET, "--release", "--target-dir"]);
    lint.arg(build_ebpf::target_dir(workspace));
    if has_clippy {
        lint.env("CARGO_ENCODED_RUSTFLAGS", rust_flags(&linker.path, &[])).args(["--", "-D", "warnings"]);
        progress::show("clippy, for the eBPF programs", lint)
    } else {
        // Dependencies from a registry are exempt: cargo caps their lints.
        lint.env("CARGO_ENCODED_RUSTFLAGS", rust_flags(&linker.path, &["-Dwarnings"]));
        progress::show(&format!("the compiler's warnings, for the eBPF programs (no clippy with {toolchain})"), lint)
    }
}
