//! `test`: everything that must hold before a change goes in.
//!
//! xtask becomes the test runner in the end: its summary is the last thing printed, its exit status is ours. One profile, release, for
//! binaries and tests alike: the system's tests measure, and nothing is compiled twice.

use std::{
    ffi::OsString,
    num::NonZero,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context as _, Result};

use crate::{
    arch::NATIVE,
    binaries,
    build_ebpf::{self, PACKAGE},
    kernels, lint, progress, setup,
    workspace::Workspace,
};

#[derive(Debug)]
pub(crate) struct Selection {
    pub(crate) filter: Option<OsString>,
    pub(crate) lint: bool,
    /// For the tests: both runners take them behind `--`.
    pub(crate) arguments: Vec<OsString>,
}

#[derive(Clone, Copy, Debug)]
enum Runner {
    /// A process for each test, and one summary at the end.
    Nextest,
    Cargo,
}

pub(crate) fn run(workspace: &Workspace, selection: &Selection) -> Result<()> {
    let purpose = if selection.lint { setup::Purpose::Check } else { setup::Purpose::Build(NATIVE) };
    let facts = setup::ensure(workspace, purpose)?;
    build_ebpf::run(workspace, &facts, build_ebpf::Profile::Release)?;
    if selection.lint {
        lint::check(workspace, &facts)?;
    }
    let binaries = binaries::for_tests(workspace, NATIVE)?;
    if selection.lint && selection.filter.is_none() {
        kernels::check(workspace)?;
    }

    let tests = |subcommand: &[&str]| tests(workspace, subcommand, &binaries, selection);
    let runner = installed(workspace);
    if let Runner::Nextest = runner {
        // nextest leaves out the examples in documentation, and its own summary has to be the last.
        progress::show("examples in the documentation", tests(&["test", "--doc"]))?;
    }
    let mut tests = match runner {
        Runner::Nextest => tests(&["nextest", "run", "--no-fail-fast", "--test-threads", &at_once()]),
        Runner::Cargo => tests(&["test", "--no-fail-fast"]),
    };
    eprintln!("==> tests");
    Err(tests.exec()).context("cannot run cargo")
}

/// How many tests run beside each other: more than there are cores, because those of the system mostly wait.
fn at_once() -> String {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    (cores + cores.div_ceil(2)).to_string()
}

fn tests(workspace: &Workspace, subcommand: &[&str], binaries: &Path, selection: &Selection) -> Command {
    let mut tests = workspace.cargo();
    tests.args(subcommand).args(["--release", "--workspace", "--exclude", PACKAGE]).args(&selection.filter);
    tests.arg("--").args(&selection.arguments);
    tests.env("AZURE_CNI_BIN_DIR", binaries);
    tests
}

fn installed(workspace: &Workspace) -> Runner {
    let mut ask = workspace.cargo();
    ask.args(["nextest", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    if ask.status().is_ok_and(|status| status.success()) { Runner::Nextest } else { Runner::Cargo }
}
