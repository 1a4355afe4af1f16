//! How deep a function's code reaches into its frame, on whichever way it is walked through.
//!
//! Where ways meet, a register holds what it holds on any of them. An access that may be to the frame, at a distance that is not known, is
//! an error. What a function is given are no addresses of its own frame: what it does behind a pointer into its caller's lies in the object
//! that the caller has pointed to, and the caller's code has that.

use std::ops::Range;

use aya_obj::generated::{
    BPF_ADD, BPF_ALU, BPF_ALU64, BPF_ATOMIC, BPF_CALL, BPF_CMPXCHG, BPF_DW, BPF_END, BPF_EXIT, BPF_FETCH, BPF_IMM,
    BPF_JA, BPF_JMP, BPF_JMP32, BPF_K, BPF_LD, BPF_LDX, BPF_MEM, BPF_MOV, BPF_ST, BPF_STX, BPF_SUB, BPF_X, bpf_insn,
};

use crate::{
    Error, STACK,
    value::{ANYTHING, Spilled, UNSIGNED, Value},
};

/// R10: where the frame ends. It grows downwards.
const FRAME: usize = 10;
const REGISTERS: usize = 11;
/// R0 to R5 are lost by a call.
const LOST_BY_CALL: Range<usize> = 0..6;
/// R1 to R5 are handed to what is called.
const ARGUMENTS: Range<usize> = 1..6;

/// Parts of an instruction's code.
const CLASS: u32 = 0x07;
const MODE: u32 = 0xe0;
const SIZE: u32 = 0x18;
const OPERATION: u32 = 0xf0;
/// BPF_LOAD_ACQ and BPF_STORE_REL of include/uapi/linux/bpf.h.
const LOAD_ACQUIRE: u32 = 0x100;
const STORE_RELEASE: u32 = 0x110;

type Registers = [Value; REGISTERS];

/// The deepest byte of the frame that the function in these slots speaks of: by an access, or by an address that it makes.
pub(crate) fn frame(code: &[bpf_insn], function: Range<usize>) -> Result<u32, Error> {
    let mut walk = Walk { code, function, spilled: Spilled::default(), deepest: 0 };
    loop {
        let before = walk.spilled.clone();
        walk.every_way()?;
        // What was read before it was written on another way is read again.
        if walk.spilled == before {
            return Ok(walk.deepest as u32);
        }
    }
}

struct Walk<'a> {
    code: &'a [bpf_insn],
    function: Range<usize>,
    spilled: Spilled,
    deepest: i64,
}

impl Walk<'_> {
    fn every_way(&mut self) -> Result<(), Error> {
        let start = self.function.start;
        let mut known: Vec<Option<Registers>> = vec![None; self.function.len()];
        let mut first = Registers::default();
        first[FRAME] = Value::Frame { below: 0, is_exact: true };
        known[0] = Some(first);
        let mut open = vec![start];
        while let Some(slot) = open.pop() {
            let mut registers = known[slot - start].expect("a slot is opened with its registers");
            self.step(slot, &mut registers)?;
            for next in self.next(slot)? {
                let known = &mut known[next - start];
                let joined = known.map_or(registers, |known| std::array::from_fn(|at| known[at].or(registers[at])));
                if *known != Some(joined) {
                    *known = Some(joined);
                    open.push(next);
                }
            }
        }
        Ok(())
    }

    /// What may be walked after an instruction.
    fn next(&self, slot: usize) -> Result<Vec<usize>, Error> {
        let instruction = &self.code[slot];
        let code = u32::from(instruction.code);
        let after = slot + 1;
        let target = |distance: i64| (after as i64 + distance) as usize;
        let next = match (code & CLASS, code & OPERATION) {
            (BPF_LD, _) if code == BPF_LD | BPF_IMM | BPF_DW => vec![after + 1],
            (BPF_JMP | BPF_JMP32, BPF_JA) if code & BPF_X != 0 => return Err(Error::IndirectJump(slot)),
            (BPF_JMP, BPF_JA) => vec![target(instruction.off.into())],
            (BPF_JMP32, BPF_JA) => vec![target(instruction.imm.into())],
            (BPF_JMP, BPF_EXIT) => vec![],
            (BPF_JMP, BPF_CALL) => vec![after],
            (BPF_JMP | BPF_JMP32, _) => vec![after, target(instruction.off.into())],
            _ => vec![after],
        };
        if next.iter().all(|slot| self.function.contains(slot)) { Ok(next) } else { Err(Error::JumpOutside(slot)) }
    }

    fn step(&mut self, slot: usize, registers: &mut Registers) -> Result<(), Error> {
        let instruction = self.code[slot];
        let code = u32::from(instruction.code);
        let (destination, source) = (usize::from(instruction.dst_reg()), usize::from(instruction.src_reg()));
        let of = |registers: &Registers, register| Access { slot, register, value: registers[register] };
        let offset = i64::from(instruction.off);
        match code & CLASS {
            BPF_LD if code == BPF_LD | BPF_IMM | BPF_DW => registers[destination] = ANYTHING,
            // Of packets, by the old instructions: it is a call in all but name.
            BPF_LD => registers[LOST_BY_CALL].fill(ANYTHING),
            BPF_LDX => {
                let place = self.access(of(registers, source), offset)?;
                registers[destination] = match (code & MODE, code & SIZE) {
                    (BPF_MEM, BPF_DW) => self.spilled.read(place),
                    (BPF_MEM, _) => UNSIGNED,
                    _ => ANYTHING,
                };
            }
            BPF_STX if code & MODE == BPF_ATOMIC => {
                let operation = instruction.imm as u32;
                let address = if operation == LOAD_ACQUIRE { source } else { destination };
                let place = self.access(of(registers, address), offset)?;
                let read = self.spilled.read(place);
                match operation {
                    LOAD_ACQUIRE => registers[destination] = read,
                    BPF_CMPXCHG => registers[0] = read,
                    _ => {}
                }
                // An addition writes no address, an exchange may.
                if operation != LOAD_ACQUIRE {
                    self.spilled.write(place, registers[source]);
                }
                if operation & BPF_FETCH != 0 && ![BPF_CMPXCHG, STORE_RELEASE].contains(&operation) {
                    registers[source] = read;
                }
            }
            BPF_ST | BPF_STX => {
                let place = self.access(of(registers, destination), offset)?;
                if code == BPF_STX | BPF_MEM | BPF_DW {
                    self.spilled.write(place, registers[source]);
                }
            }
            BPF_ALU64 => registers[destination] = after_alu64(&instruction, registers),
            BPF_JMP if code & OPERATION == BPF_CALL => {
                for register in ARGUMENTS {
                    self.access(of(registers, register), 0)?;
                }
                registers[LOST_BY_CALL].fill(ANYTHING);
            }
            BPF_JMP | BPF_JMP32 => {}
            // BPF_ALU: half of an address is none.
            _ if code == BPF_ALU | BPF_MOV | BPF_K => {
                registers[destination] = Value::Other { least: i64::from(instruction.imm as u32) };
            }
            // The bytes of all 64 bits in another order.
            _ if code & OPERATION == BPF_END => registers[destination] = registers[destination].mixed_with(ANYTHING),
            _ => registers[destination] = UNSIGNED,
        }
        for register in 0..FRAME {
            if let Value::Frame { .. } = registers[register] {
                self.access(of(registers, register), 0)?;
            }
        }
        Ok(())
    }

    /// Where it is. What is no address of the frame stays that.
    fn access(&mut self, Access { slot, register, value }: Access, offset: i64) -> Result<Value, Error> {
        let place = value.at(offset);
        match place {
            Value::Other { .. } => {}
            Value::Unknown => return Err(Error::UnknownDepth { slot, register }),
            Value::Frame { below, .. } if below > STACK.into() => return Err(Error::TooDeep(slot, below)),
            Value::Frame { below, .. } => self.deepest = self.deepest.max(below),
        }
        Ok(place)
    }
}

/// Memory behind a register.
struct Access {
    slot: usize,
    register: usize,
    value: Value,
}

fn after_alu64(instruction: &bpf_insn, registers: &Registers) -> Value {
    let code = u32::from(instruction.code);
    let destination = registers[usize::from(instruction.dst_reg())];
    let number = i64::from(instruction.imm);
    let is_register = code & BPF_X != 0;
    let operand =
        if is_register { registers[usize::from(instruction.src_reg())] } else { Value::Other { least: number } };
    match code & OPERATION {
        // With an offset it extends a sign.
        BPF_MOV if instruction.off == 0 => operand,
        BPF_MOV => ANYTHING,
        BPF_ADD if !is_register && !destination.is_other() => destination.at(number),
        BPF_SUB if !is_register && !destination.is_other() => destination.at(-number),
        BPF_ADD => destination.plus(operand),
        _ => destination.mixed_with(operand),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::*;

    fn depth(code: &[bpf_insn]) -> Result<u32, Error> {
        frame(code, 0..code.len())
    }

    #[test]
    fn frame_is_as_deep_as_what_is_written_there_or_pointed_at() {
        assert_eq!(depth(&[exit()]), Ok(0));
        assert_eq!(depth(&[store(FRAME, -8, 1), store(FRAME, -40, 1), store(FRAME, -16, 1), exit()]), Ok(40));
        assert_eq!(depth(&[mov(2, FRAME), add(2, -24), exit()]), Ok(24));
        // What is read behind such a pointer is nearer to the frame's end; below it, deeper.
        assert_eq!(depth(&[mov(2, FRAME), add(2, -24), load(1, 2, -8), exit()]), Ok(32));
        // The register is another's by then.
        assert_eq!(depth(&[mov(2, FRAME), set(2, 7), add(2, -24), store(2, -64, 1), exit()]), Ok(0));
    }

    #[test]
    fn a_pointer_is_followed_to_where_a_jump_leads() {
        // What stands between the jump and its target makes another register of it, in the order of the code alone.
        let code = [mov(2, FRAME), jump_if(2), set(2, 7), exit(), store(2, -48, 1), exit()];
        assert_eq!(depth(&code), Ok(48));
    }

    #[test]
    fn where_ways_meet_a_register_has_the_deepest_of_them() {
        let meet = |one, other| [mov(2, FRAME), jump_if(2), add(2, one), jump(1), add(2, other), load(1, 2, 0), exit()];
        assert_eq!(depth(&meet(-16, -32)), Ok(32));
        assert_eq!(depth(&meet(-32, -16)), Ok(32));
        // A pointer on one of them, a number on the other.
        assert_eq!(depth(&[set(2, 0), jump_if(1), mov(2, FRAME), load(1, 2, -24), exit()]), Ok(24));
    }

    #[test]
    fn a_pointer_that_goes_round_in_a_loop_is_followed() {
        let round = |step| [mov(2, FRAME), add(2, -64), store(2, 0, 1), add(2, step), jump_if(-3), exit()];
        assert_eq!(depth(&round(8)), Ok(64));
        assert!(matches!(depth(&round(-8)), Err(Error::TooDeep(3, 520))), "{:?}", depth(&round(-8)));
    }

    #[test]
    fn an_access_at_an_unknown_distance_is_an_error_that_names_it() {
        let unknown = [mov(2, FRAME), add_register(2, 3)];
        let with = |last: bpf_insn| depth(&[unknown[0], unknown[1], last, exit()]);
        let error = Err(Error::UnknownDepth { slot: 2, register: 2 });
        assert_eq!(with(load(1, 2, 0)), error);
        assert_eq!(with(store(2, 0, 1)), error);
        assert_eq!(with(call_helper(1)), error);
        assert_eq!(with(exit()), Ok(0));
        // Also where only one of two ways comes with it.
        let code = [mov(2, FRAME), jump_if(1), add_register(2, 3), load(1, 2, -8), exit()];
        assert_eq!(depth(&code), Err(Error::UnknownDepth { slot: 3, register: 2 }));
        // The frame's end on the right side of an addition.
        let code = [mov(2, FRAME), add_register(3, 2), load(1, 3, -8), exit()];
        assert_eq!(depth(&code), Err(Error::UnknownDepth { slot: 2, register: 3 }));
    }

    #[test]
    fn a_number_that_is_added_is_known_by_the_least_that_it_may_be() {
        let with =
            |number: bpf_insn| depth(&[mov(2, FRAME), add(2, -40), number, add_register(2, 3), load(1, 2, 0), exit()]);
        let unknown = Err(Error::UnknownDepth { slot: 4, register: 2 });
        assert_eq!(with(set(3, 16)), Ok(40));
        assert_eq!(with(set(3, -16)), Ok(56));
        // A number of 32 bits, which is not negative: BPF_ALU with BPF_ADD.
        assert_eq!(with(instruction(BPF_ALU | BPF_K, (3, 0), 0, -1)), Ok(40));
        assert_eq!(with(instruction(BPF_LDX | BPF_MEM, (3, 1), 0, 0)), Ok(40));
        assert_eq!(with(load(3, 1, 0)), unknown);
        assert_eq!(with(instruction(BPF_ALU | BPF_END, (3, 0), 0, 64)), unknown);
        // One of two.
        let one_of = |one, other: bpf_insn| {
            depth(&[mov(2, FRAME), set(3, one), jump_if(1), other, add_register(2, 3), load(1, 2, 0), exit()])
        };
        assert_eq!(one_of(-8, set(3, -24)), Ok(24));
        assert_eq!(one_of(-24, set(3, -8)), Ok(24));
        assert_eq!(one_of(-24, add(3, 1)), Err(Error::UnknownDepth { slot: 5, register: 2 }));
    }

    #[test]
    fn a_call_takes_the_registers_that_it_may_change() {
        assert_eq!(depth(&[mov(2, FRAME), call_helper(1), load(1, 2, -64), exit()]), Ok(0));
        assert_eq!(depth(&[mov(6, FRAME), call_helper(1), load(1, 6, -64), exit()]), Ok(64));
    }

    #[test]
    fn a_pointer_comes_back_from_the_frame() {
        let spilled = [mov(6, FRAME), add(6, -32), store(FRAME, -8, 6), load(7, FRAME, -8)];
        let with = |last: bpf_insn| depth(&[spilled[0], spilled[1], spilled[2], spilled[3], last, exit()]);
        assert_eq!(with(load(1, 7, -16)), Ok(48));
        // Before it is written there, in the order of the code, and through a pointer that may be one of two.
        let code = [
            load(7, FRAME, -8),
            load(1, 7, -16),
            mov(6, FRAME),
            add(6, -32),
            mov(2, FRAME),
            jump_if(1),
            add(2, -8),
            store(2, 0, 6),
            jump_if(-9),
            exit(),
        ];
        assert_eq!(depth(&code), Ok(48));
        // Another place has no pointer.
        let code = [mov(6, FRAME), store(FRAME, -8, 6), load(7, FRAME, -16), load(1, 7, -64), exit()];
        assert_eq!(depth(&code), Ok(16));
    }

    #[test]
    fn jumps_that_cannot_be_followed_are_errors() {
        assert_eq!(depth(&[jump(7), exit()]), Err(Error::JumpOutside(0)));
        assert_eq!(depth(&[mov(1, 2)]), Err(Error::JumpOutside(0)));
        assert_eq!(depth(&[instruction(BPF_JMP | BPF_JA | BPF_X, (1, 0), 0, 0)]), Err(Error::IndirectJump(0)));
    }
}
