//! How deep the stack of eBPF programs gets, by their code alone: no kernel has to be asked, and none has to be there.
//!
//! The kernel adds up the frames of the deepest chain of calls, each rounded up, and refuses what is more than 512 bytes
//! (kernel/bpf/verifier.c, check_max_stack_depth). It rounds to 32 bytes; newer ones to 16, where they compile programs.
//! What cannot be told from the code is an error: tail calls, calls of what a register holds, a place in the frame that is not known.
//! Instructions are as Documentation/bpf/standardization/instruction-set.rst has them.

mod chains;
#[cfg(test)]
mod code;
mod depth;
mod error;
mod frames;
mod limits;
mod value;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use anyhow::{Context, Result, ensure};
use aya_obj::{
    Object,
    generated::{bpf_func_info, bpf_insn},
};

pub use error::Error;
pub use frames::{Function, functions};
pub use limits::{CEILING, MAX_CALL_FRAMES, ROUNDING, STACK};

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

/// The deepest chain of calls of each program in an object file, by the program's name. An error where a kernel would refuse the chain, or
/// the code does not tell it.
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
        let name_at = |slot: usize| {
            let infos = linked.func_info.func_info.iter();
            let info = infos.filter(|info| info.insn_off as usize <= slot).max_by_key(|info| info.insn_off);
            info.and_then(|info| names.get(&info.type_id)).cloned().unwrap_or_else(|| format!("at {slot}"))
        };
        let chain = chain_of(&linked.instructions, name_at).with_context(|| name.clone())?;
        Ok((name.clone(), chain))
    };
    object.programs.iter().map(chain_of).collect()
}

/// The deepest chain of a program. `name_at`: of the function that has a slot of the code.
fn chain_of(code: &[bpf_insn], name_at: impl Fn(usize) -> String) -> Result<Chain> {
    let in_function = |error: Error| anyhow::Error::new(error).context(name_at(error.slot()));
    let functions = functions(code).map_err(in_function)?;
    let named = |chain: Vec<usize>| {
        let frame =
            |index: &usize| Frame { function: name_at(functions[*index].start), bytes: functions[*index].frame };
        Chain { bytes: chains::depth(&chain, &functions), functions: chain.iter().map(frame).collect() }
    };
    let longest = named(chains::longest(&functions).map_err(in_function)?);
    let frames = longest.functions.len();
    ensure!(frames <= MAX_CALL_FRAMES, "{frames} frames are more than the {MAX_CALL_FRAMES} of a kernel: {longest}");
    Ok(named(chains::deepest(&functions).map_err(in_function)?))
}

/// Without the crate and the compiler's own marks: `rewrite::replace`.
fn readable(name: &str) -> String {
    let plain = format!("{:#}", rustc_demangle::demangle(name));
    plain.strip_prefix("azure_cni_ebpf::").unwrap_or(&plain).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Functions of which each calls the next.
    fn row_of(count: usize) -> Vec<bpf_insn> {
        let calls = (1..count).flat_map(|_| [code::call(1), code::exit()]);
        calls.chain([code::exit()]).collect()
    }

    #[test]
    fn a_chain_has_as_many_frames_as_a_kernel_takes() {
        let chain = chain_of(&row_of(MAX_CALL_FRAMES), |slot| slot.to_string()).unwrap();
        assert_eq!((chain.bytes, chain.functions.len()), (256, MAX_CALL_FRAMES));
        let error = chain_of(&row_of(MAX_CALL_FRAMES + 1), |slot| slot.to_string()).unwrap_err().to_string();
        assert!(error.starts_with("9 frames") && error.ends_with("14 0 > 16 0"), "{error}");
    }

    #[test]
    fn an_error_names_the_function_and_the_instruction() {
        let error = chain_of(&[code::call_helper(12), code::exit()], |_| "main".to_owned()).unwrap_err();
        assert!(format!("{error:#}").starts_with("main: slot 0 is a tail call (helper 12)"), "{error:#}");
    }
}
