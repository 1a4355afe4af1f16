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

#[cfg(test)]
mod tests {
    use super::*;

    fn instruction(code: u32, (destination, source): (u8, u8), off: i16, imm: i32) -> bpf_insn {
        let _bitfield_1 = bpf_insn::new_bitfield_1(destination, source);
        bpf_insn { code: code as u8, _bitfield_align_1: [], _bitfield_1, off, imm }
    }

    fn store(off: i16) -> bpf_insn {
        instruction(BPF_STX | BPF_DW, (FRAME as u8, 1), off, 0)
    }

    fn call(distance: i32) -> bpf_insn {
        instruction(BPF_JMP | BPF_CALL, (0, BPF_PSEUDO_CALL as u8), 0, distance)
    }

    fn exit() -> bpf_insn {
        instruction(BPF_JMP | 0x90, (0, 0), 0, 0)
    }

    #[test]
    fn frame_is_as_deep_as_what_is_written_there_or_pointed_at() {
        let frame = |code: &[bpf_insn]| functions(code)[0].frame;
        assert_eq!(frame(&[exit()]), 0);
        assert_eq!(frame(&[store(-8), store(-40), store(-16), exit()]), 40);
        let address = [
            instruction(BPF_ALU64 | BPF_MOV | BPF_X, (2, FRAME as u8), 0, 0),
            instruction(BPF_ALU64 | BPF_ADD | BPF_K, (2, 0), 0, -24),
        ];
        assert_eq!(frame(&[address[0], address[1], exit()]), 24);
        // What is read behind such a pointer is nearer to the frame's end; below it, deeper.
        let below = instruction(BPF_LDX | BPF_DW, (1, 2), -8, 0);
        assert_eq!(frame(&[address[0], address[1], below, exit()]), 32);
        // The register is another's by then.
        let other = instruction(BPF_ALU64 | BPF_MOV | BPF_K, (2, 0), 0, 7);
        assert_eq!(frame(&[address[0], other, address[1], exit()]), 0);
    }

    #[test]
    fn functions_are_what_is_called_or_handed_to_the_kernel() {
        let callback = instruction(BPF_LD | BPF_IMM | BPF_DW, (2, BPF_PSEUDO_FUNC as u8), 0, 4);
        let code = [call(4), callback, instruction(0, (0, 0), 0, 0), store(-8), exit(), store(-16), exit()];
        let found: Vec<_> = functions(&code).into_iter().map(|f| (f.start, f.frame, f.calls)).collect();
        assert_eq!(found, [(0, 8, [1, 2].into()), (5, 16, [].into()), (6, 0, [].into())]);
    }
}
