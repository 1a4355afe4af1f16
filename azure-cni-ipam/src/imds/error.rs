//! Why an instance metadata document was refused, and where. A retry with the same document never helps.

use std::net::IpAddr;

#[derive(Debug, thiserror::Error)]
pub enum ImdsError {
    /// More than any VM's addresses take. A retry does not help.
    #[error("document of {bytes} bytes is larger than {} bytes", super::MAX_BYTES)]
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
