//! The compiler for the eBPF target, and how cargo is told to use it.
//!
//! cargo and rustup pass their own toolchain to every child through the environment. Here another one is wanted, so that is cleared.

use std::{fmt, path::Path, process::Command};

use crate::{
    machine::{BuildStd, DEBIAN_CARGO_CLIPPY, DEBIAN_RUSTC, Facts, RustupToolchain},
    workspace::Workspace,
};

pub(crate) const TARGET: &str = "bpfel-unknown-none";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// Compiles `core` from rust-src.
    Rustup { name: String, nightly: bool },
    /// rustc-web, whose `core` is compiled already.
    Debian,
}

impl Toolchain {
    /// The first that is ready to use.
    pub(crate) fn choose(facts: &Facts) -> Option<Self> {
        let ready = |toolchain: &&RustupToolchain| toolchain.build_std == BuildStd::Works && toolchain.compiler.suits();
        match facts.rustup_toolchains.iter().find(ready) {
            Some(toolchain) => Some(Self::Rustup { name: toolchain.name.clone(), nightly: toolchain.compiler.nightly }),
            None => facts.debian.works().then_some(Self::Debian),
        }
    }

    /// `cargo SUBCOMMAND` with this compiler and its `core`.
    pub(crate) fn cargo(&self, workspace: &Workspace, subcommand: &str) -> Command {
        match self {
            Self::Rustup { name, nightly } => {
                let mut command = workspace.command("rustup");
                command.args(["run", name, "cargo", subcommand, "-Z", "build-std=core"]);
                if !nightly {
                    command.env("RUSTC_BOOTSTRAP", "1");
                }
                for name in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
                    command.env_remove(name);
                }
                command
            }
            Self::Debian => {
                let mut command = match subcommand {
                    // The other cargo would call its own toolchain's clippy, which cannot read this compiler's `core`.
                    "clippy" => workspace.command(DEBIAN_CARGO_CLIPPY),
                    _ => workspace.cargo(),
                };
                // aya-ebpf uses features of the language that only eBPF has, all of them unstable.
                command.arg(subcommand).env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
                command
            }
        }
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rustup { name, .. } => write!(f, "the source of {name}"),
            Self::Debian => write!(f, "Debian's rustc-web"),
        }
    }
}

/// The flags for every crate of the programs, as CARGO_ENCODED_RUSTFLAGS wants them: they replace any that are set elsewhere, which
/// would be for the host.
///
/// The linker writes BTF only on request, and only from debug information.
pub(crate) fn rust_flags(linker: &Path, more: &[&str]) -> String {
    let mut flags = vec![
        // aya asks for a processor. What differs by it are the registers that tracing sees; nothing here does, and one object is for all.
        "--cfg=bpf_target_arch=\"x86_64\"".to_owned(),
        format!("-Clinker={}", linker.display()),
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        "-Ctarget-cpu=v3".to_owned(),
    ];
    flags.extend(more.iter().map(|&flag| flag.to_owned()));
    flags.join("\x1f")
}
