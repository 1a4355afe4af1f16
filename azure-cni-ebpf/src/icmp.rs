//! Step: ICMP errors. They belong to the flow of the packet that they quote, and are translated as it was.
//!
//! A message never renews a flow, and one that quotes a packet of no known flow is nobody's: the host's stack routes it.

use aya_ebpf::programs::TcContext;
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::flow::{Nat, Path};

use crate::conntrack;
use crate::maps::Tables;
use crate::nat::{self, Arrival};
use crate::packet::{Packet, Quoted};
use crate::rewrite::{self, End, Rewrite};

/// From the wire: if the message speaks of a translated packet, message and quoted packet are put back as the pod knows
/// them. Returns the way of the flow that they belong to.
#[inline(never)]
pub fn undo<F: Rewrite + Tables>(ctx: &TcContext, message: &mut Packet<F>) -> Result<Path, DropReason> {
    let Some(quoted) = Quoted::parse(ctx, message) else { return Ok(Path::UNKNOWN) };
    let mut sent = quoted.tuple;
    if message.tuple.destination == F::node_address() && sent.source == F::node_address() {
        let Arrival::Held(held) = nat::arrival::<F>(&sent.reversed()) else { return Ok(Path::UNKNOWN) };
        if held.is_host {
            return Ok(Path::UNKNOWN);
        }
        let holder = held.holder;
        rewrite::replace_quoted(ctx, message, &quoted, End::Source, holder.address, holder.port)?;
        rewrite::replace(ctx, message, End::Destination, holder.address, message.tuple.destination_port)?;
        (sent.source, sent.source_port) = (holder.address, holder.port);
    }
    Ok(conntrack::peek::<F>(&sent, conntrack::now_ns()).map_or(Path::UNKNOWN, |(flow, _)| flow.path))
}

/// Who speaks of a packet that a pod received.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    Pod,
    /// A pod whose message has passed the host's stack.
    PodThroughStack,
    /// The host's stack, from its own address.
    Host,
}

/// A message about a packet that a pod received. If that was an answer to a translated flow, the outside must see it as it
/// left there; what is yet to pass the host's stack stays as it is. Returns the way of the flow.
#[inline(never)]
pub fn translate<F: Rewrite + Tables>(
    ctx: &TcContext,
    message: &mut Packet<F>,
    speaker: Speaker,
) -> Result<Path, DropReason> {
    let Some(quoted) = Quoted::parse(ctx, message) else { return Ok(Path::UNKNOWN) };
    // A pod speaks of its own packets only.
    if speaker != Speaker::Host && quoted.tuple.destination != message.tuple.source {
        return Ok(Path::UNKNOWN);
    }
    let Some((flow, is_from_opener)) = conntrack::peek::<F>(&quoted.tuple, conntrack::now_ns()) else {
        return Ok(Path::UNKNOWN);
    };
    let is_done_later = speaker == Speaker::Pod && flow.path == Path::STACK;
    if flow.nat == Nat::TRANSLATED && !is_from_opener && !is_done_later {
        rewrite::replace_quoted(ctx, message, &quoted, End::Destination, F::node_address(), flow.nat_port)?;
        if speaker != Speaker::Host {
            rewrite::replace(ctx, message, End::Source, F::node_address(), message.tuple.source_port)?;
        }
    }
    Ok(flow.path)
}
