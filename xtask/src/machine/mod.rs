//! What this machine has for building and testing: facts, and how they are found out.
//!
//! Nothing here decides or changes anything. `toolchain` chooses by these facts, and `setup` makes the missing ones true.

pub(crate) mod facts;
mod packages;
mod probe;
mod trial;

pub(crate) use self::{
    facts::{BuildStd, Candidates, Facts, LINKER_VERSION, Linker, Lists, RustupToolchain},
    packages::{DEBIAN_CARGO_CLIPPY, DEBIAN_RUSTC, LLVM_PREFIX, Need, PACKAGES, Package},
    probe::{candidates, probe},
    trial::{remember_pass, trial_dir},
};
