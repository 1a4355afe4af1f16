//! Why the depth of a program's stack cannot be told, or is none that a kernel takes. No retry helps: the code has to be another.

use aya_obj::generated::bpf_func_id;

/// What stands at a slot of 8 bytes of a program's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("slot {0} is a tail call (helper {TAIL_CALL}): the stack of what follows is not known here")]
    TailCall(usize),
    #[error("slot {0} calls the function that a register holds: which one is not known here")]
    IndirectCall(usize),
    #[error("slot {0} jumps to where a register says: that is not known here")]
    IndirectJump(usize),
    #[error("slot {0} jumps out of its function")]
    JumpOutside(usize),
    #[error("slot {slot} uses R{register}, which may point anywhere into the frame")]
    UnknownDepth { slot: usize, register: usize },
    #[error("slot {0} reaches {1} bytes into its frame, which is more than the whole stack")]
    TooDeep(usize, i64),
    #[error("the function at slot {0} calls itself, directly or through others")]
    Recursion(usize),
}

/// The number of the helper that is one.
pub(crate) const TAIL_CALL: u32 = bpf_func_id::BPF_FUNC_tail_call as u32;

impl Error {
    pub fn slot(self) -> usize {
        match self {
            Self::TailCall(slot)
            | Self::IndirectCall(slot)
            | Self::IndirectJump(slot)
            | Self::JumpOutside(slot)
            | Self::UnknownDepth { slot, .. }
            | Self::TooDeep(slot, _)
            | Self::Recursion(slot) => slot,
        }
    }
}
