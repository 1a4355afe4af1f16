//! Reports flows that were refused to the agent, so that an operator learns whose they were.

use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::family::{Address, Family};
use azure_cni_common::flow::Tuple;
use azure_cni_common::refused_flow::RefusedFlow;

use crate::maps::EVENTS;

/// Reports a new flow that is refused; `tuple` is of its initiator's packet. When the agent does not read, the ring fills up
/// and only the counter shows it.
#[inline(never)]
pub fn refused<F: Family>(tuple: &Tuple<F::Address>, reason: DropReason) -> DropReason {
    let event = RefusedFlow {
        source: tuple.source.to_words(),
        destination: tuple.destination.to_words(),
        source_port: tuple.source_port,
        destination_port: tuple.destination_port,
        reason: reason.number() as u16,
        protocol: tuple.protocol,
        family: F::VERSION,
    };
    let _ = EVENTS.output::<RefusedFlow>(&event, 0);
    reason
}

/// The same; `tuple` is of a reply.
#[inline(never)]
pub fn refused_reply<F: Family>(tuple: &Tuple<F::Address>, reason: DropReason) -> DropReason {
    refused::<F>(&tuple.reversed(), reason)
}
