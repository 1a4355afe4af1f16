//! What arrives at the NIC: TC ingress of the uplink.
//!
//! Only packets for a pod, or for a port of the node that a pod's flow holds, are ours.

use aya_ebpf::{macros::classifier, programs::TcContext};
use azure_cni_common::conntrack::Origin;
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::egress::RouteClass;
use azure_cni_common::endpoint::EndpointEntry;
use azure_cni_common::family::{Address, Be16};
use azure_cni_common::flow::{Nat, Path};
use azure_cni_common::nat::NatKey;

use super::{Hook, may_open_from_outside, run, to_pod};
use crate::conntrack::{self, Tracking};
use crate::packet::{self, End, Headers, Kind, Packet, Replacement, Rewrite};
use crate::scratch::ScratchRef;
use crate::tables::{Tables, holder_of};
use crate::verdict::{self, Verdict};
use crate::{events, fragments, icmp, nat};

#[classifier]
fn from_wire(ctx: TcContext) -> i32 {
    run::<FromWire>(&ctx)
}

struct FromWire;

impl Hook for FromWire {
    const PUTS_BACK: bool = true;

    #[inline(always)]
    fn steps<F: Rewrite + Tables>(
        ctx: &TcContext,
        packet: &mut Packet<F>,
        scratch: ScratchRef<'_, F>,
    ) -> Result<Verdict, DropReason> {
        if packet.parse(ctx).is_err() {
            return Ok(Verdict::PASS);
        }
        if packet.tuple.destination == F::node_address() {
            return for_node(ctx, packet, scratch);
        }
        let Some(pod) = F::endpoint(packet.tuple.destination) else { return without_pod::<F>(packet) };
        check_source(packet)?;
        if packet.is_fragment() {
            fragments::find_ports(packet);
        }
        match packet.kind {
            Kind::Flow => inbound(ctx, packet, pod, scratch),
            // For a pod's own address it needs no ports: the stack routes it.
            _ => Ok(Verdict::PASS),
        }
    }

    #[inline(always)]
    fn icmp_error_steps<F: Rewrite + Tables>(
        ctx: &TcContext,
        message: &mut Packet<F>,
        scratch: ScratchRef<'_, F>,
    ) -> Result<Verdict, DropReason> {
        if message.parse_apart(ctx).is_err() || !matches!(message.kind, Kind::IcmpError) {
            return Ok(Verdict::PASS);
        }
        let path = icmp::reverse_snat(ctx, message, scratch)?;
        let is_direct = path == Path::WIRE || path == Path::LOCAL;
        let Some(pod) = F::endpoint(message.tuple.destination) else { return without_pod::<F>(message) };
        check_source(message)?;
        if is_direct && message.hop_limit > 1 { to_pod(ctx, message, pod) } else { Ok(Verdict::PASS) }
    }
}

/// For an address that no pod has. If one could have it, the host's stack would send the packet back to the router that it came
/// from, and so on until its time is over.
#[inline(always)]
fn without_pod<F: Headers + Tables>(packet: &Packet<F>) -> Result<Verdict, DropReason> {
    let destination = packet.tuple.destination;
    if destination == F::node_address() || destination.stays_on_link() || F::route(destination) != RouteClass::POOL {
        return Ok(Verdict::PASS);
    }
    Err(DropReason::NoSuchPod)
}

/// What comes from another machine, and for a pod, does not have an address of this node as its source, and none that no machine
/// has: who let it in would take a forged packet for a neighbour's. The host's own packets are left to its stack.
#[inline(always)]
fn check_source<F: Headers + Tables>(packet: &Packet<F>) -> Result<(), DropReason> {
    let source = packet.tuple.source;
    let is_of_link = source.is_link_source() && !source.is_prober_on_link();
    if source.is_martian() || is_of_link || source == F::node_address() || F::endpoint(source).is_some() {
        return Err(DropReason::MartianSource);
    }
    Ok(())
}

/// The same for the node's further addresses, its services, and what is left of its pool.
#[inline(always)]
fn check_class_of_source<F: Headers + Tables>(packet: &Packet<F>) -> Result<(), DropReason> {
    match F::route(packet.tuple.source) {
        RouteClass::HOST | RouteClass::POOL | RouteClass::POOL_BY_HOST => Err(DropReason::MartianSource),
        _ => Ok(()),
    }
}

/// For the node's primary address: the host's, or for a port that a pod's flow holds.
#[inline(always)]
fn for_node<F: Rewrite + Tables>(
    ctx: &TcContext,
    packet: &mut Packet<F>,
    scratch: ScratchRef<'_, F>,
) -> Result<Verdict, DropReason> {
    if packet.is_fragment() {
        fragments::find_ports(packet);
    }
    match packet.kind {
        Kind::Flow => match holder_of::<F>(&NatKey::for_incoming(&packet.tuple)) {
            None => Ok(Verdict::PASS),
            Some(holder) if holder.address == F::node_address() => for_host(packet, scratch),
            Some(holder) => {
                check_source(packet)?;
                reply(ctx, packet, holder.address, holder.port, scratch)
            }
        },
        Kind::StrayFragment if verdict::may_wait(ctx) && fragments::may_wait(packet) => {
            Ok(Verdict::wait(packet.ifindex))
        }
        _ => Ok(Verdict::PASS),
    }
}

/// The host holds the port: note that its flow is alive. A full table is no reason to cut the host off.
#[inline(always)]
fn for_host<F: Rewrite + Tables>(
    packet: &mut Packet<F>,
    mut scratch: ScratchRef<'_, F>,
) -> Result<Verdict, DropReason> {
    if let Tracking::Known(known) = conntrack::track(packet, Origin::OUTSIDE, scratch.lend())
        && known.becomes_assured
    {
        let _ = nat::promote::<F>(&packet.tuple, packet.tuple.destination_port, true, known.now_ns, scratch);
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
    mut scratch: ScratchRef<'_, F>,
) -> Result<Verdict, DropReason> {
    let node_port = packet.tuple.destination_port;
    packet::replace(ctx, packet, End::Destination, &Replacement::new(address, port))?;
    let Some(pod) = F::endpoint(address) else { return Err(DropReason::EndpointGone) };
    let path = match conntrack::track(packet, Origin::OUTSIDE, scratch.lend()) {
        Tracking::Known(known) => {
            if let Some(reason) = known.refusal {
                return Err(events::refused_reply::<F>(&mut packet.tuple, reason));
            }
            if known.becomes_assured && !nat::promote::<F>(&packet.tuple, node_port, false, known.now_ns, scratch) {
                conntrack::demote::<F>(&packet.tuple);
                return Err(events::refused_reply::<F>(&mut packet.tuple, DropReason::NatTableFull));
            }
            known.path
        }
        // The flow's entry was lost and its translation was not: the pod opened it, by which way is unknown.
        Tracking::New(new) => new.reopen_for_receiver::<F>(packet, Path::STACK, node_port)?,
    };
    // The stack reverses what it did to the flow on its way out, and answers what a router cannot forward.
    if path == Path::STACK || packet.hop_limit <= 1 {
        return Ok(Verdict::PASS);
    }
    to_pod(ctx, packet, pod)
}

/// For a pod's own address.
#[inline(always)]
fn inbound<F: Rewrite + Tables>(
    ctx: &TcContext,
    packet: &mut Packet<F>,
    pod: EndpointEntry,
    mut scratch: ScratchRef<'_, F>,
) -> Result<Verdict, DropReason> {
    let path = match conntrack::track(packet, Origin::OUTSIDE, scratch.lend()) {
        Tracking::Known(known) => {
            if let Some(reason) = known.refusal
                && known.path != Path::STACK
            {
                return Err(events::refused::<F>(&packet.tuple, reason));
            }
            // The peer knows the pod's address too: it is a reply all the same.
            if known.becomes_assured && known.nat == Nat::TRANSLATED {
                let _ = nat::promote::<F>(&packet.tuple, known.nat_port, false, known.now_ns, scratch);
            }
            // Pods may have flows to the node's own addresses, all through the stack.
            if known.path == Path::STACK {
                check_class_of_source(packet)?;
            }
            known.path
        }
        Tracking::New(new) => {
            check_class_of_source(packet)?;
            if packet.event().opens() && may_open_from_outside(packet) {
                new.open::<F>(packet, Path::WIRE, Nat::KEEP)?
            } else {
                // It may be of a connection that began before this node knew of any, or forged: the pod's stack knows.
                Path::WIRE
            }
        }
    };
    if path == Path::STACK || packet.hop_limit <= 1 {
        return Ok(Verdict::PASS);
    }
    to_pod(ctx, packet, pod)
}
