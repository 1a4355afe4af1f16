//! Does what the plan says, one step at a time.
//!
//! Every step ends by itself, asks nothing, and never removes a package: one in the way is the owner's to judge.

use std::{process::Command, time::Duration};

use anyhow::{Context as _, Result};

use super::plan::Step;
use crate::{
    compiler::Compiler,
    machine::{LLVM_PREFIX, remember_pass, trial_dir},
    progress,
    toolchain::{TARGET, Toolchain},
    workspace::{Workspace, write_if_changed},
};

/// A component of a few megabytes; without a route to its server rustup would try for minutes.
const RUSTUP_LIMIT: Duration = Duration::from_secs(60);
/// A standard library has ten times that.
const TARGET_LIMIT: Duration = Duration::from_secs(300);

pub(super) fn perform(step: &Step, workspace: &Workspace) -> Result<()> {
    let name = step.to_string();
    match step {
        Step::AddRustSrc { toolchain } => {
            let mut rustup = workspace.command("rustup");
            rustup.args(["component", "add", "rust-src", "--toolchain", toolchain]).env("RUSTUP_MAX_RETRIES", "1");
            rustup.env_remove("RUST_BACKTRACE");
            progress::run(&name, rustup, Some(RUSTUP_LIMIT))
        }
        Step::AddTarget(arch) => {
            let mut rustup = workspace.command("rustup");
            rustup.args(["target", "add", arch.triple()]).env("RUSTUP_MAX_RETRIES", "1").env_remove("RUST_BACKTRACE");
            progress::run(&name, rustup, Some(TARGET_LIMIT))
        }
        Step::TryBuildStd { toolchain } => try_build_std(&name, toolchain, workspace),
        Step::RefreshPackageLists => {
            // Without this option a refresh that fetched nothing is a success to apt.
            progress::run(&name, apt(workspace, &["update", "-o", "APT::Update::Error-Mode=any"]), None)
        }
        Step::InstallPackages(packages) => {
            let mut install = apt(workspace, &["install", "--yes", "--no-install-recommends", "--no-remove"]);
            install.args(packages.iter().map(|package| package.name));
            progress::run(&name, install, None)
        }
        Step::InstallLinker => {
            let mut install = workspace.cargo();
            install.args(Step::linker_arguments()).env("LLVM_PREFIX", LLVM_PREFIX).env_remove("CARGO_TARGET_DIR");
            // The linker's own debug information takes a third of its build, and serves no purpose here.
            install.env("CARGO_PROFILE_RELEASE_DEBUG", "0");
            progress::run(&name, install, None)
        }
        Step::InstallDeny => {
            let mut install = workspace.cargo();
            install.args(Step::deny_arguments()).env_remove("CARGO_TARGET_DIR");
            // It runs for a second, and optimizing it would take three more minutes of processor time.
            install.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0").env("CARGO_PROFILE_RELEASE_DEBUG", "0");
            progress::run(&name, install, None)
        }
    }
}

fn apt(workspace: &Workspace, arguments: &[&str]) -> Command {
    let mut apt = workspace.command("apt-get");
    apt.args(["-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=1"]).args(arguments);
    apt.env("DEBIAN_FRONTEND", "noninteractive");
    apt
}

/// Compiles an empty library with its own `core`, and remembers the compiler that managed it.
fn try_build_std(name: &str, toolchain: &str, workspace: &Workspace) -> Result<()> {
    let directory = trial_dir(workspace, toolchain);
    let manifest = "[package]\nname = \"trial\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n";
    write_if_changed(&directory.join("Cargo.toml"), manifest.as_bytes())?;
    write_if_changed(&directory.join("src").join("lib.rs"), b"#![no_std]\n")?;
    let answer =
        Command::new("rustup").args(["run", toolchain, "rustc", "-vV"]).output().context("cannot run rustup")?;
    let compiler = Compiler::parse(&String::from_utf8_lossy(&answer.stdout))
        .with_context(|| format!("{toolchain} has no rustc"))?;

    let toolchain_to_try = Toolchain::Rustup { name: toolchain.to_owned(), nightly: compiler.nightly };
    let mut check = toolchain_to_try.cargo(workspace, "check");
    check.current_dir(&directory).args(["--target", TARGET, "--target-dir"]).arg(directory.join("target"));
    progress::run(name, check, None)?;
    remember_pass(workspace, toolchain, &compiler)
}
