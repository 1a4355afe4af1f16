//! One program per file; each composes its steps in the order in which a packet meets them.
//!
//! Here is what all hooks have in common: the way of a packet is chosen by its family and by whether it is an ICMP error, and
//! each way is a function with a stack of its own, which stacks of the others do not add to.

mod from_endpoint;
mod from_wire;
mod to_endpoint;
mod to_wire;

use aya_ebpf::programs::TcContext;
use azure_cni_common::conntrack as conntrack_rules;
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::endpoint::{EndpointEntry, EndpointFlags};
use azure_cni_common::family::{Be16, V4, V6};
use azure_cni_common::flow::{Path, Tuple};

use crate::bandwidth::{self, Direction};
use crate::conntrack::{self, KnownFlow, NewFlow};
use crate::globals;
use crate::nat;
use crate::packet::{self, Headers, Packet, Rewrite};
use crate::scratch::{self, ScratchRef};
use crate::tables::Tables;
use crate::verdict::{self, Verdict, finish};

/// What a program does with its packets.
trait Hook {
    /// Whether ICMP errors go a way of their own.
    const SEES_ICMP_ERRORS: bool = true;
    /// Whether fragments are put back into the queue that they came from.
    const PUTS_BACK: bool = false;

    fn steps<F: Rewrite + Tables>(
        ctx: &TcContext,
        packet: &mut Packet<F>,
        scratch: ScratchRef<'_, F>,
    ) -> Result<Verdict, DropReason>;

    /// For an ICMP error right behind the IP header.
    fn icmp_error_steps<F: Rewrite + Tables>(
        _: &TcContext,
        _: &mut Packet<F>,
        _: ScratchRef<'_, F>,
    ) -> Result<Verdict, DropReason> {
        Ok(Verdict::PASS)
    }

    /// A packet of IPv6, which no pod has: it is not ours.
    #[inline(always)]
    fn steps_without_ipv6(_: &TcContext, _: &mut Packet<V6>) -> Result<Verdict, DropReason> {
        Ok(Verdict::PASS)
    }
}

#[inline(always)]
fn run<H: Hook>(ctx: &TcContext) -> i32 {
    match packet::is_of::<V6>(ctx) {
        true if globals::has_ipv6() => run_family::<H, V6>(ctx),
        true => run_without_ipv6::<H>(ctx),
        false => run_family::<H, V4>(ctx),
    }
}

/// Inlined: as a function of its own it would be dead code where there is IPv6, which the verifier takes out.
#[inline(always)]
fn run_without_ipv6<H: Hook>(ctx: &TcContext) -> i32 {
    // SAFETY: as in `run_packet`.
    let result = match unsafe { scratch::begin::<V6>() } {
        Some((packet, _)) => H::steps_without_ipv6(ctx, packet),
        None => Ok(Verdict::PASS),
    };
    finish::<V4>(ctx, result)
}

#[inline(always)]
fn run_family<H: Hook, F: Rewrite + Tables>(ctx: &TcContext) -> i32 {
    if H::SEES_ICMP_ERRORS && packet::is_icmp_error::<F>(ctx) {
        run_icmp_error::<H, F>(ctx)
    } else {
        run_packet::<H, F>(ctx)
    }
}

#[inline(never)]
fn run_packet<H: Hook, F: Rewrite + Tables>(ctx: &TcContext) -> i32 {
    // SAFETY: once a run, here or in `run_icmp_error`.
    let result = match unsafe { scratch::begin::<F>() } {
        Some((packet, scratch)) => H::steps(ctx, packet, scratch),
        None => Ok(Verdict::PASS),
    };
    if H::PUTS_BACK && !matches!(result, Ok(verdict) if verdict.is_wait()) {
        verdict::end_wait(ctx);
    }
    finish::<F>(ctx, result)
}

#[inline(never)]
fn run_icmp_error<H: Hook, F: Rewrite + Tables>(ctx: &TcContext) -> i32 {
    // SAFETY: as in `run_packet`.
    let result = match unsafe { scratch::begin::<F>() } {
        Some((message, scratch)) => H::icmp_error_steps(ctx, message, scratch),
        None => Ok(Verdict::PASS),
    };
    finish::<F>(ctx, result)
}

/// Whether a packet from outside may open a flow, given that its event opens one.
#[inline(always)]
fn may_open_from_outside<F: Headers + Tables>(packet: &Packet<F>) -> bool {
    let Tuple { source_port, destination_port, protocol, .. } = packet.tuple;
    conntrack_rules::may_open_from_outside(protocol, source_port, destination_port)
}

/// Remembers a new flow that leaves with the node's address. The port is claimed first: what finds the flow finds its port.
#[inline(always)]
fn open_translated<F: Headers + Tables>(
    new: &NewFlow,
    packet: &mut Packet<F>,
    path: Path,
    scratch: ScratchRef<'_, F>,
) -> Result<Be16, DropReason> {
    let port = nat::claim::<F>(&packet.tuple, new.now_ns, scratch)?;
    let opened = new.open_translated::<F>(packet, path, port);
    if opened.is_err() {
        nat::release::<F>(&packet.tuple, port);
    }
    opened.map(|_| port)
}

/// The port of a translated flow whose initiator goes on.
#[inline(always)]
fn port_of<F: Tables>(
    known: &KnownFlow,
    tuple: &Tuple<F::Address>,
    mut scratch: ScratchRef<'_, F>,
) -> Result<Be16, DropReason> {
    let port = nat::port_of::<F>(tuple, known.nat_port, known.was_assured, known.now_ns, scratch.lend())?;
    if known.becomes_assured {
        promote_outgoing::<F>(known, tuple, port, scratch);
    }
    Ok(port)
}

/// The initiator has assured the flow, which none but datagrams are. Where there is no room, they go on as before.
#[inline(always)]
fn promote_outgoing<F: Tables>(known: &KnownFlow, tuple: &Tuple<F::Address>, port: Be16, scratch: ScratchRef<'_, F>) {
    if !nat::promote_outgoing::<F>(tuple, port, known.now_ns, scratch) {
        conntrack::demote::<F>(tuple);
    }
}

/// Straight into the pod's namespace.
#[inline(always)]
fn to_pod<F: Rewrite>(ctx: &TcContext, packet: &mut Packet<F>, pod: EndpointEntry) -> Result<Verdict, DropReason> {
    if pod.flags.has(EndpointFlags::LIMITED) {
        bandwidth::charge(ctx, packet, pod.ifindex, Direction::Ingress)?;
    }
    packet::deliver(ctx, packet, &pod)?;
    Ok(Verdict::to_pod(pod.ifindex))
}
