//! `kernels`: the programs, the agent and the plugin on the kernels that nodes have, each booted in an emulator.
//!
//! A guest is a kernel of a distribution, its modules, this machine's programs and the test binaries that `cargo xtask test` has built.
//! The guest runs the same tests.

mod archive;
mod catalogue;
mod console;
mod document;
mod emulator;
mod files;
mod guest;
mod image;
mod modules;
mod step;
mod userland;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, bail, ensure};

use self::{
    archive::{Archive, Kernel},
    catalogue::{Series, ends_of, series_of},
    console::Outcome,
    guest::Guest,
    image::Image,
    step::Step,
};
use crate::{
    arch::{Arch, NATIVE},
    binaries, build_ebpf, elf, setup,
    workspace::{Workspace, write_if_changed},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// The programs load, and a pod's whole life with traffic.
    Quick,
    /// All packet tests and every path as well.
    Full,
}

impl Depth {
    fn steps(self, arch: Arch, series: &Series) -> &'static [Step] {
        const REFUSAL: Step = Step {
            name: "refusal",
            jit: true,
            lacks: None,
            binary: "programs",
            arguments: "verifier::kernel_that_lacks_something",
        };
        /// Before another step has loaded what this one must not find.
        const WITHOUT_MODULE: Step = Step {
            name: "without a module",
            jit: true,
            lacks: Some("sch_ingress"),
            binary: "system",
            arguments: "start::module_that_pods_need",
        };
        const LOAD: Step = Step {
            name: "load",
            jit: true,
            lacks: None,
            binary: "programs",
            arguments: "verifier:: --nocapture --test-threads 1",
        };
        const WITHOUT_JIT: Step =
            Step { name: "without JIT", jit: false, lacks: None, binary: "programs", arguments: "verifier::names" };
        /// Without those that count instructions: programs that count are many times as large, and are for this machine alone.
        const PACKETS: Step = Step {
            name: "packet tests",
            jit: true,
            lacks: None,
            binary: "programs",
            arguments: "--test-threads 2 --skip counting:: --skip shares::refusals_of",
        };
        /// CHECK and DEL are in the verbs, source NAT with its replies in the others. One after the other, as their waits are not made for
        /// an emulator.
        const END_TO_END: Step = Step {
            name: "end to end",
            jit: true,
            lacks: None,
            binary: "system",
            arguments: "cni_verbs::add_check_and_del_go_round_in_every_version nat::source_port_is_kept_if_free \
                dual_stack::same_port_of_two_pods --test-threads 1",
        };
        /// The paths are of the same VM, across VMs and to the Internet. In an emulator the end of one connection may be seen on the next
        /// path, about once in ten runs: not for CI.
        const EVERY_WAY: Step = Step {
            arguments: "cni_verbs::add_check_and_del_go_round_in_every_version paths:: dual_stack::same_port_of_two_pods \
                dual_stack::every_path start::tcx --test-threads 1",
            ..END_TO_END
        };
        if series.is_too_old(arch) {
            return &[REFUSAL];
        }
        match self {
            Self::Quick => &[WITHOUT_MODULE, LOAD, END_TO_END],
            Self::Full => &[WITHOUT_MODULE, LOAD, WITHOUT_JIT, PACKETS, EVERY_WAY],
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Such as `6.1`, in the order in which they begin; none: all, or with [`Depth::Quick`] the oldest and the newest.
    pub(crate) series: Vec<String>,
    pub(crate) arch: Arch,
    pub(crate) depth: Depth,
}

/// Boots each kernel that was asked for, and writes its row of `docs/kernels.md`.
pub(crate) fn run(workspace: &Workspace, request: &Request) -> Result<()> {
    // A name that is not known costs nobody a build.
    let chosen = chosen(request)?;
    let facts = setup::ensure(workspace, setup::Purpose::Kernels(request.arch))?;
    build_ebpf::run(workspace, &facts, build_ebpf::Profile::Release)?;
    binaries::for_tests(workspace, request.arch)?;
    let object = fs::read(&workspace.ebpf_object).context("cannot read the object of programs")?;
    let loaded = elf::loaded_contents(&object).context("the object of programs is no ELF object")?;
    let object = document::identity(&loaded);
    let document = workspace.root.join("docs").join("kernels.md");
    let outcomes = boot(workspace, request, chosen, |series, outcome| {
        let before = fs::read_to_string(&document).unwrap_or_default();
        let now = document::document(&before, &object, request.arch, series, outcome);
        write_if_changed(&document, now.as_bytes()).map(drop)
    })?;
    eprintln!("==> docs/kernels.md says so");
    judge(&directory(workspace, request.arch), &outcomes)
}

/// Boots what CI asks for, with everything built.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let request = Request { series: Vec::new(), arch: NATIVE, depth: Depth::Quick };
    judge(&directory(workspace, NATIVE), &boot(workspace, &request, chosen(&request)?, |_, _| Ok(()))?)
}

/// `record` is told of each kernel as soon as it has ended.
fn boot(
    workspace: &Workspace,
    request: &Request,
    chosen: Vec<&'static Series>,
    record: impl Fn(&Series, &Outcome) -> Result<()> + Sync,
) -> Result<Vec<(&'static Series, Outcome)>> {
    let directory = directory(workspace, request.arch);
    fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let archive = Archive::open(workspace, request.arch, &directory)?;
    let image = Image::build(workspace, request.arch, &archive, &directory)?;

    let outcomes = Mutex::new(Vec::new());
    let end = |series: &'static Series, outcome: Outcome| {
        let mut outcomes = outcomes.lock().expect("no guest panics");
        record(series, &outcome)?;
        outcomes.push((series, outcome));
        anyhow::Ok(())
    };
    let mut guests: Vec<Guest> = Vec::new();
    for series in chosen {
        let (series, kernel) = find(&archive, series, request)?;
        let Some(kernel) = kernel else {
            end(series, Outcome::none(series, "no archive in reach has it"))?;
            continue;
        };
        // Named twice, or the only one that an archive in reach has.
        if guests.iter().any(|guest| guest.kernel.release == kernel.release) {
            continue;
        }
        let steps = request.depth.steps(request.arch, series);
        guests.push(Guest { workspace, arch: request.arch, series, kernel, steps, image: &image });
    }
    // Two beside each other: for a good part of its time a guest uses one processor, or waits.
    let guests = Mutex::new(guests.into_iter());
    let next = || guests.lock().expect("no guest panics").next();
    let run = || -> Result<()> {
        while let Some(guest) = next() {
            let started = Instant::now();
            let outcome = guest.run().with_context(|| format!("kernel {}", guest.kernel.release))?;
            eprintln!("    {outcome} ({} s)", started.elapsed().as_secs());
            end(guest.series, outcome)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let beside = scope.spawn(run);
        run().and(beside.join().expect("no guest panics"))
    })?;
    Ok(outcomes.into_inner().expect("no guest panics"))
}

fn judge(directory: &Path, outcomes: &[(&Series, Outcome)]) -> Result<()> {
    ensure!(outcomes.iter().any(|(_, outcome)| outcome.has_run()), "no kernel could be had: is there a network?");
    let failed: Vec<_> = outcomes.iter().filter(|(_, outcome)| outcome.has_failed()).collect();
    if !failed.is_empty() {
        let lines: Vec<_> = failed.iter().map(|(_, outcome)| outcome.to_string()).collect();
        bail!(
            "{} of {} kernels failed; what each printed is in {}\n  {}",
            failed.len(),
            outcomes.len(),
            directory.display(),
            lines.join("\n  ")
        );
    }
    Ok(())
}

/// Of archives, kernels, images, and of what guests printed.
fn directory(workspace: &Workspace, arch: Arch) -> PathBuf {
    workspace.target.join("kernels").join(arch.debian())
}

/// The kernel of a series. CI takes the next series that can be had, so that an archive out of reach costs it no kernel.
fn find(
    archive: &Archive<'_>,
    series: &'static Series,
    request: &Request,
) -> Result<(&'static Series, Option<Kernel>)> {
    let later = series_of(request.arch).skip_while(|other| other.name != series.name);
    let most = if request.series.is_empty() && request.depth == Depth::Quick { usize::MAX } else { 1 };
    for candidate in later.take(most) {
        if let Some(kernel) = archive.fetch(candidate).with_context(|| format!("kernel {}", candidate.name))? {
            return Ok((candidate, Some(kernel)));
        }
        eprintln!("    {}: no archive that apt reaches has a package of it", candidate.name);
    }
    Ok((series, None))
}

fn chosen(request: &Request) -> Result<Vec<&'static Series>> {
    let all = || series_of(request.arch);
    let named = |name: &String| {
        let names = || all().map(|series| series.name).collect::<Vec<_>>().join(", ");
        let series = all().find(|series| series.name == name);
        series.with_context(|| format!("no kernel {name:?} of {} is known here; there are {}", request.arch, names()))
    };
    match (request.series.as_slice(), request.depth) {
        ([], Depth::Full) => Ok(all().collect()),
        ([], Depth::Quick) => Ok(ends_of(request.arch).collect()),
        (names, _) => names.iter().map(named).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No command runs in a folder that is not there: whatever came first would be another error, and install nothing.
    #[test]
    fn a_series_that_is_not_known_is_refused_before_anything_else() {
        let workspace = Workspace::at(Path::new("/nowhere"));
        let request = Request { series: vec!["6.11".to_owned()], arch: NATIVE, depth: Depth::Quick };
        let error = run(&workspace, &request).unwrap_err().to_string();
        assert!(error.starts_with("no kernel \"6.11\""), "{error}");
    }

    #[test]
    fn a_kernel_without_the_atomics_of_its_processor_is_refused_by_name() {
        let steps = |name, arch| {
            let series = series_of(arch).find(|series| series.name == name).unwrap();
            Depth::Full.steps(arch, series).iter().map(|step| step.name).collect::<Vec<_>>()
        };
        assert_eq!(steps("5.15", Arch::Arm64), ["refusal"]);
        assert!(!steps("5.15", Arch::X86_64).contains(&"refusal"));
        assert!(!steps("6.1", Arch::Arm64).contains(&"refusal"));
    }
}
