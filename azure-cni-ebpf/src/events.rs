//! Reports flows that were refused to the agent, so that an operator learns whose they were.

use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::family::Address;
use azure_cni_common::flow::Tuple;
use azure_cni_common::refused_flow::RefusedFlow;

use crate::maps::EVENTS;
use crate::tables::{Tables, now_ns, recent_refusal};

/// Reports a new flow that is refused; `tuple` is of its initiator's packet. The refusals that follow within a moment are
/// reported with the first one after it. When the agent does not read, the ring fills up and only the counter shows it.
#[inline(never)]
pub fn refused<F: Tables>(tuple: &Tuple<F::Address>, reason: DropReason) -> DropReason {
    let count = recent_refusal::<F>(tuple, reason).map_or(1, |(place, key)| place.add(key, now_ns()));
    if count == 0 {
        return reason;
    }
    let event = RefusedFlow {
        source: tuple.source.to_words(),
        destination: tuple.destination.to_words(),
        source_port: tuple.source_port,
        destination_port: tuple.destination_port,
        reason: reason.number() as u16,
        protocol: tuple.protocol,
        family: F::VERSION,
        count,
    };
    let _ = EVENTS.output::<RefusedFlow>(&event, 0);
    reason
}

/// The same; `tuple` is of a reply, and is its initiator's afterwards. Two functions, one after the other: what they need of the stack
/// must not add up.
#[inline(always)]
pub fn refused_reply<F: Tables>(tuple: &mut Tuple<F::Address>, reason: DropReason) -> DropReason {
    reverse(tuple);
    refused::<F>(tuple, reason)
}

#[inline(never)]
fn reverse<A: Address>(tuple: &mut Tuple<A>) {
    *tuple = tuple.reversed();
}
