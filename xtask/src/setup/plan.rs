//! Which steps lead from what a machine has to what it needs. A pure function of the facts.
//!
//! `core` for eBPF comes from the first of these that is here: a nightly with rust-src, the toolchain that runs us with rust-src,
//! Debian's rustc-web. Where none is, rustup is asked for rust-src, and apt for rustc-web only after rustup refused.

use std::fmt;

use thiserror::Error;

use crate::{
    arch::{Arch, NATIVE},
    compiler::{LINKER_LLVM, OLDEST_RUST, Version},
    machine::{
        BuildStd, Candidates, Facts, LINKER_VERSION, LLVM_PREFIX, Linker, Lists, Need, PACKAGES, Package,
        RustupToolchain,
    },
    toolchain::Toolchain,
};

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    AddRustSrc { toolchain: String },
    TryBuildStd { toolchain: String },
    AddTarget(Arch),
    RefreshPackageLists,
    InstallPackages(Vec<&'static Package>),
    InstallLinker,
    InstallDeny,
}

/// What the machine is set up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Building, and running where it is for this machine: all that a newcomer's first look needs.
    Build(Arch),
    /// Checking a change as well.
    Check,
    /// Booting other kernels.
    Kernels(Arch),
}

impl Purpose {
    fn arch(self) -> Arch {
        match self {
            Self::Build(arch) | Self::Kernels(arch) => arch,
            Self::Check => NATIVE,
        }
    }
}

/// The cargo-deny that setup installs; any that is installed already serves as well.
const DENY_VERSION: &str = "0.20.2";

/// Why no sequence of steps leads there. None of these passes by trying again: something outside of setup has to change.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum Obstacle {
    #[error("this is not Debian or Ubuntu (no apt-get): install what these packages hold there, then run this again: {}", .0.join(" "))]
    NoApt(Vec<&'static str>),
    #[error("apt does not know {}, and its lists could not be refreshed: is there a network?", .0.join(" "))]
    NoLists(Vec<&'static str>),
    #[error(
        "apt does not know llvm-{LINKER_LLVM}-dev: add the repository that https://apt.llvm.org describes (`llvm.sh {LINKER_LLVM}`), \
         or put a bpf-linker {LINKER_VERSION} built with LLVM {LINKER_LLVM} or later in PATH, then run this again"
    )]
    NoLlvm,
    #[error("apt does not know {}: add the repository that has it (on Ubuntu: `universe`), then run this again", .0.join(" "))]
    UnknownPackages(Vec<&'static str>),
    #[error(
        "no compiler for eBPF to be had: rustup gave no rust-src to a toolchain that suits, and apt has no rustc-web of version \
         {OLDEST_RUST} or later. Needed is a Rust from {OLDEST_RUST} on whose LLVM is at most {LINKER_LLVM} (`rustc -vV` tells), with \
         its source: rustup component add rust-src --toolchain NAME"
    )]
    NoCore,
}

pub(crate) fn plan(facts: &Facts, purpose: Purpose) -> Result<Plan, Obstacle> {
    let mut steps = Vec::new();
    let mut needs = vec![Need::Always];
    match core_from(facts) {
        Core::Here(Toolchain::Debian) => needs.push(Need::DebianRust),
        Core::Here(Toolchain::Rustup { .. }) => {}
        Core::Steps(core) => steps.extend(core),
        Core::Packages => needs.push(Need::DebianRust),
    }
    let build_linker = !facts.linker.as_ref().is_some_and(Linker::suits);
    if build_linker {
        needs.push(Need::Linker);
    }
    let arch = purpose.arch();
    if !matches!(purpose, Purpose::Build(_)) {
        needs.extend([Need::Kernels, Need::Emulator(arch)]);
    }
    if arch != NATIVE {
        needs.push(Need::Cross(arch));
        if !facts.targets.contains(&arch) {
            steps.push(Step::AddTarget(arch));
        }
    }

    let packages: Vec<_> =
        PACKAGES.iter().filter(|package| needs.contains(&package.need) && missing(package, facts)).collect();
    if !packages.is_empty() {
        steps.extend(install(packages, facts)?);
    }
    if build_linker {
        steps.push(Step::InstallLinker);
    }
    if purpose == Purpose::Check && !facts.deny {
        steps.push(Step::InstallDeny);
    }
    Ok(Plan { steps })
}

enum Core {
    Here(Toolchain),
    Steps(Vec<Step>),
    Packages,
}

fn core_from(facts: &Facts) -> Core {
    let first = |build_std| {
        let fits = |toolchain: &&RustupToolchain| {
            toolchain.build_std == build_std && toolchain.compiler.suits() && !facts.given_up.contains(&toolchain.name)
        };
        facts.rustup_toolchains.iter().find(fits).map(|toolchain| toolchain.name.clone())
    };
    match Toolchain::choose(facts) {
        Some(ready @ Toolchain::Rustup { .. }) => Core::Here(ready),
        ready => {
            if let Some(toolchain) = first(BuildStd::Untried) {
                Core::Steps(vec![Step::TryBuildStd { toolchain }])
            } else if let Some(ready) = ready {
                Core::Here(ready)
            } else if let Some(toolchain) = first(BuildStd::NoSource) {
                let tried = toolchain.clone();
                Core::Steps(vec![Step::AddRustSrc { toolchain }, Step::TryBuildStd { toolchain: tried }])
            } else {
                Core::Packages
            }
        }
    }
}

/// Any compiler may be at the place of rustc-web's. Its companions must have its version, so they come together.
fn missing(package: &&'static Package, facts: &Facts) -> bool {
    facts.absent.contains(package) || (package.need == Need::DebianRust && !facts.debian.compiler_suits())
}

fn install(packages: Vec<&'static Package>, facts: &Facts) -> Result<Vec<Step>, Obstacle> {
    let names = |packages: &[&Package]| packages.iter().map(|package| package.name).collect::<Vec<_>>();
    if !facts.apt {
        return Err(Obstacle::NoApt(names(&packages)));
    }
    let candidates = match &facts.lists {
        Lists::Unasked => return Ok(vec![Step::RefreshPackageLists, Step::InstallPackages(packages)]),
        Lists::Fresh(candidates) | Lists::AsTheyWere(candidates) => candidates,
    };
    let unknown: Vec<_> = packages.iter().copied().filter(|package| !on_offer(package, candidates)).collect();
    match unknown.first() {
        None => Ok(vec![Step::InstallPackages(packages)]),
        Some(_) if matches!(facts.lists, Lists::AsTheyWere(_)) => Err(Obstacle::NoLists(names(&unknown))),
        Some(_) if unknown.iter().any(|package| package.need == Need::DebianRust) => Err(Obstacle::NoCore),
        Some(_) if unknown.iter().any(|package| package.need == Need::Linker) => Err(Obstacle::NoLlvm),
        Some(_) => Err(Obstacle::UnknownPackages(names(&unknown))),
    }
}

fn on_offer(package: &Package, candidates: &Candidates) -> bool {
    candidates.get(package.name).is_some_and(|version| {
        package.name != "rustc-web" || version.parse::<Version>().is_ok_and(|version| version >= OLDEST_RUST)
    })
}

impl Step {
    pub(crate) fn needs_root(&self) -> bool {
        matches!(self, Self::RefreshPackageLists | Self::InstallPackages(_))
    }

    /// What a person types to do this by hand; none for what only setup does.
    pub(crate) fn command_line(&self, root: bool) -> Option<String> {
        let sudo = if self.needs_root() && !root { "sudo " } else { "" };
        let command = match self {
            Self::TryBuildStd { .. } => return None,
            Self::AddRustSrc { toolchain } => format!("rustup component add rust-src --toolchain {toolchain}"),
            Self::AddTarget(arch) => format!("rustup target add {}", arch.triple()),
            Self::RefreshPackageLists => "apt-get update".to_owned(),
            Self::InstallPackages(packages) => {
                let names: Vec<_> = packages.iter().map(|package| package.name).collect();
                format!("apt-get install --yes --no-install-recommends {}", names.join(" "))
            }
            Self::InstallLinker => format!("LLVM_PREFIX={LLVM_PREFIX} cargo {}", Self::linker_arguments().join(" ")),
            Self::InstallDeny => format!("cargo {}", Self::deny_arguments().join(" ")),
        };
        Some(format!("{sudo}{command}"))
    }

    /// `--force`: one that is installed but does not start counts as missing, and cargo would leave it.
    pub(crate) fn linker_arguments() -> [&'static str; 8] {
        [
            "install",
            "bpf-linker",
            "--version",
            LINKER_VERSION,
            "--no-default-features",
            "--features=llvm-22",
            "--locked",
            "--force",
        ]
    }

    pub(crate) fn deny_arguments() -> [&'static str; 5] {
        ["install", "cargo-deny", "--version", DENY_VERSION, "--locked"]
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddRustSrc { toolchain } => {
                write!(f, "add rust-src to {toolchain} through rustup")
            }
            Self::TryBuildStd { toolchain } => write!(f, "try whether {toolchain} builds `core` for eBPF"),
            Self::AddTarget(arch) => write!(f, "add the standard library for {arch} through rustup"),
            Self::RefreshPackageLists => write!(f, "refresh apt's package lists"),
            Self::InstallPackages(packages) => write!(f, "install {} packages with apt", packages.len()),
            Self::InstallLinker => write!(f, "build and install bpf-linker {LINKER_VERSION} (a minute or two)"),
            Self::InstallDeny => write!(f, "build and install cargo-deny {DENY_VERSION} (a minute or two)"),
        }
    }
}

#[cfg(test)]
mod tests;
