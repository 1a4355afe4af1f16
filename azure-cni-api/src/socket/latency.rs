//! The answer to [`Request::Steps`](super::Request::Steps).

use serde::{Deserialize, Serialize};

/// The latency of one step of a command since the agent started, in microseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepLatency {
    /// The CNI command, such as `ADD`.
    pub command: String,
    /// The name of the step; `total` is the whole call, from its arrival at the agent to the response.
    pub step: String,
    pub count: u64,
    pub p50_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
}
