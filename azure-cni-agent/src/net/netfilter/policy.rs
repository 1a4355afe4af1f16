//! What the readers of netfilter's policies find.

/// A chain whose policy is to drop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropping {
    /// As an operator names it.
    pub chain: String,
    pub ipv4: bool,
    pub ipv6: bool,
    /// A rule of its table names pods' interfaces: an operator has thought of them.
    pub names_pods: bool,
}

/// How rules name pods' interfaces: their common prefix.
pub const POD_INTERFACES: &[u8] = b"azv";
