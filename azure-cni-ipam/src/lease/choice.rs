//! Which address of a family an attachment requests.

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Choice<A> {
    /// Any address; those with a public address come last.
    #[default]
    Any,
    /// An address that has a public address of its own.
    Public,
    /// Exactly this address.
    This(A),
}
