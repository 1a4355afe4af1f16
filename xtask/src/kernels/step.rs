//! What a guest runs, one after the other.

/// Tests of one binary.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) name: &'static str,
    /// Whether the kernel compiles programs. A kernel that always does passes the step by.
    pub(crate) jit: bool,
    /// A module that the guest lacks meanwhile.
    pub(crate) lacks: Option<&'static str>,
    pub(crate) binary: &'static str,
    /// For the binary's own runner: filters, and its options.
    pub(crate) arguments: &'static str,
}
