//! The packages of Debian and Ubuntu that the project asks for: one table, each with its reason.
//!
//! A package counts as present by the trace that it leaves, not by its name, so that the same thing from elsewhere serves as well.

use crate::arch::Arch;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: &'static str,
    pub(crate) need: Need,
    pub(crate) trace: Trace,
    pub(crate) reason: &'static str,
}

/// When a package is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Always,
    /// Only while bpf-linker has to be built.
    Linker,
    /// Only where `core` for eBPF comes from Debian.
    DebianRust,
    /// Only for booting other kernels.
    Kernels,
    /// Only for booting those of one processor.
    Emulator(Arch),
    /// Only where another processor than the machine's is built for.
    Cross(Arch),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Trace {
    Program(&'static str),
    File(&'static str),
}

const fn package(name: &'static str, need: Need, trace: Trace, reason: &'static str) -> Package {
    Package { name, need, trace, reason }
}

pub(crate) const LLVM_PREFIX: &str = "/usr/lib/llvm-22";
pub(crate) const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
pub(crate) const DEBIAN_CARGO_CLIPPY: &str = "/usr/bin/cargo-clippy";
pub(crate) const DEBIAN_BPF_CORE: &str = "/usr/lib/rustlib/bpfel-unknown-none/lib";

pub(crate) static PACKAGES: &[Package] = &[
    package("iproute2", Need::Always, Trace::Program("ip"), "tests and demo build networks with it"),
    package("iperf3", Need::Always, Trace::Program("iperf3"), "tests and demo measure throughput with it"),
    package(
        "iputils-ping",
        Need::Always,
        Trace::Program("ping"),
        "to look around in a network that the demo left standing",
    ),
    package("nftables", Need::Always, Trace::Program("nft"), "tests write the rules with it that kube-proxy writes"),
    package(
        "containernetworking-plugins",
        Need::Always,
        Trace::File("/usr/lib/cni/bridge"),
        "the benchmark compares with its bridge plugin",
    ),
    package("iptables", Need::Always, Trace::Program("iptables"), "the benchmark's reference masquerades with it"),
    package(
        "qemu-system-x86",
        Need::Emulator(Arch::X86_64),
        Trace::Program("qemu-system-x86_64"),
        "the emulator that kernels of x86-64 boot in",
    ),
    package(
        "qemu-system-arm",
        Need::Emulator(Arch::Arm64),
        Trace::Program("qemu-system-aarch64"),
        "the emulator that kernels of arm64 boot in",
    ),
    package(
        "gcc-aarch64-linux-gnu",
        Need::Cross(Arch::Arm64),
        Trace::Program("aarch64-linux-gnu-gcc"),
        "links binaries for arm64",
    ),
    package(
        "libc6-dev-arm64-cross",
        Need::Cross(Arch::Arm64),
        Trace::File("/usr/aarch64-linux-gnu/lib/libc.a"),
        "the C library that they are linked with",
    ),
    package(
        "gcc-x86-64-linux-gnu",
        Need::Cross(Arch::X86_64),
        Trace::Program("x86_64-linux-gnu-gcc"),
        "links binaries for x86-64",
    ),
    package(
        "libc6-dev-amd64-cross",
        Need::Cross(Arch::X86_64),
        Trace::File("/usr/x86_64-linux-gnu/lib/libc.a"),
        "the C library that they are linked with",
    ),
    package("cpio", Need::Kernels, Trace::Program("cpio"), "packs what a guest finds in its memory"),
    package("kmod", Need::Kernels, Trace::Program("depmod"), "says which module of a guest's kernel needs which"),
    package("xz-utils", Need::Kernels, Trace::Program("xz"), "unpacks modules of Debian"),
    package("zstd", Need::Kernels, Trace::Program("zstd"), "unpacks modules of Ubuntu"),
    package("binutils", Need::Kernels, Trace::Program("strip"), "makes a guest's programs small"),
    package(
        "llvm-22-dev",
        Need::Linker,
        Trace::File("/usr/lib/llvm-22/include/llvm-c/Core.h"),
        "the LLVM that bpf-linker is built on",
    ),
    package("rustc-web", Need::DebianRust, Trace::File(DEBIAN_RUSTC), "a compiler that knows the eBPF target"),
    package("libstd-rust-web-dev-bpf", Need::DebianRust, Trace::File(DEBIAN_BPF_CORE), "its `core` for eBPF, compiled"),
    package("rust-web-clippy", Need::DebianRust, Trace::File(DEBIAN_CARGO_CLIPPY), "its clippy, for the eBPF programs"),
];
