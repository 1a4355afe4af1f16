//! `build`: the three binaries that users install, side by side in one directory.
//!
//! The plugin is linked statically: its start is part of every pod's start, and a third of that went to finding, mapping and relocating
//! libraries. Cargo has no flags for one binary of a workspace, so the plugin has an invocation of its own. Every other build of the
//! workspace leaves a plugin with libraries in `target/release`; what is installed, measured and tested is therefore copied elsewhere.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use crate::{arch::Arch, build_ebpf, progress, workspace::Workspace};

struct Binary {
    package: &'static str,
    name: &'static str,
}

const PLUGIN: Binary = Binary { package: "azure-cni-plugin", name: "azure-cni" };
const AGENT: Binary = Binary { package: "azure-cni-agent", name: "azure-cni-agent" };
const CTL: Binary = Binary { package: "azure-cni-ctl", name: "azure-cni-ctl" };

/// What the agent's feature `faults` reads.
const FAULT_VARIABLE: &str = "AZURE_CNI_FAIL_AFTER";

/// The packages of the demo and of the benchmark, which run from `target/release`.
const TOOLS: [&str; 2] = ["azure-cni-tests", "azure-cni-bench"];

/// Builds what users install, and the demo and the benchmark. Returns the directory of what users install.
pub(crate) fn for_users(workspace: &Workspace, arch: Arch) -> Result<PathBuf> {
    let mut build = workspace.cargo();
    build.args(["build", "--release", "--bins"]);
    build.args([AGENT.package, CTL.package].iter().chain(&TOOLS).flat_map(|name| ["--package", name]));
    arch.configure(&mut build);
    progress::show("the agent, the operator's command, the demo, the benchmark", build)?;
    let directory = collect(workspace, arch, "dist")?;
    ensure_without_faults(&directory.join(AGENT.name))?;
    Ok(directory)
}

/// The tests' agent fails where a test tells it to, by a feature of its package. Cargo unites the features of what it builds at once, so
/// what comes out is looked at.
fn ensure_without_faults(agent: &Path) -> Result<()> {
    let content = fs::read(agent).with_context(|| format!("cannot read {}", agent.display()))?;
    let injects = content.windows(FAULT_VARIABLE.len()).any(|window| window == FAULT_VARIABLE.as_bytes());
    ensure!(!injects, "{} has fault injection, which is for tests alone", agent.display());
    Ok(())
}

/// Builds the same together with the tests: features that the tests add to dependencies, such as tokio's test clock, would otherwise
/// have half of the workspace compiled twice. For the same reason the result does not go where users look.
pub(crate) fn for_tests(workspace: &Workspace, arch: Arch) -> Result<PathBuf> {
    let mut build = workspace.cargo();
    build.args(["build", "--release", "--workspace", "--exclude", build_ebpf::PACKAGE, "--bins", "--tests"]);
    arch.configure(&mut build);
    progress::show("all binaries and tests", build)?;
    collect(workspace, arch, "xtask/bin")
}

fn collect(workspace: &Workspace, arch: Arch, place: &str) -> Result<PathBuf> {
    let mut plugin = workspace.cargo();
    plugin.args(["rustc", "--release", "--package", PLUGIN.package, "--bin", PLUGIN.name]);
    arch.configure(&mut plugin);
    plugin.args(["--", "-C", "target-feature=+crt-static"]);
    progress::show("the plugin, linked statically", plugin)?;

    let directory = arch.target(workspace).join(place);
    fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    for Binary { name, .. } in [PLUGIN, AGENT, CTL] {
        let (built, copy) = (arch.release_dir(workspace).join(name), directory.join(name));
        // A copy that is running cannot be overwritten, but it can be replaced.
        let unfinished = copy.with_extension("new");
        fs::copy(&built, &unfinished).with_context(|| format!("cannot copy {}", built.display()))?;
        fs::rename(&unfinished, &copy).with_context(|| format!("cannot write {}", copy.display()))?;
    }
    Ok(directory)
}
