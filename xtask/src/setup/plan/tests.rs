//! Machines, and what is to be done about each.

use super::*;
use crate::machine::facts::DebianRust;

fn plan(facts: &Facts) -> Result<Plan, Obstacle> {
    super::plan(facts, Purpose::Build(NATIVE))
}

const NIGHTLY: &str = "nightly-x86_64-unknown-linux-gnu";
const STABLE: &str = "stable-x86_64-unknown-linux-gnu";

fn compiler(release: &str, llvm: u32) -> crate::compiler::Compiler {
    crate::compiler::Compiler::parse(&format!("release: {release}\nLLVM version: {llvm}.1.0\n")).unwrap()
}

fn rustup(name: &str, release: &str, llvm: u32, build_std: BuildStd) -> RustupToolchain {
    RustupToolchain { name: name.to_owned(), compiler: compiler(release, llvm), build_std }
}

fn nightly(build_std: BuildStd) -> RustupToolchain {
    rustup(NIGHTLY, "1.97.0-nightly", 22, build_std)
}

fn stable(build_std: BuildStd) -> RustupToolchain {
    rustup(STABLE, "1.95.0", 22, build_std)
}

fn linker(version: &str) -> Option<Linker> {
    Some(Linker { path: "/root/.cargo/bin/bpf-linker".into(), version: version.to_owned() })
}

fn debian_rust() -> DebianRust {
    DebianRust { compiler: Some(compiler("1.96.0", 22)), bpf_core: true }
}

fn packages(needs: &[Need]) -> Vec<&'static Package> {
    PACKAGES.iter().filter(|package| needs.contains(&package.need)).collect()
}

/// A fresh Debian 12 with rustup's stable Rust, and nothing else of ours.
fn fresh() -> Facts {
    Facts {
        root: true,
        rustup_toolchains: vec![stable(BuildStd::NoSource)],
        absent: PACKAGES.iter().collect(),
        apt: true,
        ..Facts::default()
    }
}

/// Lacks nothing but a compiler with `core`.
fn without_core() -> Facts {
    Facts {
        linker: linker("0.13.0"),
        rustup_toolchains: vec![nightly(BuildStd::NoSource), stable(BuildStd::NoSource)],
        absent: packages(&[Need::Linker, Need::DebianRust]),
        ..fresh()
    }
}

fn ready() -> Facts {
    Facts { rustup_toolchains: vec![nightly(BuildStd::Works)], ..without_core() }
}

fn offers(packages: &[(&str, &str)]) -> Candidates {
    packages.iter().map(|&(name, version)| (name.to_owned(), version.to_owned())).collect()
}

fn debian_12() -> Candidates {
    let mut all: Candidates = PACKAGES.iter().map(|package| (package.name.to_owned(), "1.0".to_owned())).collect();
    all.extend(offers(&[("rustc-web", "1.96.0+dfsg1-1~deb12u2")]));
    all
}

#[track_caller]
fn steps(facts: &Facts) -> Vec<Step> {
    plan(facts).unwrap().steps
}

fn add_and_try(name: &str) -> Vec<Step> {
    vec![Step::AddRustSrc { toolchain: name.to_owned() }, Step::TryBuildStd { toolchain: name.to_owned() }]
}

fn from_apt(needs: &[Need]) -> Vec<Step> {
    vec![Step::RefreshPackageLists, Step::InstallPackages(packages(needs))]
}

#[test]
fn a_machine_that_has_everything_is_left_alone() {
    assert_eq!(steps(&ready()), []);
    let with_debian = Facts { rustup_toolchains: vec![], debian: debian_rust(), absent: vec![], ..ready() };
    assert_eq!(steps(&with_debian), []);
}

#[test]
fn a_fresh_machine_gets_rust_src_then_packages_once_then_the_linker() {
    let expected = [add_and_try(STABLE), from_apt(&[Need::Always, Need::Linker]), vec![Step::InstallLinker]].concat();
    assert_eq!(steps(&fresh()), expected);
}

#[test]
fn a_nightly_with_rust_src_is_proven_before_it_is_relied_on() {
    let facts = Facts { rustup_toolchains: vec![nightly(BuildStd::Untried)], ..without_core() };
    assert_eq!(steps(&facts), [Step::TryBuildStd { toolchain: NIGHTLY.to_owned() }]);
    // Also where Debian's compiler is ready: a nightly with rust-src comes first.
    assert_eq!(steps(&Facts { debian: debian_rust(), ..facts }), [Step::TryBuildStd { toolchain: NIGHTLY.to_owned() }]);
}

#[test]
fn rust_src_is_asked_of_rustup_for_the_nightly_first() {
    assert_eq!(steps(&without_core()), add_and_try(NIGHTLY));
}

#[test]
fn rust_src_is_not_asked_for_where_debians_compiler_is_ready() {
    let facts = Facts { debian: debian_rust(), absent: packages(&[Need::Linker]), ..without_core() };
    assert_eq!(steps(&facts), []);
}

#[test]
fn debians_compiler_is_installed_only_after_rustup_refused_every_toolchain() {
    let mut facts = Facts { given_up: vec![NIGHTLY.to_owned()], ..without_core() };
    assert_eq!(steps(&facts), add_and_try(STABLE));
    facts.given_up.push(STABLE.to_owned());
    assert_eq!(steps(&facts), from_apt(&[Need::DebianRust]));
}

#[test]
fn a_nightly_whose_trial_failed_is_not_tried_again() {
    let facts = Facts {
        rustup_toolchains: vec![nightly(BuildStd::Untried)],
        given_up: vec![NIGHTLY.to_owned()],
        ..without_core()
    };
    assert_eq!(steps(&facts), from_apt(&[Need::DebianRust]));
    assert_eq!(steps(&Facts { debian: debian_rust(), absent: vec![], ..facts }), []);
}

#[test]
fn a_nightly_with_an_llvm_beyond_the_linkers_is_passed_over() {
    let beyond = rustup(NIGHTLY, "1.99.0-nightly", 23, BuildStd::Works);
    let facts = Facts { rustup_toolchains: vec![beyond, stable(BuildStd::NoSource)], ..without_core() };
    assert_eq!(steps(&facts), add_and_try(STABLE));
}

#[test]
fn an_old_compiler_at_debians_place_is_replaced_with_its_companions() {
    let old = DebianRust { compiler: Some(compiler("1.85.0", 19)), bpf_core: true };
    let facts = Facts { rustup_toolchains: vec![], debian: old, absent: vec![], ..without_core() };
    assert_eq!(steps(&facts), from_apt(&[Need::DebianRust]));
}

#[test]
fn a_linker_of_another_minor_version_is_replaced() {
    for version in ["0.12.1", "0.14.0", "1.13.0", "0"] {
        let facts = Facts { linker: linker(version), ..ready() };
        assert_eq!(steps(&facts), [from_apt(&[Need::Linker]), vec![Step::InstallLinker]].concat(), "{version}");
    }
    assert_eq!(steps(&Facts { linker: linker("0.13.7"), ..ready() }), []);
}

#[test]
fn a_linker_is_built_without_apt_where_llvm_is_there() {
    assert_eq!(steps(&Facts { linker: None, absent: vec![], apt: false, ..ready() }), [Step::InstallLinker]);
}

#[test]
fn one_missing_program_brings_one_package() {
    let iperf3 = PACKAGES.iter().find(|package| package.name == "iperf3").unwrap();
    let facts = Facts { absent: vec![iperf3], ..ready() };
    assert_eq!(steps(&facts), [Step::RefreshPackageLists, Step::InstallPackages(vec![iperf3])]);
    // The lists are refreshed once.
    let refreshed = Facts { lists: Lists::Fresh(debian_12()), ..facts };
    assert_eq!(steps(&refreshed), [Step::InstallPackages(vec![iperf3])]);
}

#[test]
fn stale_lists_serve_where_they_know_the_packages() {
    let facts = Facts { linker: None, lists: Lists::AsTheyWere(debian_12()), ..ready() };
    assert_eq!(steps(&facts), [Step::InstallPackages(packages(&[Need::Linker])), Step::InstallLinker]);
    let empty = Facts { lists: Lists::AsTheyWere(Candidates::new()), ..facts };
    assert_eq!(plan(&empty), Err(Obstacle::NoLists(vec!["llvm-22-dev"])));
}

#[test]
fn a_distribution_without_the_package_gets_advice() {
    let known = offers(&[("iperf3", "3.16-1"), ("iproute2", "6.1.0"), ("iputils-ping", "3:2024")]);
    let facts = Facts { lists: Lists::Fresh(known), ..without_core() };
    assert_eq!(plan(&Facts { linker: None, ..facts.clone() }), Err(Obstacle::NoLlvm));
    assert!(Obstacle::NoLlvm.to_string().contains("apt.llvm.org"));

    let no_rustup = Facts { rustup_toolchains: vec![], ..facts.clone() };
    assert_eq!(plan(&no_rustup), Err(Obstacle::NoCore));
    let too_old = Facts { lists: Lists::Fresh(offers(&[("rustc-web", "1.85.0+dfsg3-1~deb12u3")])), ..no_rustup };
    assert_eq!(plan(&too_old), Err(Obstacle::NoCore));

    let iperf3 = PACKAGES.iter().find(|package| package.name == "iperf3").unwrap();
    let bare = Facts { absent: vec![iperf3], lists: Lists::Fresh(Candidates::new()), ..ready() };
    assert_eq!(plan(&bare), Err(Obstacle::UnknownPackages(vec!["iperf3"])));
    assert_eq!(plan(&Facts { apt: false, ..bare }), Err(Obstacle::NoApt(vec!["iperf3"])));
}

#[test]
fn without_root_the_commands_are_complete_and_ask_for_root_only_where_needed() {
    let plan = plan(&Facts { root: false, ..fresh() }).unwrap();
    let typed: Vec<_> = plan.steps.iter().filter_map(|step| step.command_line(false)).collect();
    assert_eq!(
        typed,
        [
            "rustup component add rust-src --toolchain stable-x86_64-unknown-linux-gnu",
            "sudo apt-get update",
            "sudo apt-get install --yes --no-install-recommends iproute2 iperf3 iputils-ping nftables \
             containernetworking-plugins iptables llvm-22-dev",
            "LLVM_PREFIX=/usr/lib/llvm-22 cargo install bpf-linker --version 0.13.0 --no-default-features \
             --features=llvm-22 --locked --force",
        ]
    );
    assert!(plan.steps.iter().all(|step| step.command_line(true).is_none_or(|line| !line.contains("sudo"))));
}

#[test]
fn cargo_deny_is_installed_for_checking_a_change_and_not_for_a_first_look() {
    assert_eq!(steps(&ready()), []);
    let to_check = |deny| super::plan(&Facts { deny, ..ready() }, Purpose::Check).unwrap().steps;
    assert_eq!(to_check(false), [Step::InstallDeny]);
    assert_eq!(to_check(true), []);
}

#[test]
fn the_emulator_is_installed_for_other_kernels_and_for_checking_a_change_and_not_for_a_first_look() {
    let emulators = [Arch::X86_64, Arch::Arm64].map(Need::Emulator);
    let absent = packages(&[&[Need::Kernels], emulators.as_slice()].concat());
    let lacking = Facts { absent, lists: Lists::Fresh(debian_12()), deny: true, ..ready() };
    assert_eq!(steps(&lacking), []);
    for purpose in [Purpose::Kernels(NATIVE), Purpose::Check] {
        let plan = super::plan(&lacking, purpose).unwrap();
        assert_eq!(plan.steps, [Step::InstallPackages(packages(&[Need::Kernels, Need::Emulator(NATIVE)]))]);
    }
}

#[test]
fn other_processor_needs_a_linker_and_a_standard_library_for_it() {
    let other = if NATIVE == Arch::Arm64 { Arch::X86_64 } else { Arch::Arm64 };
    let plan = |facts: Facts| super::plan(&facts, Purpose::Build(other)).unwrap().steps;
    let lacking = Facts {
        absent: packages(&[Need::Cross(Arch::X86_64), Need::Cross(Arch::Arm64)]),
        lists: Lists::Fresh(debian_12()),
        ..ready()
    };
    let packages = Step::InstallPackages(packages(&[Need::Cross(other)]));
    assert_eq!(plan(lacking.clone()), [Step::AddTarget(other), packages.clone()]);
    assert_eq!(plan(Facts { targets: vec![other], ..lacking.clone() }), [packages]);
    assert_eq!(steps(&lacking), []);
}
