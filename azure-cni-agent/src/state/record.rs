//! What is remembered of one attachment: enough to answer the same ADD again, to undo it, and to tell after a restart
//! whether it is still alive.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cni::AttachmentId;
use crate::net::NetnsId;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttachmentRecord {
    pub id: AttachmentId,
    pub addresses: Vec<IpAddr>,
    /// The host's end of the veth pair.
    pub host_interface: String,
    pub host_ifindex: u32,
    pub pod_mac: [u8; 6],
    /// Where the runtime keeps the pod's network namespace.
    pub netns: PathBuf,
    /// Which namespace that path led to: a path can be taken over by another pod's.
    pub netns_id: Option<NetnsId>,
    /// `/proc/sys/kernel/random/boot_id` of the boot that the namespace and the interfaces belong to.
    pub boot_id: String,
    pub mtu: u32,
    /// Addresses that the network asked to be reached through the host's stack.
    #[serde(default)]
    pub via_host: Vec<Ipv4Addr>,
    /// The network opted out of source NAT.
    #[serde(default)]
    pub keep_source: bool,
}
