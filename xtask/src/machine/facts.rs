//! What a machine has, as data: `probe` fills it in, `setup` decides by it, tests write it down.

use std::{collections::BTreeMap, path::PathBuf};

use super::packages::Package;
use crate::{
    arch::Arch,
    compiler::{Compiler, Version},
};

/// The bpf-linker that setup installs; a later patch of the same minor version serves as well.
pub(crate) const LINKER_VERSION: &str = "0.13.0";

#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) root: bool,
    pub(crate) linker: Option<Linker>,
    /// cargo-deny is installed, in any version.
    pub(crate) deny: bool,
    /// In the order of preference: nightlies first, then the toolchain that runs us.
    pub(crate) rustup_toolchains: Vec<RustupToolchain>,
    pub(crate) debian: DebianRust,
    /// The compiler that runs us has the standard library for these.
    pub(crate) targets: Vec<Arch>,
    /// Those of the table whose trace was not found.
    pub(crate) absent: Vec<&'static Package>,
    pub(crate) apt: bool,
    /// Known only once this run has asked for them.
    pub(crate) lists: Lists,
    /// Toolchains that this run failed to make usable. Not kept: the next run may have a network.
    pub(crate) given_up: Vec<String>,
}

impl Facts {
    /// The facts of a later probe, with what only this run's own attempts can tell.
    pub(crate) fn probed_again(self, later: Self) -> Self {
        Self { lists: self.lists, given_up: self.given_up, ..later }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Linker {
    pub(crate) path: PathBuf,
    /// As the program reports it.
    pub(crate) version: String,
}

impl Linker {
    /// `^0.13`: of a version below 1, another minor number is another interface.
    pub(crate) fn suits(&self) -> bool {
        self.version.parse() == LINKER_VERSION.parse::<Version>()
    }
}

#[derive(Clone, Debug)]
pub(crate) struct RustupToolchain {
    pub(crate) name: String,
    pub(crate) compiler: Compiler,
    pub(crate) build_std: BuildStd,
}

/// Whether a toolchain makes `core` for eBPF from its own source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BuildStd {
    /// The component rust-src is not installed.
    NoSource,
    /// The source is there, but was never compiled: cargo may lack what the standard library's lock file asks for.
    Untried,
    Works,
}

/// The compiler that Debian keeps recent for its browsers, at /usr/bin/rustc.
#[derive(Clone, Debug, Default)]
pub(crate) struct DebianRust {
    pub(crate) compiler: Option<Compiler>,
    /// Its sysroot has a compiled `core` for our target.
    pub(crate) bpf_core: bool,
}

impl DebianRust {
    pub(crate) fn compiler_suits(&self) -> bool {
        self.compiler.as_ref().is_some_and(Compiler::suits)
    }

    pub(crate) fn works(&self) -> bool {
        self.bpf_core && self.compiler_suits()
    }
}

/// Which version apt would install of each package.
pub(crate) type Candidates = BTreeMap<String, String>;

/// apt's lists: nothing can be said of a package before this run has tried to refresh them.
#[derive(Clone, Debug, Default)]
pub(crate) enum Lists {
    #[default]
    Unasked,
    Fresh(Candidates),
    /// The refresh failed; these are from before.
    AsTheyWere(Candidates),
}
