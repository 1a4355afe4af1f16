//! `ebpf-stack OBJECT`: prints the deepest chain of calls of each program, and fails if one needs more than it may.

use std::{fs, process::ExitCode};

use anyhow::{Context, Result};
use ebpf_stack::{CEILING, deepest_chains};

fn main() -> Result<ExitCode> {
    let path = std::env::args_os().nth(1).context("usage: ebpf-stack OBJECT")?;
    let object = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let chains = deepest_chains(&object)?;
    for (program, chain) in &chains {
        println!("{program}: {} of {CEILING} bytes: {chain}", chain.bytes);
    }
    let fits = chains.values().all(|chain| chain.bytes <= CEILING);
    Ok(if fits { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
