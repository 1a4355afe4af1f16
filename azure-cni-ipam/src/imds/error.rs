//! Why a document of instance metadata was refused, and where. A retry with the same document never helps.

use std::net::IpAddr;

/// The longest document. 16,000 addresses, the most that a virtual network can have, take about 1 MiB.
pub const MAX_BYTES: usize = 4 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ImdsError {
    /// Longer than the addresses of any VM. A retry does not help.
    #[error("document of {bytes} bytes is larger than {} bytes", MAX_BYTES)]
    TooLarge { bytes: usize },
    /// Not JSON, or JSON of another form; says line and column. A retry helps only if the document was cut short.
    #[error("not a network document of instance metadata: {0}")]
    Json(#[from] serde_json::Error),
    /// A retry does not help.
    #[error("{at} = {value:?}: the value {problem}")]
    Malformed { at: String, value: String, problem: &'static str },
    /// A retry does not help.
    #[error("{at}: address {address} lies in none of the interface's subnets")]
    OutsideSubnets { at: String, address: IpAddr },
    /// Two pods could get the same address. A retry does not help.
    #[error("{at}: {what} {value} is listed a second time")]
    Duplicate { at: String, what: &'static str, value: String },
}

impl ImdsError {
    pub(super) fn malformed(at: String, value: &str, problem: &'static str) -> Self {
        Self::Malformed { at, value: value.to_owned(), problem }
    }
}
