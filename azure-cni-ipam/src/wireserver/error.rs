//! Why nothing of a wire server document could be read. A retry with the same document never helps. A new document may
//! help, if the source was in the middle of a change.

use std::fmt;

use azure_cni_api::excerpt::{bounded, excerpt};

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
    #[error("not an acceptable XML document: {}", bounded(&.0.to_string()))]
    Xml(#[from] roxmltree::Error),
    /// Other XML. A retry does not help.
    #[error("{at}: root element is <{}>, not <Interfaces>", excerpt(.element))]
    Root { at: Position, element: String },
}
