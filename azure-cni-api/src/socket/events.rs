//! The answer to [`Request::Events`](super::Request::Events).

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::cni::AttachmentId;

/// Refused flows: equal ones share one entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusalInfo {
    /// The pod with the source's address; `None` if no attachment has it.
    pub pod: Option<AttachmentId>,
    pub source: IpAddr,
    pub destination: IpAddr,
    /// Zero where the protocol has none.
    pub destination_port: u16,
    /// The IP protocol number.
    pub protocol: u8,
    /// The name of the drop reason.
    pub reason: String,
    pub count: u64,
    /// When the first of them was refused, in milliseconds since 1970.
    pub first_unix_ms: u64,
    /// When the last of them was refused.
    pub last_unix_ms: u64,
}
