//! Finds the eBPF programs that the benchmark measures against: beside those of the agent.

use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-env-changed=AZURE_CNI_EBPF_OBJECT");
    let agents = std::env::var_os("AZURE_CNI_EBPF_OBJECT")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/ebpf/azure-cni-ebpf"), PathBuf::from);
    for (name, variable) in [("bench-ebpf", "BENCH_EBPF_OBJECT"), ("counting-ebpf", "COUNTING_EBPF_OBJECT")] {
        let object = agents.with_file_name(name);
        println!("cargo::rerun-if-changed={}", object.display());
        if !object.is_file() {
            println!("cargo::error=the eBPF programs are not built: run `cargo xtask build-ebpf` first");
            println!("cargo::error=(looked for {})", object.display());
            std::process::exit(1);
        }
        println!("cargo::rustc-env={variable}={}", object.display());
    }
}
