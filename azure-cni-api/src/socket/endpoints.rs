//! The answer to [`Request::Endpoints`](super::Request::Endpoints).

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::cni::AttachmentId;

/// One pod's attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointInfo {
    pub attachment: AttachmentId,
    /// The first of `addresses`.
    pub address: IpAddr,
    /// The pod's address of each family, IPv4 first.
    pub addresses: Vec<IpAddr>,
    pub host_interface: String,
    pub ifindex: u32,
    pub netns: String,
    pub pod_mac: String,
    /// Its flows in the connection table, of all its addresses.
    pub flows: u64,
}
