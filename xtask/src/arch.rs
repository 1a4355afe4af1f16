//! The processors that nodes have. The eBPF object is the same for both; the binaries and the kernels are not.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::Command,
};

use clap::ValueEnum;

use crate::workspace::Workspace;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Arch {
    #[value(name = "x86-64", alias("amd64"), alias("x86_64"), alias("x86_64-unknown-linux-gnu"))]
    X86_64,
    #[value(name = "arm64", alias("aarch64"), alias("aarch64-unknown-linux-gnu"))]
    Arm64,
}

/// That of the machine that builds.
pub(crate) const NATIVE: Arch = if cfg!(target_arch = "x86_64") {
    Arch::X86_64
} else if cfg!(target_arch = "aarch64") {
    Arch::Arm64
} else {
    panic!("builds on x86-64 and arm64 only")
};

impl Arch {
    /// As rustc and cargo name it.
    pub(crate) fn triple(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// As packages of Debian and Ubuntu name it.
    pub(crate) fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// As the names of its cross compiler's programs begin.
    fn multiarch(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-linux-gnu",
            Self::Arm64 => "aarch64-linux-gnu",
        }
    }

    /// Adds to a cargo command what compiles for this processor. For the machine's own there is nothing to add: what is built then lies
    /// where every other command has it.
    pub(crate) fn configure(self, cargo: &mut Command) {
        if self != NATIVE {
            let variable = format!("CARGO_TARGET_{}_LINKER", self.triple().to_uppercase().replace('-', "_"));
            cargo.args(["--target", self.triple()]).env(variable, self.tool("gcc"));
        }
    }

    /// A program of the cross compiler, or the machine's own.
    pub(crate) fn tool(self, name: &str) -> String {
        if self == NATIVE { name.to_owned() } else { format!("{}-{name}", self.multiarch()) }
    }

    /// What is built for it, below the workspace's target folder.
    pub(crate) fn target(self, workspace: &Workspace) -> PathBuf {
        if self == NATIVE { workspace.target.clone() } else { workspace.target.join(self.triple()) }
    }

    pub(crate) fn release_dir(self, workspace: &Workspace) -> PathBuf {
        self.target(workspace).join("release")
    }

    /// Whether the compiler with this sysroot has its standard library.
    pub(crate) fn has_std(self, sysroot: &Path) -> bool {
        sysroot.join("lib/rustlib").join(self.triple()).join("lib").is_dir()
    }
}

/// As documents name it.
impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::X86_64 => "x86-64",
            Self::Arm64 => "arm64",
        })
    }
}
