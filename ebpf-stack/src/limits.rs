//! What kernels allow, and what programs of ours may take of it.

/// Bytes of all frames of a chain, at most: MAX_BPF_STACK of include/linux/filter.h.
pub const STACK: u32 = 512;

/// Frames of a chain, at most: MAX_CALL_FRAMES of include/linux/bpf_verifier.h.
pub const MAX_CALL_FRAMES: usize = 8;

/// Bytes that a frame is rounded up to by the kernels that round up most.
pub const ROUNDING: u32 = 32;

/// The most bytes that a program of ours may need of [`STACK`].
pub const CEILING: u32 = 384;
