//! `cargo xtask`: one command for each chore of the project.
//!
//! This package depends on no other of the workspace, so that it compiles first and quickly on a fresh machine. Each command is one
//! module, in the order in which a newcomer meets them.

// But for one call between fork and exec, see `kernels/emulator.rs`.
#![deny(unsafe_code)]

mod setup;

mod binaries;
mod build_ebpf;
mod kernels;
mod launch;
mod lint;
mod test;

#[cfg(test)]
mod documents;

mod arch;
mod compiler;
mod elf;
mod machine;
mod progress;
mod toolchain;
mod workspace;

use std::{ffi::OsString, process::ExitCode};

use arch::{Arch, NATIVE};
use clap::{Parser, Subcommand};
use workspace::Workspace;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about, long_about = None, after_help = LESSON)]
struct CommandLine {
    #[command(subcommand)]
    command: Chore,
}

const LESSON: &str = "\
A first look, on a fresh machine, as root:
  cargo xtask demo                    a VNet out of network namespaces, with real traffic
  cargo xtask test                    formatting, lints, every test

To install:
  cargo xtask build                   azure-cni, azure-cni-agent and azure-cni-ctl, in target/dist

While working:
  cargo xtask build-ebpf              after a change to the eBPF programs (the agent embeds the result)
  cargo xtask test snat               the tests that have `snat` in their name
  cargo xtask test --no-lint -- --nocapture
  cargo xtask lint                    formatting and lints alone
  cargo xtask bench --quick           how fast it is, beside a bare veth pair
  cargo xtask kernels --quick         the oldest and the newest kernel, in an emulator

`build`, `demo`, `bench` and `test` begin with `setup` and `build-ebpf`, which do nothing when there is nothing to do.";

#[derive(Debug, Subcommand)]
enum Chore {
    /// Find what this machine lacks for building and testing, say so, and install it
    #[command(long_about = "Find what this machine lacks for building and testing, say so, and install it.\n\n\
        Looks for bpf-linker, for a compiler that has `core` for eBPF (a nightly with rust-src, else rust-src through rustup, else \
        Debian's rustc-web), for the programs that the tests run, and for cargo-deny. Without root or network it prints the commands that remain and \
        exits with a failure.")]
    Setup,
    /// Compile the eBPF programs to target/ebpf/azure-cni-ebpf, which the agent embeds
    BuildEbpf {
        /// Optimized, as `demo` and `test` use them
        #[arg(long)]
        release: bool,
    },
    /// Set up, and build the three binaries to install: azure-cni, azure-cni-agent and azure-cni-ctl, in target/dist
    Build {
        /// For VMs with another processor; the binaries are then in target/TRIPLE/dist
        #[arg(long, value_name = "ARCH", default_value_t = NATIVE)]
        target: Arch,
    },
    /// Set up, build, and show the real agent and plugin carrying traffic on a VNet made of namespaces (root)
    #[command(after_help = "The demo's own options include:\n  \
        --keep     leave everything standing, and print how to look around\n  \
        --quick    under 15 seconds\n\n\
        All of them: cargo xtask demo -- --help")]
    Demo {
        /// Passed on to the demo
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Set up, build, and measure: against a bare veth pair, and against the reference plugins (root)
    #[command(after_help = "All options of the benchmark: cargo xtask bench -- --help")]
    Bench {
        /// Passed on to the benchmark, such as `--quick`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Set up, build, lint, boot the oldest and the newest kernel, and run every test (root); the test runner's summary comes last
    Test {
        /// Only tests whose name contains this
        filter: Option<OsString>,
        /// Skip formatting, clippy and other kernels
        #[arg(long)]
        no_lint: bool,
        /// Passed on to the tests, such as `--nocapture` or `--ignored`
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// Set up, build, and boot the kernels that nodes run, with the same tests (needs no root but for installing packages)
    #[command(
        long_about = "Set up, build, and boot the kernels that nodes run, in an emulator: the programs are loaded, every packet \
        test is run, and a pod is added, checked, reached and deleted.\n\nKernels come from the archives of Debian and Ubuntu; which \
        build of a series is taken depends on what they offer. What a guest printed is kept in target/kernels. Each run \
        writes its rows of docs/kernels.md."
    )]
    Kernels {
        /// This series only, such as 6.1, or `newest`; may be given several times
        #[arg(long, value_name = "SERIES")]
        kernel: Vec<String>,
        /// Of this processor; the binaries are compiled for it
        #[arg(long, default_value_t = NATIVE)]
        arch: Arch,
        /// The oldest and the newest only, without the packet tests
        #[arg(long)]
        quick: bool,
    },
    /// Check formatting, clippy with warnings denied (the eBPF programs included), and dependencies
    Lint,
}

fn main() -> ExitCode {
    let command = CommandLine::parse().command;
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Chore) -> anyhow::Result<()> {
    let workspace = Workspace::find()?;
    match command {
        Chore::Setup => setup::ensure(&workspace, setup::Purpose::Check).map(drop),
        Chore::BuildEbpf { release } => {
            let profile = if release { build_ebpf::Profile::Release } else { build_ebpf::Profile::Dev };
            build_ebpf::run(&workspace, &machine::probe(&workspace), profile)
        }
        Chore::Build { target } => {
            let facts = setup::ensure(&workspace, setup::Purpose::Build(target))?;
            build_ebpf::run(&workspace, &facts, build_ebpf::Profile::Release)?;
            let installed = binaries::for_users(&workspace, target)?;
            eprintln!("==> to install: {}", installed.display());
            Ok(())
        }
        Chore::Demo { arguments } => launch::run(&workspace, "demo", &arguments),
        Chore::Bench { arguments } => launch::run(&workspace, "bench", &arguments),
        Chore::Test { filter, no_lint, arguments } => {
            test::run(&workspace, &test::Selection { filter, lint: !no_lint, arguments })
        }
        Chore::Kernels { kernel, arch, quick } => {
            let depth = if quick { kernels::Depth::Quick } else { kernels::Depth::Full };
            kernels::run(&workspace, &kernels::Request { series: kernel, arch, depth })
        }
        Chore::Lint => lint::run(&workspace),
    }
}
