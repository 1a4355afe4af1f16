//! What arrives at the NIC: TC ingress of the uplink.
//!
//! Only packets for a pod, or for a port of the node that a pod's flow holds, are ours.

use aya_ebpf::{macros::classifier, programs::TcContext};
use azure_cni_common::conntrack::Event;
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::family::{V4, V6};
use azure_cni_common::flow::{Nat, Origin, Path, Tuple};

use crate::conntrack::{self, Tracking};
use crate::maps::Tables;
use crate::nat::{Arrival, Held};
use crate::packet::{self, Kind, Packet};
use crate::rewrite::{self, End, Rewrite};
use crate::verdict::{Verdict, finish};
use crate::{endpoint, events, fragments, icmp, nat};

#[classifier]
fn from_wire(ctx: TcContext) -> i32 {
    let result = if packet::is_of::<V6>(&ctx) { steps::<V6>(&ctx) } else { steps::<V4>(&ctx) };
    if !matches!(result, Ok(verdict) if verdict.is_wait()) {
        packet::end_wait(&ctx);
    }
    finish(&ctx, result)
}

#[inline(always)]
fn steps<F: Rewrite + Tables>(ctx: &TcContext) -> Result<Verdict, DropReason> {
    let Ok(mut packet) = Packet::<F>::parse(ctx) else { return Ok(Verdict::PASS) };
    fragments::follow(&mut packet);
    match packet.kind {
        Kind::Flow(event) if packet.tuple.destination == F::node_address() => match nat::arrival::<F>(&packet.tuple) {
            Arrival::NotTranslated => Ok(Verdict::PASS),
            Arrival::Held(held) if held.is_host => for_host(&packet, event, &held),
            Arrival::Held(held) => answer(ctx, &mut packet, event, &held),
        },
        Kind::Flow(event) => inbound(ctx, &mut packet, event),
        // For a pod's own address it needs no ports: the stack routes it.
        Kind::StrayFragment if packet.tuple.destination == F::node_address() && packet::may_wait(ctx) => {
            Ok(Verdict::wait(packet.ifindex))
        }
        Kind::IcmpError => icmp_error(ctx, &mut packet),
        Kind::StrayFragment | Kind::Opaque | Kind::LinkBroadcast => Ok(Verdict::PASS),
    }
}

/// The host holds the port: note that its flow is alive. A full table is no reason to cut the host off.
#[inline(always)]
fn for_host<F: Rewrite + Tables>(
    packet: &Packet<F>,
    event: Event,
    held: &Held<F::Address>,
) -> Result<Verdict, DropReason> {
    let _ = conntrack::track(packet, event);
    if held.is_opening {
        let _ = nat::settle::<F>(&packet.tuple, &held.holder);
    }
    Ok(Verdict::PASS)
}

/// For a port that a pod's flow holds.
#[inline(always)]
fn answer<F: Rewrite + Tables>(
    ctx: &TcContext,
    packet: &mut Packet<F>,
    event: Event,
    held: &Held<F::Address>,
) -> Result<Verdict, DropReason> {
    let on_the_wire: Tuple<F::Address> = packet.tuple;
    let Held { holder, is_opening, .. } = *held;
    rewrite::replace(ctx, packet, End::Destination, holder.address, holder.port)?;
    let Some(ifindex) = endpoint::find::<F>(holder.address) else { return Err(DropReason::EndpointGone) };
    let path = match conntrack::track(packet, event) {
        Tracking::Known(known) if known.is_refused && known.flow.path != Path::STACK => {
            return Err(events::refused::<F>(&packet.tuple.reversed(), DropReason::FlowTableFull));
        }
        Tracking::Known(known) => known.flow.path,
        // The flow's entry was lost and its translation was not: the pod opened it, by which way is unknown.
        Tracking::New(new) => new.reopen_for_receiver(Path::STACK, on_the_wire.destination_port)?,
    };
    if is_opening && event != Event::Fragment {
        nat::settle::<F>(&on_the_wire, &holder)
            .map_err(|reason| events::refused::<F>(&packet.tuple.reversed(), reason))?;
    }
    // The stack undoes what it did to the flow on its way out, and answers what a router cannot forward.
    if path == Path::STACK || packet.hop_limit <= 1 {
        return Ok(Verdict::PASS);
    }
    to_pod(ctx, packet, ifindex)
}

/// For a pod's own address.
#[inline(always)]
fn inbound<F: Rewrite + Tables>(ctx: &TcContext, packet: &mut Packet<F>, event: Event) -> Result<Verdict, DropReason> {
    let Some(ifindex) = endpoint::find::<F>(packet.tuple.destination) else { return Ok(Verdict::PASS) };
    let path = match conntrack::track(packet, event) {
        Tracking::Known(known) if known.is_refused && known.flow.path != Path::STACK => {
            return Err(events::refused::<F>(&packet.tuple, DropReason::FlowTableFull));
        }
        Tracking::Known(known) => known.flow.path,
        Tracking::New(new) => new.open(Origin::OUTSIDE, Path::WIRE, Nat::KEEP)?,
    };
    if path == Path::STACK || packet.hop_limit <= 1 {
        return Ok(Verdict::PASS);
    }
    to_pod(ctx, packet, ifindex)
}

#[inline(always)]
fn icmp_error<F: Rewrite + Tables>(ctx: &TcContext, packet: &mut Packet<F>) -> Result<Verdict, DropReason> {
    let path = icmp::undo(ctx, packet)?;
    let is_direct = path == Path::WIRE || path == Path::LOCAL;
    match endpoint::find::<F>(packet.tuple.destination) {
        Some(ifindex) if is_direct && packet.hop_limit > 1 => to_pod(ctx, packet, ifindex),
        _ => Ok(Verdict::PASS),
    }
}

#[inline(always)]
fn to_pod<F: Rewrite>(ctx: &TcContext, packet: &mut Packet<F>, ifindex: u32) -> Result<Verdict, DropReason> {
    rewrite::decrement_hop_limit(ctx, packet)?;
    Ok(Verdict::to_pod(ifindex))
}
