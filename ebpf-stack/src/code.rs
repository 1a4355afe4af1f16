//! Instructions made by hand, for tests.

use aya_obj::generated::{
    BPF_ADD, BPF_ALU64, BPF_CALL, BPF_DW, BPF_EXIT, BPF_IMM, BPF_JA, BPF_JMP, BPF_K, BPF_LD, BPF_LDX, BPF_MEM, BPF_MOV,
    BPF_PSEUDO_CALL, BPF_PSEUDO_FUNC, BPF_STX, BPF_X, bpf_insn,
};

pub(crate) fn instruction(code: u32, (destination, source): (usize, usize), off: i16, imm: i32) -> bpf_insn {
    let _bitfield_1 = bpf_insn::new_bitfield_1(destination as u8, source as u8);
    bpf_insn { code: code as u8, _bitfield_align_1: [], _bitfield_1, off, imm }
}

pub(crate) fn load(register: usize, behind: usize, off: i16) -> bpf_insn {
    instruction(BPF_LDX | BPF_MEM | BPF_DW, (register, behind), off, 0)
}

pub(crate) fn store(behind: usize, off: i16, register: usize) -> bpf_insn {
    instruction(BPF_STX | BPF_MEM | BPF_DW, (behind, register), off, 0)
}

pub(crate) fn mov(register: usize, from: usize) -> bpf_insn {
    instruction(BPF_ALU64 | BPF_MOV | BPF_X, (register, from), 0, 0)
}

pub(crate) fn set(register: usize, number: i32) -> bpf_insn {
    instruction(BPF_ALU64 | BPF_MOV | BPF_K, (register, 0), 0, number)
}

pub(crate) fn add(register: usize, number: i32) -> bpf_insn {
    instruction(BPF_ALU64 | BPF_ADD | BPF_K, (register, 0), 0, number)
}

pub(crate) fn add_register(register: usize, other: usize) -> bpf_insn {
    instruction(BPF_ALU64 | BPF_ADD | BPF_X, (register, other), 0, 0)
}

pub(crate) fn jump(distance: i16) -> bpf_insn {
    instruction(BPF_JMP | BPF_JA, (0, 0), distance, 0)
}

/// If R1 is zero (BPF_JEQ).
pub(crate) fn jump_if(distance: i16) -> bpf_insn {
    instruction(BPF_JMP | 0x10 | BPF_K, (1, 0), distance, 0)
}

pub(crate) fn call(distance: i32) -> bpf_insn {
    instruction(BPF_JMP | BPF_CALL, (0, BPF_PSEUDO_CALL as usize), 0, distance)
}

pub(crate) fn call_helper(number: i32) -> bpf_insn {
    instruction(BPF_JMP | BPF_CALL, (0, 0), 0, number)
}

pub(crate) fn call_register(register: usize) -> bpf_insn {
    instruction(BPF_JMP | BPF_CALL | BPF_X, (register, 0), 0, 0)
}

/// Both slots of what takes the address of a function.
pub(crate) fn address_of(distance: i32) -> [bpf_insn; 2] {
    let first = instruction(BPF_LD | BPF_IMM | BPF_DW, (2, BPF_PSEUDO_FUNC as usize), 0, distance);
    [first, instruction(0, (0, 0), 0, 0)]
}

pub(crate) fn exit() -> bpf_insn {
    instruction(BPF_JMP | BPF_EXIT, (0, 0), 0, 0)
}
