//! Step: whose packet is it.

use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::egress::SnatPolicy;
use azure_cni_common::endpoint::{Endpoint, EndpointFlags};
use azure_cni_common::family::Address;

use crate::maps::Tables;
use crate::packet::{Headers, Packet};

/// The host veth of the pod that has this address.
pub fn find<F: Tables>(address: F::Address) -> Option<u32> {
    F::endpoint(address).map(|endpoint| endpoint.ifindex)
}

/// Who sent a packet that came from a pod's veth.
pub enum Source {
    /// The pod, from its own address. How its packets to the Internet are translated.
    Pod(SnatPolicy),
    /// The pod, in the affairs of its link (neighbour discovery, router solicitation): never forwarded.
    OnLink,
}

/// A pod sends from its own address only: the source must belong to the veth that the packet came from.
pub fn check_source<F: Headers + Tables>(packet: &Packet<F>) -> Result<Source, DropReason> {
    match F::endpoint(packet.tuple.source) {
        Some(endpoint) if endpoint.ifindex == packet.ifindex => Ok(Source::Pod(snat_policy::<F>(&endpoint))),
        None if packet.tuple.source.is_link_source() && packet.tuple.destination.stays_on_link() => Ok(Source::OnLink),
        _ => Err(DropReason::SourceNotOwned),
    }
}

pub fn snat_policy<F: Tables>(endpoint: &Endpoint) -> SnatPolicy {
    SnatPolicy { is_on: F::is_translated(), pod_keeps_source: endpoint.flags.has(EndpointFlags::KEEP_SOURCE) }
}
