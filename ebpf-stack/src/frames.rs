//! The functions of a program: where each begins, what it uses of its frame, and what it calls.

use std::collections::BTreeSet;

use aya_obj::generated::{
    BPF_ADD, BPF_ALU64, BPF_CALL, BPF_DW, BPF_IMM, BPF_JMP, BPF_K, BPF_LD, BPF_LDX, BPF_MOV, BPF_PSEUDO_CALL,
    BPF_PSEUDO_FUNC, BPF_ST, BPF_STX, BPF_X, bpf_insn,
};

/// R10: where the frame ends. It grows downwards.
const FRAME: usize = 10;
const REGISTERS: usize = 11;
/// R0 to R5 are lost by a call.
const LOST_BY_CALL: usize = 6;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its first slot of 8 bytes.
    pub start: usize,
    /// Bytes.
    pub frame: u32,
    /// Functions that it calls, or has the kernel call, by their place in the order of the code.
    pub calls: BTreeSet<usize>,
}

/// In the order of the code.
pub fn functions(code: &[bpf_insn]) -> Vec<Function> {
    let called: Vec<(usize, usize)> =
        (0..code.len()).filter_map(|slot| Some((slot, called_from(code, slot)?))).collect();
    let starts: BTreeSet<usize> = [0].into_iter().chain(called.iter().map(|(_, start)| *start)).collect();
    let starts: Vec<usize> = starts.into_iter().collect();
    let index_of = |slot: usize| starts.partition_point(|start| *start <= slot) - 1;
    let mut functions: Vec<Function> = starts
        .iter()
        .enumerate()
        .map(|(index, start)| {
            let end = starts.get(index + 1).copied().unwrap_or(code.len());
            Function { start: *start, frame: frame(&code[*start..end]), calls: BTreeSet::new() }
        })
        .collect();
    for (slot, start) in called {
        functions[index_of(slot)].calls.insert(index_of(start));
    }
    functions
}

/// The function that the instruction calls, or takes the address of.
fn called_from(code: &[bpf_insn], slot: usize) -> Option<usize> {
    let instruction = &code[slot];
    let source = u32::from(instruction.src_reg());
    let is_call = u32::from(instruction.code) == BPF_JMP | BPF_CALL && source == BPF_PSEUDO_CALL;
    let is_address = u32::from(instruction.code) == BPF_LD | BPF_IMM | BPF_DW && source == BPF_PSEUDO_FUNC;
    (is_call || is_address).then(|| (slot as i64 + 1 + i64::from(instruction.imm)) as usize)
}

/// The deepest byte that a function's code speaks of: by an access, or by an address that it makes.
fn frame(code: &[bpf_insn]) -> u32 {
    // How far below the frame's end a register points, where it does.
    let mut below: [Option<i64>; REGISTERS] = [None; REGISTERS];
    below[FRAME] = Some(0);
    let mut deepest = 0;
    for instruction in code {
        let (destination, source) = (usize::from(instruction.dst_reg()), usize::from(instruction.src_reg()));
        let (code, class) = (u32::from(instruction.code), u32::from(instruction.code) & 0x07);
        let offset = i64::from(instruction.off);
        let address = match class {
            BPF_LDX => below[source].map(|at| at - offset),
            BPF_ST | BPF_STX => below[destination].map(|at| at - offset),
            _ => None,
        };
        match class {
            _ if code == BPF_ALU64 | BPF_MOV | BPF_X => below[destination] = below[source],
            _ if code == BPF_ALU64 | BPF_ADD | BPF_K => {
                below[destination] = below[destination].map(|at| at - i64::from(instruction.imm));
            }
            BPF_ST | BPF_STX => {}
            BPF_JMP if code == BPF_JMP | BPF_CALL => below[..LOST_BY_CALL].fill(None),
            // Jumps and exits.
            BPF_JMP | 0x06 => {}
            _ if destination < FRAME => below[destination] = None,
            _ => {}
        }
        let made = below[..FRAME].iter().flatten().copied().max().unwrap_or(0);
        deepest = deepest.max(address.unwrap_or(0)).max(made);
    }
    deepest.max(0) as u32
}
