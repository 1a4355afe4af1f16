//! What arrives at the NIC: TC ingress of the uplink.
//!
//! Only packets for a pod, or for a port of the node that a pod's flow holds, are ours.

use aya_ebpf::{macros::classifier, programs::TcContext};
use azure_cni_common::conntrack::Origin;
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::family::{Be16, V4, V6};
use azure_cni_common::flow::{Nat, Path};
use azure_cni_common::nat::NatKey;

use crate::conntrack::{self, Tracking};
use crate::maps::Tables;
use crate::packet::{self, Kind, Packet};
use crate::rewrite::{self, End, Replacement, Rewrite};
use crate::verdict::{Verdict, finish};
use crate::{endpoint, events, fragments, icmp, nat};

#[classifier]
fn from_wire(ctx: TcContext) -> i32 {
    if packet::is_of::<V6>(&ctx) { of_family::<V6>(&ctx) } else { of_family::<V4>(&ctx) }
}

#[inline(always)]
fn of_family<F: Rewrite + Tables>(ctx: &TcContext) -> i32 {
    if packet::is_icmp_error::<F>(ctx) { run_message::<F>(ctx) } else { run::<F>(ctx) }
}

/// A function of its own for each family and for messages, with a stack of its own.
#[inline(never)]
fn run<F: Rewrite + Tables>(ctx: &TcContext) -> i32 {
    let result = steps::<F>(ctx);
    if !matches!(result, Ok(verdict) if verdict.is_wait()) {
        packet::end_wait(ctx);
    }
    finish::<F>(ctx, result)
}

#[inline(always)]
fn steps<F: Rewrite + Tables>(ctx: &TcContext) -> Result<Verdict, DropReason> {
    let Some(packet) = F::packet() else { return Ok(Verdict::PASS) };
    if packet.parse(ctx).is_err() {
        return Ok(Verdict::PASS);
    }
    fragments::follow(packet);
    match packet.kind {
        Kind::Flow if packet.tuple.destination == F::node_address() => {
            match nat::holder_of::<F>(&NatKey::for_incoming(&packet.tuple)) {
                None => Ok(Verdict::PASS),
                Some(holder) if holder.address == F::node_address() => for_host(packet),
                Some(holder) => reply(ctx, packet, holder.address, holder.port),
            }
        }
        Kind::Flow => inbound(ctx, packet),
        // For a pod's own address it needs no ports: the stack routes it.
        Kind::StrayFragment if packet.tuple.destination == F::node_address() && packet::may_wait(ctx) => {
            Ok(Verdict::wait(packet.ifindex))
        }
        _ => Ok(Verdict::PASS),
    }
}

/// The host holds the port: note that its flow is alive. A full table is no reason to cut the host off.
#[inline(always)]
fn for_host<F: Rewrite + Tables>(packet: &Packet<F>) -> Result<Verdict, DropReason> {
    if let Tracking::Known(known) = conntrack::track(packet, packet.event())
        && known.becomes_assured
    {
        let _ = nat::promote::<F>(&packet.tuple, packet.tuple.destination_port, true, known.now_ns);
    }
    Ok(Verdict::PASS)
}

/// For a port that a pod's flow holds.
#[inline(always)]
fn reply<F: Rewrite + Tables>(
    ctx: &TcContext,
    packet: &mut Packet<F>,
    address: F::Address,
    port: Be16,
) -> Result<Verdict, DropReason> {
    let node_port = packet.tuple.destination_port;
    rewrite::replace(ctx, packet, End::Destination, &Replacement::new(address, port))?;
    let Some(ifindex) = endpoint::find::<F>(address) else { return Err(DropReason::EndpointGone) };
    let path = match conntrack::track(packet, packet.event()) {
        Tracking::Known(known) => {
            if known.is_refused && known.flow.path != Path::STACK {
                return Err(events::refused_reply::<F>(&packet.tuple, DropReason::FlowTableFull));
            }
            if known.becomes_assured && !nat::promote::<F>(&packet.tuple, node_port, false, known.now_ns) {
                conntrack::demote::<F>(&packet.tuple, &known.flow);
                return Err(events::refused_reply::<F>(&packet.tuple, DropReason::NatTableFull));
            }
            known.flow.path
        }
        // The flow's entry was lost and its translation was not: the pod opened it, by which way is unknown.
        Tracking::New(new) => {
            let path = new.reopen_for_receiver::<F>(&packet.tuple, Path::STACK, node_port)?;
            if new.is_assured_for_receiver() {
                let _ = nat::promote::<F>(&packet.tuple, node_port, false, new.now_ns);
            }
            path
        }
    };
    // The stack undoes what it did to the flow on its way out, and answers what a router cannot forward.
    if path == Path::STACK || packet.hop_limit <= 1 {
        return Ok(Verdict::PASS);
    }
    to_pod(ctx, packet, ifindex)
}

/// For a pod's own address.
#[inline(always)]
fn inbound<F: Rewrite + Tables>(ctx: &TcContext, packet: &mut Packet<F>) -> Result<Verdict, DropReason> {
    let Some(ifindex) = endpoint::find::<F>(packet.tuple.destination) else { return Ok(Verdict::PASS) };
    let path = match conntrack::track(packet, packet.event()) {
        Tracking::Known(known) => {
            if known.is_refused && known.flow.path != Path::STACK {
                return Err(events::refused::<F>(&packet.tuple, DropReason::FlowTableFull));
            }
            // The peer knows the pod's address too: it is an answer all the same.
            if known.becomes_assured && known.flow.nat == Nat::TRANSLATED {
                let _ = nat::promote::<F>(&packet.tuple, known.flow.nat_port, false, known.now_ns);
            }
            known.flow.path
        }
        Tracking::New(new) => new.open::<F>(&packet.tuple, Origin::OUTSIDE, Path::WIRE, Nat::KEEP)?,
    };
    if path == Path::STACK || packet.hop_limit <= 1 {
        return Ok(Verdict::PASS);
    }
    to_pod(ctx, packet, ifindex)
}

#[inline(never)]
fn run_message<F: Rewrite + Tables>(ctx: &TcContext) -> i32 {
    finish::<F>(ctx, message_steps::<F>(ctx))
}

#[inline(always)]
fn message_steps<F: Rewrite + Tables>(ctx: &TcContext) -> Result<Verdict, DropReason> {
    let Some(packet) = F::packet() else { return Ok(Verdict::PASS) };
    if packet.parse_apart(ctx).is_err() || !matches!(packet.kind, Kind::IcmpError) {
        return Ok(Verdict::PASS);
    }
    let path = icmp::reverse_snat(ctx, packet)?;
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
