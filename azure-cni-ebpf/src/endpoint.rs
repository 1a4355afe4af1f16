//! Step: whose packet is it.

use azure_cni_common::drop_reason::DropReason;

use crate::maps::Tables;
use crate::packet::{Headers, Packet};

/// The host veth of the pod that has this address.
pub fn find<F: Tables>(address: F::Address) -> Option<u32> {
    F::endpoint(address).map(|endpoint| endpoint.ifindex)
}

/// A pod sends from its own address only: the source must belong to the veth that the packet came from.
pub fn check_source<F: Headers + Tables>(packet: &Packet<F>) -> Result<(), DropReason> {
    if find::<F>(packet.tuple.source) == Some(packet.ifindex) { Ok(()) } else { Err(DropReason::SourceNotOwned) }
}
