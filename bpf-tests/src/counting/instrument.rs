//! Adds code to a program that counts what it executes. Pure.

use std::os::fd::RawFd;

use aya_obj::generated::{
    BPF_ADD, BPF_ALU64, BPF_ATOMIC, BPF_DW, BPF_IMM, BPF_K, BPF_LD, BPF_LDX, BPF_MEM, BPF_MOV, BPF_PSEUDO_MAP_VALUE,
    BPF_REG_10, BPF_STX, bpf_insn,
};

use ebpf_stack::Function;

use super::blocks::{Block, Reference, blocks, is_classic, reference};

/// A program that counts.
pub(super) struct Instrumented {
    pub(super) instructions: Vec<bpf_insn>,
    /// Where each slot of the original is now; if code that counts is before it, that.
    pub(super) moved_to: Vec<u32>,
}

/// Registers that counting borrows where too few are free, the first of them first: R6 to R9 hold something at any place where they
/// are not free, the others may be an argument that a call does not have.
const LENDERS: [u8; 10] = [9, 8, 7, 6, 0, 1, 2, 3, 4, 5];

/// `counter`: a map whose first value is a number of 64 bits. `frames`: in the order of the code. Says what makes a program impossible to
/// count.
pub(super) fn instrument(code: &[bpf_insn], frames: &[Function], counter: RawFd) -> Result<Instrumented, String> {
    if let Some(slot) = (0..code.len()).find(|slot| is_classic(code, *slot)) {
        return Err(format!("the instruction at {slot} is of classic BPF"));
    }
    let mut instructions = Vec::new();
    // Where each slot's own instruction is, and where a jump to it goes.
    let (mut places, mut moved_to) = (Vec::new(), Vec::new());
    let mut blocks = blocks(code).into_iter().peekable();
    for (slot, instruction) in code.iter().enumerate() {
        moved_to.push(instructions.len() as u32);
        if let Some(block) = blocks.next_if(|block| block.place == slot) {
            let frame = frames.iter().rfind(|frame| frame.start <= slot).ok_or("a program begins at 0")?;
            instructions.extend(counting(&block, frame.frame, counter));
        }
        places.push(instructions.len());
        instructions.push(*instruction);
    }
    for (slot, place) in places.iter().enumerate() {
        let distance = |target: usize| i64::from(moved_to[target]) - *place as i64 - 1;
        match reference(code, slot) {
            None => {}
            Some(Reference::Immediate(target)) => instructions[*place].imm = distance(target) as i32,
            Some(Reference::Offset(target)) => {
                let distance = distance(target);
                instructions[*place].off = distance
                    .try_into()
                    .map_err(|_| format!("the jump at {slot} would be {distance} instructions long"))?;
            }
        }
    }
    Ok(Instrumented { instructions, moved_to })
}

/// Adds the block's length to the counter. Takes two registers: free ones, or such as it gives back their values.
fn counting(block: &Block, depth: u32, counter: RawFd) -> Vec<bpf_insn> {
    let is_free = |register: &u8| block.free & (1 << register) != 0;
    let registers = (0..10).filter(is_free).chain(LENDERS.into_iter().filter(|register| !is_free(register)));
    let used: Vec<u8> = registers.take(2).collect();
    let (address, length) = (used[0], used[1]);
    // Below what the function has on its stack.
    let kept = used.iter().filter(|register| !is_free(register)).zip(1..).map(|(register, number)| {
        let place = -((depth.next_multiple_of(8) + 8 * number) as i16);
        (*register, place)
    });
    let frame = BPF_REG_10 as u8;
    let keep = kept.clone().map(|(register, off)| instruction(BPF_STX | BPF_MEM | BPF_DW, (frame, register), off, 0));
    let give_back = kept.map(|(register, off)| instruction(BPF_LDX | BPF_MEM | BPF_DW, (register, frame), off, 0));
    let count = [
        instruction(BPF_LD | BPF_IMM | BPF_DW, (address, BPF_PSEUDO_MAP_VALUE as u8), 0, counter),
        instruction(0, (0, 0), 0, 0),
        instruction(BPF_ALU64 | BPF_MOV | BPF_K, (length, 0), 0, block.instructions as i32),
        instruction(BPF_STX | BPF_ATOMIC | BPF_DW, (address, length), 0, BPF_ADD as i32),
    ];
    keep.chain(count).chain(give_back).collect()
}

fn instruction(code: u32, (destination, source): (u8, u8), off: i16, imm: i32) -> bpf_insn {
    let _bitfield_1 = bpf_insn::new_bitfield_1(destination, source);
    bpf_insn { code: code as u8, _bitfield_align_1: [], _bitfield_1, off, imm }
}
