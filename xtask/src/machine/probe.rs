//! Finds out what the machine has. Changes nothing, asks no network, and takes a fraction of a second: `build-ebpf` begins with it.
//!
//! What cannot be found out counts as absent; why it is absent does not matter to the plan.

use std::{
    env, fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use clap::ValueEnum as _;

use super::{
    facts::{BuildStd, Candidates, DebianRust, Facts, Linker, Lists, RustupToolchain},
    packages::{DEBIAN_BPF_CORE, DEBIAN_RUSTC, PACKAGES, Package, Trace},
    trial,
};
use crate::{arch::Arch, compiler::Compiler, workspace::Workspace};

pub(crate) fn probe(workspace: &Workspace) -> Facts {
    Facts {
        root: fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0),
        linker: linker(workspace),
        deny: program("cargo-deny").is_some(),
        rustup_toolchains: rustup_toolchains(workspace),
        debian: DebianRust {
            compiler: answer(workspace.command(DEBIAN_RUSTC).arg("-vV")).and_then(|answer| Compiler::parse(&answer)),
            bpf_core: Path::new(DEBIAN_BPF_CORE).is_dir(),
        },
        targets: targets(workspace),
        absent: PACKAGES.iter().filter(|package| !present(package)).collect(),
        apt: program("apt-get").is_some(),
        lists: Lists::Unasked,
        given_up: Vec::new(),
    }
}

/// What apt would install of each package in the table, by the lists that it has.
pub(crate) fn candidates() -> Candidates {
    let mut policy = Command::new("apt-cache");
    policy.arg("policy").args(PACKAGES.iter().map(|package| package.name)).env("LC_ALL", "C");
    answer(&mut policy).map(|answer| parse_policy(&answer)).unwrap_or_default()
}

fn parse_policy(answer: &str) -> Candidates {
    let mut candidates = Candidates::new();
    let mut package = None;
    for line in answer.lines() {
        if let Some(name) = line.strip_suffix(':').filter(|name| !name.starts_with(' ')) {
            package = Some(name);
        } else if let (Some(name), Some(version)) = (package, line.trim_start().strip_prefix("Candidate: "))
            && version != "(none)"
        {
            candidates.insert(name.to_owned(), version.to_owned());
        }
    }
    candidates
}

fn present(package: &Package) -> bool {
    match package.trace {
        Trace::Program(name) => program(name).is_some(),
        Trace::File(path) => Path::new(path).exists(),
    }
}

fn linker(workspace: &Workspace) -> Option<Linker> {
    let path = program("bpf-linker")?;
    let output = answer(workspace.command(&path).arg("--version"))?;
    let version = output.trim().strip_prefix("bpf-linker ")?.to_owned();
    Some(Linker { path, version })
}

/// Nightlies first: they accept `-Z` without a special variable. Then the toolchain that runs us.
fn rustup_toolchains(workspace: &Workspace) -> Vec<RustupToolchain> {
    let listed = answer(Command::new("rustup").args(["toolchain", "list", "--quiet"])).unwrap_or_default();
    let nightlies = listed.lines().filter(|name| name.starts_with("nightly")).map(str::to_owned);
    let active = env::var("RUSTUP_TOOLCHAIN").ok().filter(|name| !name.starts_with("nightly"));
    nightlies.chain(active).filter_map(|name| rustup_toolchain(workspace, name)).collect()
}

fn rustup_toolchain(workspace: &Workspace, name: String) -> Option<RustupToolchain> {
    let rustc = |argument: &str| answer(Command::new("rustup").args(["run", &name, "rustc"]).args(argument.split(' ')));
    let compiler = Compiler::parse(&rustc("-vV")?)?;
    let source = Path::new(rustc("--print sysroot")?.trim()).join("lib/rustlib/src/rust/library/core");
    let build_std = match source.is_dir() {
        false => BuildStd::NoSource,
        true if trial::passed(workspace, &name, &compiler) => BuildStd::Works,
        true => BuildStd::Untried,
    };
    Some(RustupToolchain { name, compiler, build_std })
}

fn targets(workspace: &Workspace) -> Vec<Arch> {
    let sysroot = answer(workspace.command("rustc").args(["--print", "sysroot"])).unwrap_or_default();
    Arch::value_variants().iter().copied().filter(|arch| arch.has_std(Path::new(sysroot.trim()))).collect()
}

/// Finds a program in PATH, and in directories that PATH may lack: a user's PATH lacks `sbin`, and cargo may run by its full name without
/// its own directory in PATH.
fn program(name: &str) -> Option<PathBuf> {
    let cargo_home =
        env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    env::split_paths(&env::var_os("PATH").unwrap_or_default())
        .chain(cargo_home.map(|home| home.join("bin")))
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}

/// What a program prints, if it can be run and succeeds.
fn answer(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_apt_would_install_is_read_from_its_policy() {
        let policy = "rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1~deb12u2\n  Version table:\n     \
            1.96.0+dfsg1-1~deb12u2 500\n        500 http://deb.debian.org/debian-security bookworm-security/main amd64 Packages\n\
            llvm-22-dev:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\n";
        let expected = Candidates::from([("rustc-web".to_owned(), "1.96.0+dfsg1-1~deb12u2".to_owned())]);
        assert_eq!(parse_policy(policy), expected);
    }

    #[test]
    fn a_program_is_found_where_path_does_not_lead() {
        assert!(program("sh").is_some());
        assert_eq!(program("no-such-program-anywhere"), None);
    }
}
