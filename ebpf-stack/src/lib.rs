//! How deep the stack of eBPF programs gets, by their code alone: no kernel has to be asked, and none has to be there.
//!
//! The kernel adds up the frames of the deepest chain of calls, each rounded up, and refuses what is more than 512 bytes
//! (kernel/bpf/verifier.c, check_max_stack_depth). It rounds to 32 bytes; newer ones to 16, where they compile programs.
//! Instructions are as Documentation/bpf/standardization/instruction-set.rst has them.

mod frames;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use anyhow::{Context, Result};
use aya_obj::{Object, generated::bpf_func_info};

pub use frames::{Function, functions};

/// Bytes that a frame is rounded up to by the kernels that round up most.
pub const ROUNDING: u32 = 32;

/// The most bytes that a program of ours may need, of the 512 that there are.
pub const CEILING: u32 = 384;

/// Calls, each from the function before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Bytes of all frames, rounded up.
    pub bytes: u32,
    pub functions: Vec<Frame>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub function: String,
    /// Not rounded up.
    pub bytes: u32,
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for (number, Frame { function, bytes }) in self.functions.iter().enumerate() {
            write!(f, "{}{function} {bytes}", if number == 0 { "" } else { " > " })?;
        }
        Ok(())
    }
}

/// The deepest chain of calls of each program in an object file, by the program's name.
pub fn deepest_chains(object: &[u8]) -> Result<BTreeMap<String, Chain>> {
    let mut object = Object::parse(object).context("not an object of eBPF programs")?;
    let sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    // Functions keep the numbers of their types when they are put together to programs.
    let type_of = |info: &bpf_func_info| info.type_id;
    let named = object.functions.values();
    let names: HashMap<u32, String> = named
        .filter_map(|function| Some((type_of(function.func_info.func_info.first()?), readable(&function.name))))
        .collect();
    object.relocate_calls(&sections)?;
    let chain_of = |(name, program): (&String, &aya_obj::Program)| {
        let linked = &object.functions[&program.function_key()];
        let functions = functions(&linked.instructions);
        let chain = chain_from(0, &functions, &mut vec![None; functions.len()]);
        let name_of = |function: &Function| {
            let mut infos = linked.func_info.func_info.iter();
            let info = infos.find(|info| info.insn_off as usize == function.start);
            info.and_then(|info| names.get(&info.type_id)).cloned().unwrap_or_else(|| format!("at {}", function.start))
        };
        let frames =
            chain.iter().map(|index| Frame { function: name_of(&functions[*index]), bytes: functions[*index].frame });
        (name.clone(), Chain { bytes: depth(&chain, &functions), functions: frames.collect() })
    };
    Ok(object.programs.iter().map(chain_of).collect())
}

/// Without the crate and the compiler's own marks: `rewrite::replace`.
fn readable(name: &str) -> String {
    let plain = format!("{:#}", rustc_demangle::demangle(name));
    plain.strip_prefix("azure_cni_ebpf::").unwrap_or(&plain).to_owned()
}

/// The deepest chain that begins with a function. There is no recursion: the kernel refuses it.
fn chain_from(index: usize, functions: &[Function], known: &mut [Option<Vec<usize>>]) -> Vec<usize> {
    if let Some(chain) = &known[index] {
        return chain.clone();
    }
    let calls = functions[index].calls.iter();
    let below = calls.map(|called| chain_from(*called, functions, known)).max_by_key(|chain| depth(chain, functions));
    let chain: Vec<usize> = [index].into_iter().chain(below.into_iter().flatten()).collect();
    known[index] = Some(chain.clone());
    chain
}

fn depth(chain: &[usize], functions: &[Function]) -> u32 {
    chain.iter().map(|index| functions[*index].frame.max(1).next_multiple_of(ROUNDING)).sum()
}
