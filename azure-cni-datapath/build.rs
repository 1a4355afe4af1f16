//! Finds the eBPF object that is built into the agent. It is compiled by its own command, for its own target.

use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-env-changed=AZURE_CNI_EBPF_OBJECT");
    let object = std::env::var_os("AZURE_CNI_EBPF_OBJECT")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/ebpf/azure-cni-ebpf"), PathBuf::from);
    println!("cargo::rerun-if-changed={}", object.display());
    if !object.is_file() {
        println!("cargo::error=the eBPF programs are not built: run `cargo xtask build-ebpf` first");
        println!("cargo::error=(looked for {})", object.display());
        std::process::exit(1);
    }
    println!("cargo::rustc-env=AZURE_CNI_EBPF_OBJECT={}", object.display());
}
