//! Why a wire server document was refused, and where. A retry with the same document never helps. A new document may
//! help, if the source was in the middle of a change.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// The longest document. 16,000 addresses, the most that a virtual network can have, take about 1 MiB.
pub const MAX_BYTES: usize = 4 << 20;

/// Line and column, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub line: u32,
    pub column: u32,
}

impl From<roxmltree::TextPos> for Position {
    fn from(position: roxmltree::TextPos) -> Self {
        Self { line: position.row, column: position.col }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Longer than the addresses of any VM. A retry does not help.
    #[error("document of {bytes} bytes is larger than {} bytes", MAX_BYTES)]
    TooLarge { bytes: usize },
    /// Not XML, or XML with a DTD. A retry helps only if the document was cut short.
    #[error("not an acceptable XML document: {0}")]
    Xml(#[from] roxmltree::Error),
    /// Other XML. A retry does not help.
    #[error("{at}: root element is <{element}>, not <Interfaces>")]
    Root { at: Position, element: String },
    /// A retry does not help.
    #[error("{at}: <{element}> has no attribute {attribute}")]
    MissingAttribute { at: Position, element: String, attribute: &'static str },
    /// A retry does not help.
    #[error("{at}: <{element} {attribute}={value:?}>: the value {problem}")]
    Malformed { at: Position, element: String, attribute: &'static str, value: String, problem: &'static str },
    /// A retry does not help.
    #[error("{at}: address {address} lies outside of its subnet {prefix}")]
    OutsideSubnet { at: Position, address: IpAddr, prefix: IpNet },
    /// Two pods could get the same address. A retry does not help.
    #[error("{at}: {what} {value} is listed a second time, first at {first}")]
    Duplicate { at: Position, what: &'static str, value: String, first: Position },
    /// A retry does not help.
    #[error("{at}: address {address} is a second primary address of subnet {prefix}, after {first}")]
    SecondPrimary { at: Position, address: IpAddr, first: IpAddr, prefix: IpNet },
}
