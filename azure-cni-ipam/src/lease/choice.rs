//! Which address of a family an attachment asks for.

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Choice<A> {
    /// Those with a public address of their own are given last.
    #[default]
    Any,
    /// One that has a public address of its own.
    Public,
    /// This one and no other.
    This(A),
}
