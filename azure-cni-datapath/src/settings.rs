//! What the data path is made from: the agent's choices, and what it knows of the node.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use azure_cni_common::lifetime::Timeouts;
use azure_cni_common::nat::PortRange;

use crate::hook::AttachModes;

/// What the programs are loaded with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The compiled programs: [`crate::OBJECT`], or those of the benchmark.
    pub object: &'static [u8],
    /// A directory on a bpffs; one is mounted there if there is none.
    pub dir: PathBuf,
    pub constants: Constants,
    /// Size of each family's table of assured flows, and of its table of their translations, in entries.
    pub max_flows: u32,
    /// Size of each family's tables of flows that are not assured, of TCP and of datagrams, and of the table of their
    /// translations.
    pub max_half_open: u32,
    /// Size of each family's table of routes.
    pub max_routes: u32,
    pub attach: AttachModes,
}

/// What the programs know from the moment they are loaded, and never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constants {
    /// The uplink's primary address, which translated flows leave from.
    pub node_address: Ipv4Addr,
    /// The same for IPv6.
    pub node_address6: Option<Ipv6Addr>,
    /// Whether pods may have IPv6 addresses. Without, the programs for IPv6 are neither verified nor run, and its maps take no
    /// memory.
    pub has_ipv6: bool,
    /// Whether IPv6 to the Internet is translated at all; the platform routes the VNet's addresses.
    pub snat6: bool,
    pub uplink_ifindex: u32,
    /// Bytes, IP header included.
    pub uplink_mtu: u32,
    pub nat_ports: PortRange,
    /// How many blocks of them a pod may hold, see [`azure_cni_common::nat::share`].
    pub nat_pod_blocks: u32,
    /// Where searches for ports begin. All agents of a boot have the same, so that flows that were lost find their ports.
    pub nat_seed: u32,
    pub timeouts: Timeouts,
    /// How many flows of a pod the table of assured flows takes.
    pub pod_flow_share: u32,
    /// Whether all cluster service prefixes are in the route table.
    pub services_known: bool,
    /// Whether pods are kept from the platform's metadata service.
    pub block_imds: bool,
    /// Whether rare events are logged from the kernel.
    pub log: bool,
}
