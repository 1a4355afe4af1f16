//! The answer to [`Request::Drops`](super::Request::Drops).

use serde::{Deserialize, Serialize};

/// How many packets were dropped for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DropCount {
    pub number: u32,
    pub name: String,
    pub meaning: String,
    /// The sum over all CPUs.
    pub packets: u64,
    pub per_cpu: Vec<u64>,
}
