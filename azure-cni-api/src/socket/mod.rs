//! The agent's socket: one request and one response per connection, each a frame of JSON.

mod frame;
mod request;

mod drops;
mod endpoints;
mod events;
mod latency;
mod status;

mod client;

use std::time::Duration;

pub use client::{CallError, call};
pub use drops::DropCount;
pub use endpoints::EndpointInfo;
pub use events::RefusalInfo;
pub use frame::{FRAME_HEADER, MAX_FRAME};
pub use latency::StepLatency;
pub use request::{CniRequest, Request, Response};
pub use status::{PoolStatus, ServicesStatus, SourceStatus, Status, TableStatus};

/// The default path of the agent's socket.
pub const DEFAULT_SOCKET: &str = "/run/azure-cni/agent.sock";

/// The longest that a call may take, from the plugin's start to its end. Kubelet gives a pod's set-up four minutes. No
/// configuration can change this.
pub const LONGEST_CALL: Duration = Duration::from_secs(60);
