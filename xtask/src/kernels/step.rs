//! What a guest runs, one after the other.

/// Tests of one binary.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) name: &'static str,
    /// Whether the kernel compiles programs. A kernel that always does passes the step by.
    pub(crate) jit: bool,
    /// Whether the kernel may load modules, beside those that the tests' own networks are made of.
    pub(crate) modules: bool,
    pub(crate) binary: &'static str,
    /// For the binary's own runner: filters, and its options.
    pub(crate) arguments: &'static str,
}
