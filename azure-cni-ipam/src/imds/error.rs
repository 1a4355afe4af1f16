//! Why nothing of a document of instance metadata could be read. A retry with the same document never helps.

use azure_cni_api::excerpt::bounded;

/// The longest document. 16,000 addresses, the most that a virtual network can have, take about 1 MiB.
pub const MAX_BYTES: usize = 4 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ImdsError {
    /// Longer than the addresses of any VM. A retry does not help.
    #[error("document of {bytes} bytes is larger than {} bytes", MAX_BYTES)]
    TooLarge { bytes: usize },
    /// Not JSON, or JSON of another form; says line and column. A retry helps only if the document was cut short.
    #[error("not a network document of instance metadata: {}", bounded(&.0.to_string()))]
    Json(#[from] serde_json::Error),
}
