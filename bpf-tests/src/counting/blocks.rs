//! The basic blocks of a program, and where in each there are registers that are free. Pure.
//!
//! As the instruction set has it: Documentation/bpf/standardization/instruction-set.rst.

use std::cmp::Reverse;

use aya_obj::generated::{
    BPF_ALU, BPF_ALU64, BPF_CALL, BPF_DW, BPF_EXIT, BPF_IMM, BPF_JA, BPF_JMP, BPF_JMP32, BPF_LD, BPF_LDX, BPF_MOV,
    BPF_PSEUDO_CALL, BPF_PSEUDO_FUNC, BPF_ST, BPF_STX, BPF_X, bpf_insn,
};

/// Registers, a bit for each.
pub(super) type Registers = u16;

/// A straight piece of code: a run that executes its first instruction executes all.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) instructions: u32,
    /// Where in it most registers may be written without harm: before this slot.
    pub(super) place: usize,
    /// Those registers.
    pub(super) free: Registers,
}

/// R0 to R9; R10 is the frame.
const ALL: Registers = 0x3ff;
/// R1 to R5: arguments of a call, and lost by it.
const ARGUMENTS: Registers = 0x3e;
const RESULT: Registers = 1;

/// In the order of the code. A slot is 8 bytes; an instruction of 16 bytes takes two.
pub(super) fn blocks(code: &[bpf_insn]) -> Vec<Block> {
    let heads = heads(code);
    let (read, written) = (read_later(code), written_before(code));
    let starts: Vec<usize> = (0..code.len()).filter(|slot| heads[*slot]).collect();
    let end_of = |index: usize| starts.get(index + 1).copied().unwrap_or(code.len());
    let free = |slot: usize| (slot, ALL & !(read[slot] & written[slot]));
    let block = |(index, start): (usize, &usize)| {
        let slots = (*start..end_of(index)).filter(|slot| !is_second_half(code, *slot));
        let instructions = slots.clone().count() as u32;
        let best = slots.map(free).max_by_key(|(slot, free)| (free.count_ones(), Reverse(*slot)));
        let (place, free) = best.expect("a block has an instruction");
        Block { place, instructions, free }
    };
    starts.iter().enumerate().map(block).collect()
}

/// Of an instruction of 16 bytes (`BPF_LD | BPF_IMM | BPF_DW`). Its second half has no operation of its own.
pub(super) fn is_wide(instruction: &bpf_insn) -> bool {
    u32::from(instruction.code) == BPF_LD | BPF_IMM | BPF_DW
}

/// The packet accesses of classic BPF, which use registers that they do not name.
pub(super) fn is_classic(code: &[bpf_insn], slot: usize) -> bool {
    class(&code[slot]) == BPF_LD && !is_wide(&code[slot]) && !is_second_half(code, slot)
}

fn is_second_half(code: &[bpf_insn], slot: usize) -> bool {
    slot > 0 && is_wide(&code[slot - 1])
}

/// Where another instruction refers to by distance.
pub(super) enum Reference {
    /// In the 16 bits of the offset.
    Offset(usize),
    /// In the 32 bits of the immediate value.
    Immediate(usize),
}

/// What a jump, a call or the address of a function refers to.
pub(super) fn reference(code: &[bpf_insn], slot: usize) -> Option<Reference> {
    let instruction = &code[slot];
    let at = |distance: i32| (slot as i64 + 1 + i64::from(distance)) as usize;
    let source = u32::from(instruction.src_reg());
    match (class(instruction), operation(instruction)) {
        (BPF_JMP, BPF_CALL) if source == BPF_PSEUDO_CALL => Some(Reference::Immediate(at(instruction.imm))),
        (BPF_JMP, BPF_CALL | BPF_EXIT) => None,
        // A jump further than 16 bits say.
        (BPF_JMP32, BPF_JA) => Some(Reference::Immediate(at(instruction.imm))),
        (BPF_JMP | BPF_JMP32, _) => Some(Reference::Offset(at(instruction.off.into()))),
        _ if is_wide(instruction) && source == BPF_PSEUDO_FUNC => Some(Reference::Immediate(at(instruction.imm))),
        _ => None,
    }
}

/// Of functions that are called, or whose address is taken.
pub(super) fn function_starts(code: &[bpf_insn]) -> impl Iterator<Item = u32> {
    (0..code.len()).filter(|slot| !is_jump(&code[*slot])).filter_map(|slot| match reference(code, slot)? {
        Reference::Immediate(start) => Some(start as u32),
        Reference::Offset(_) => None,
    })
}

fn is_jump(instruction: &bpf_insn) -> bool {
    matches!(class(instruction), BPF_JMP | BPF_JMP32) && !is_call(instruction)
}

fn class(instruction: &bpf_insn) -> u32 {
    u32::from(instruction.code) & 0x07
}

fn operation(instruction: &bpf_insn) -> u32 {
    u32::from(instruction.code) & 0xf0
}

/// Which slots begin a block: the first, what is referred to, and what comes after a jump or an exit. A call comes back.
fn heads(code: &[bpf_insn]) -> Vec<bool> {
    let mut heads = vec![false; code.len() + 1];
    heads[0] = true;
    for slot in (0..code.len()).filter(|slot| !is_second_half(code, *slot)) {
        if let Some(Reference::Offset(target) | Reference::Immediate(target)) = reference(code, slot) {
            heads[target] = true;
        }
        heads[slot + 1] |= is_jump(&code[slot]);
    }
    heads
}

/// The registers at each slot that may be read before they are written.
fn read_later(code: &[bpf_insn]) -> Vec<Registers> {
    let mut read = vec![0; code.len() + 1];
    until_settled(|| {
        (0..code.len()).rev().fold(false, |changed, slot| {
            let after = successors(code, slot).into_iter().flatten().fold(0, |all, next| all | read[next]);
            let (reads, writes) = accesses(&code[slot]);
            changed | add(&mut read[slot], reads | (after & !writes))
        })
    });
    read
}

/// The registers at each slot that some way there has left with a value: the verifier lets no code read another.
fn written_before(code: &[bpf_insn]) -> Vec<Registers> {
    let mut written = vec![0; code.len() + 1];
    written[0] = ARGUMENTS;
    for start in function_starts(code) {
        written[start as usize] = ARGUMENTS;
    }
    until_settled(|| {
        (0..code.len()).fold(false, |changed, slot| {
            let (_, writes) = accesses(&code[slot]);
            let after = if is_call(&code[slot]) { written[slot] & !ARGUMENTS | RESULT } else { written[slot] | writes };
            let next = successors(code, slot).into_iter().flatten();
            next.fold(changed, |changed, next| changed | add(&mut written[next], after))
        })
    });
    written
}

/// `pass` says whether it changed anything.
fn until_settled(mut pass: impl FnMut() -> bool) {
    while pass() {}
}

/// Whether that was more.
fn add(registers: &mut Registers, more: Registers) -> bool {
    let before = *registers;
    *registers |= more;
    *registers != before
}

fn is_call(instruction: &bpf_insn) -> bool {
    class(instruction) == BPF_JMP && operation(instruction) == BPF_CALL
}

/// Where the same function goes on.
fn successors(code: &[bpf_insn], slot: usize) -> [Option<usize>; 2] {
    let (class, operation) = (class(&code[slot]), operation(&code[slot]));
    let next = slot + 1 + usize::from(is_wide(&code[slot]));
    match (class, operation) {
        (BPF_JMP, BPF_EXIT) => [None, None],
        (BPF_JMP, BPF_CALL) => [Some(next), None],
        (BPF_JMP | BPF_JMP32, _) => {
            let Some(Reference::Offset(target) | Reference::Immediate(target)) = reference(code, slot) else {
                unreachable!("a jump goes somewhere")
            };
            [Some(target), (operation != BPF_JA).then_some(next)]
        }
        _ => [Some(next), None],
    }
}

/// What an instruction reads, rather too much than too little; and what it surely writes.
fn accesses(instruction: &bpf_insn) -> (Registers, Registers) {
    let bit = |register: u8| (1 << register) & ALL;
    let (destination, source) = (bit(instruction.dst_reg()), bit(instruction.src_reg()));
    let operand = if u32::from(instruction.code) & BPF_X != 0 { source } else { 0 };
    match (class(instruction), operation(instruction)) {
        (BPF_ALU | BPF_ALU64, BPF_MOV) => (operand, destination),
        (BPF_ALU | BPF_ALU64, _) => (destination | operand, destination),
        (BPF_LD, _) => (0, if is_wide(instruction) { destination } else { 0 }),
        (BPF_LDX, _) => (source, destination),
        (BPF_ST, _) => (destination, 0),
        // An atomic operation may compare with R0, and fetch.
        (BPF_STX, _) => (destination | source | RESULT, 0),
        (BPF_JMP, BPF_CALL) => (ARGUMENTS, RESULT | ARGUMENTS),
        (BPF_JMP, BPF_EXIT) => (RESULT, 0),
        _ => (destination | operand, 0),
    }
}
