//! Does what the plan says, one step at a time.
//!
//! Every step ends by itself, asks nothing, and never removes a package: one in the way is the owner's to judge.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context as _, Result};

use super::{packages::LLVM_PREFIX, plan::Step};
use crate::{
    compiler::Compiler,
    progress,
    toolchain::{TARGET, Toolchain},
    workspace::{Workspace, write_if_changed},
};

/// A component of a few megabytes; without a route to its server rustup would try for minutes.
const RUSTUP_LIMIT: Duration = Duration::from_secs(60);

pub(super) fn perform(step: &Step, workspace: &Workspace) -> Result<()> {
    let name = step.to_string();
    match step {
        Step::AddRustSrc { toolchain } => {
            let mut rustup = workspace.command("rustup");
            rustup.args(["component", "add", "rust-src", "--toolchain", toolchain]).env("RUSTUP_MAX_RETRIES", "1");
            rustup.env_remove("RUST_BACKTRACE");
            progress::run(&name, rustup, Some(RUSTUP_LIMIT))
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
            // Debug information of the linker itself takes a third of its build, and nobody reads it.
            install.env("CARGO_PROFILE_RELEASE_DEBUG", "0");
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

/// Compiles an empty library with its own `core`, and remembers the compiler for which that went well.
fn try_build_std(name: &str, toolchain: &str, workspace: &Workspace) -> Result<()> {
    let directory = trial_dir(workspace, toolchain);
    let manifest = "[package]\nname = \"trial\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n";
    write_if_changed(&directory.join("Cargo.toml"), manifest.as_bytes())?;
    write_if_changed(&directory.join("src").join("lib.rs"), b"#![no_std]\n")?;
    let asked =
        Command::new("rustup").args(["run", toolchain, "rustc", "-vV"]).output().context("cannot run rustup")?;
    let compiler = Compiler::parse(&String::from_utf8_lossy(&asked.stdout))
        .with_context(|| format!("{toolchain} has no rustc"))?;

    let tried = Toolchain::Rustup { name: toolchain.to_owned(), nightly: compiler.nightly };
    let mut check = tried.cargo(workspace, "check");
    check.current_dir(&directory).args(["--target", TARGET, "--target-dir"]).arg(directory.join("target"));
    progress::run(name, check, None)?;
    write_if_changed(&directory.join(PROVEN), compiler.identity.as_bytes())?;
    Ok(())
}

/// Holds what the compiler said of itself when its trial went well.
const PROVEN: &str = "proven";

pub(super) fn is_proven(workspace: &Workspace, toolchain: &str, compiler: &Compiler) -> bool {
    fs::read_to_string(trial_dir(workspace, toolchain).join(PROVEN)).is_ok_and(|identity| identity == compiler.identity)
}

fn trial_dir(workspace: &Workspace, toolchain: &str) -> PathBuf {
    workspace.target.join("xtask").join("build-std").join(toolchain)
}
