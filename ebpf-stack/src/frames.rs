//! The functions of a program: where each begins, what it uses of its frame, and what it calls.

use std::collections::BTreeSet;

use aya_obj::generated::{
    BPF_CALL, BPF_DW, BPF_IMM, BPF_JMP, BPF_LD, BPF_PSEUDO_CALL, BPF_PSEUDO_FUNC, BPF_X, bpf_insn,
};

use crate::{
    depth,
    error::{Error, TAIL_CALL},
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its first slot of 8 bytes.
    pub start: usize,
    /// Bytes.
    pub frame: u32,
    /// Functions that it calls, or has the kernel call, by their place in the order of the code.
    pub calls: BTreeSet<usize>,
}

/// In the order of the code. What is called is known in all of it, or there is an error.
pub fn functions(code: &[bpf_insn]) -> Result<Vec<Function>, Error> {
    let mut called = Vec::new();
    for slot in 0..code.len() {
        called.extend(called_from(code, slot)?.map(|start| (slot, start)));
    }
    let starts: BTreeSet<usize> = [0].into_iter().chain(called.iter().map(|(_, start)| *start)).collect();
    let starts: Vec<usize> = starts.into_iter().collect();
    let index_of = |slot: usize| starts.partition_point(|start| *start <= slot) - 1;
    let function = |(index, start): (usize, &usize)| {
        let end = starts.get(index + 1).copied().unwrap_or(code.len());
        Ok(Function { start: *start, frame: depth::frame(code, *start..end)?, calls: BTreeSet::new() })
    };
    let mut functions = starts.iter().enumerate().map(function).collect::<Result<Vec<_>, Error>>()?;
    for (slot, start) in called {
        functions[index_of(slot)].calls.insert(index_of(start));
    }
    Ok(functions)
}

/// The function that the instruction calls, or takes the address of.
fn called_from(code: &[bpf_insn], slot: usize) -> Result<Option<usize>, Error> {
    let instruction = &code[slot];
    let source = u32::from(instruction.src_reg());
    let is_known = match u32::from(instruction.code) {
        code if code == BPF_JMP | BPF_CALL | BPF_X => return Err(Error::IndirectCall(slot)),
        code if code == BPF_JMP | BPF_CALL && source == 0 && instruction.imm as u32 == TAIL_CALL => {
            return Err(Error::TailCall(slot));
        }
        code if code == BPF_JMP | BPF_CALL => source == BPF_PSEUDO_CALL,
        code => code == BPF_LD | BPF_IMM | BPF_DW && source == BPF_PSEUDO_FUNC,
    };
    let start = slot as i64 + 1 + i64::from(instruction.imm);
    match usize::try_from(start) {
        _ if !is_known => Ok(None),
        Ok(start) if start < code.len() => Ok(Some(start)),
        _ => Err(Error::JumpOutside(slot)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::*;

    const FRAME: usize = 10;

    #[test]
    fn functions_are_what_is_called_or_handed_to_the_kernel() {
        let callback = address_of(4);
        let code = [call(4), callback[0], callback[1], store(FRAME, -8, 1), exit(), store(FRAME, -16, 1), exit()];
        assert_eq!(functions(&code), Err(Error::JumpOutside(5)));
        let callback = address_of(5);
        let code =
            [call(4), callback[0], callback[1], store(FRAME, -8, 1), exit(), store(FRAME, -16, 1), exit(), exit()];
        let found: Vec<_> = functions(&code).unwrap().into_iter().map(|f| (f.start, f.frame, f.calls)).collect();
        assert_eq!(found, [(0, 8, [1, 2].into()), (5, 16, [].into()), (7, 0, [].into())]);
    }

    #[test]
    fn a_call_whose_function_is_not_in_the_code_is_an_error() {
        assert_eq!(functions(&[set(3, 0), call_helper(12), exit()]), Err(Error::TailCall(1)));
        assert_eq!(functions(&[set(3, 0), exit(), call_register(3), exit()]), Err(Error::IndirectCall(2)));
        assert_eq!(functions(&[call(-3), exit()]), Err(Error::JumpOutside(0)));
        // A function of the program whose distance is that number, and another helper.
        let far: Vec<_> = [call(12), call_helper(13)].into_iter().chain([exit(); 13]).collect();
        assert_eq!(functions(&far).unwrap().len(), 2);
    }
}
