//! What leaves the NIC: TC egress of the uplink.
//!
//! Pod packets that went up the host's stack get their source NAT here, after whatever the stack did to their
//! destination. Flows of the host inside the NAT range, or without ports, are noted, so that no pod is given the same.

use aya_ebpf::{macros::classifier, programs::TcContext};
use azure_cni_common::conntrack::{Event, Origin};
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::egress::{self, SnatPolicy};
use azure_cni_common::family::{Be16, V4, V6};
use azure_cni_common::flow::{Nat, Path};

use crate::conntrack::{self, Tracking};
use crate::endpoint;
use crate::icmp::{self, IcmpSender};
use crate::maps::Tables;
use crate::packet::{self, Headers, Kind, Packet};
use crate::rewrite::{self, End, Replacement, Rewrite};
use crate::verdict::{Verdict, finish};
use crate::{events, fragments, nat};

#[classifier]
fn to_wire(ctx: TcContext) -> i32 {
    if packet::take_handled_mark(&ctx) {
        return finish::<V4>(&ctx, Ok(Verdict::PASS));
    }
    if packet::is_of::<V6>(&ctx) { of_family::<V6>(&ctx) } else { of_family::<V4>(&ctx) }
}

#[inline(always)]
fn of_family<F: Rewrite + Tables>(ctx: &TcContext) -> i32 {
    if packet::is_icmp_error::<F>(ctx) { run_message::<F>(ctx) } else { run::<F>(ctx) }
}

/// A function of its own for each family and for messages, with a stack of its own.
#[inline(never)]
fn run<F: Rewrite + Tables>(ctx: &TcContext) -> i32 {
    finish::<F>(ctx, steps::<F>(ctx))
}

#[inline(always)]
fn steps<F: Rewrite + Tables>(ctx: &TcContext) -> Result<Verdict, DropReason> {
    let Some(packet) = F::packet() else { return Ok(Verdict::PASS) };
    if packet.parse(ctx).is_err() {
        return Ok(Verdict::PASS);
    }
    if packet.tuple.source == F::node_address() {
        return if matches!(packet.kind, Kind::Flow) { host_flow(packet) } else { Ok(Verdict::PASS) };
    }
    let Some(endpoint) = F::endpoint(packet.tuple.source) else { return Ok(Verdict::PASS) };
    let snat = endpoint::snat_policy::<F>(&endpoint);
    fragments::follow(packet);
    // Once more: the stack may have led the packet here from a service's address.
    F::check_platform(&packet.tuple)?;
    match packet.kind {
        Kind::Flow => pod_flow(ctx, packet, snat, packet.event()),
        Kind::StrayFragment => untranslatable(packet, snat, DropReason::FragmentNotTranslated),
        Kind::IcmpError | Kind::Opaque => untranslatable(packet, snat, DropReason::IcmpNotTranslated),
        Kind::Malformed | Kind::LinkBroadcast => Ok(Verdict::PASS),
    }
}

#[inline(always)]
fn pod_flow<F: Rewrite + Tables>(
    ctx: &TcContext,
    packet: &mut Packet<F>,
    snat: SnatPolicy,
    event: Event,
) -> Result<Verdict, DropReason> {
    let tracking = conntrack::track(packet, event);
    let is_decided = match &tracking {
        Tracking::Known(known) if !known.is_initiator => return Ok(Verdict::PASS),
        Tracking::Known(known) => known.flow.nat != Nat::UNDECIDED,
        Tracking::New(_) => false,
    };
    let port = match &tracking {
        Tracking::Known(known) if known.flow.nat == Nat::TRANSLATED => {
            nat::port_of::<F>(known, &packet.tuple).map_err(|reason| events::refused::<F>(&packet.tuple, reason))?
        }
        _ if is_decided => return Ok(Verdict::PASS),
        Tracking::New(new) if !event.opens() && decide(packet, snat, Event::Datagram) == Nat::TRANSLATED => {
            // In mid-stream of a flow that is unknown, or was forgotten.
            let Some(port) = nat::find_held_port::<F>(&packet.tuple) else { return Ok(Verdict::PASS) };
            new.open_translated::<F>(&packet.tuple, Path::STACK, port)?;
            port
        }
        _ if decide(packet, snat, event) != Nat::TRANSLATED => return keep_source(packet, &tracking, event),
        _ => {
            let now_ns = conntrack::now_ns();
            nat::claim::<F>(&packet.tuple, now_ns)
                .and_then(|port| {
                    match &tracking {
                        Tracking::Known(_) => conntrack::set_nat::<F>(&packet.tuple, Nat::TRANSLATED, port),
                        Tracking::New(new) => nat::open::<F>(new, &packet.tuple, Path::STACK, port)?,
                    }
                    Ok(port)
                })
                .map_err(|reason| events::refused::<F>(&packet.tuple, reason))?
        }
    };
    rewrite::replace(ctx, packet, End::Source, &Replacement::new(F::node_address(), port))?;
    Ok(Verdict::PASS)
}

/// Remembers that the flow leaves with the pod's address. What does not open a flow may belong to one that is unknown.
#[inline(always)]
fn keep_source<F: Headers + Tables>(
    packet: &Packet<F>,
    tracking: &Tracking,
    event: Event,
) -> Result<Verdict, DropReason> {
    match tracking {
        Tracking::Known(_) => conntrack::set_nat::<F>(&packet.tuple, Nat::KEEP, Be16(0)),
        Tracking::New(new) if event.opens() => {
            new.open::<F>(&packet.tuple, Origin::NODE, Path::STACK, Nat::KEEP)?;
        }
        Tracking::New(_) => {}
    }
    Ok(Verdict::PASS)
}

#[inline(always)]
fn decide<F: Headers + Tables>(packet: &Packet<F>, snat: SnatPolicy, event: Event) -> Nat {
    egress::at_the_wire(F::route(packet.tuple.destination), snat, event)
}

/// A packet without ports leaves with the pod's address or not at all.
#[inline(always)]
fn untranslatable<F: Headers + Tables>(
    packet: &Packet<F>,
    snat: SnatPolicy,
    reason: DropReason,
) -> Result<Verdict, DropReason> {
    match decide(packet, snat, Event::Datagram) {
        Nat::TRANSLATED => Err(reason),
        _ => Ok(Verdict::PASS),
    }
}

#[inline(always)]
fn host_flow<F: Headers + Tables>(packet: &Packet<F>) -> Result<Verdict, DropReason> {
    if !nat::can_be_held(packet.tuple.source_port) {
        return Ok(Verdict::PASS);
    }
    let event = packet.event();
    match conntrack::track(packet, event) {
        Tracking::New(new) if event.opens() => match nat::reserve_for_host::<F>(&packet.tuple, new.now_ns) {
            Ok(()) => {
                let _ = new.open::<F>(&packet.tuple, Origin::NODE, Path::HOST, Nat::KEEP);
                Ok(Verdict::PASS)
            }
            Err(DropReason::HostPortTaken) => Err(DropReason::HostPortTaken),
            // A full table is no reason to cut the host off.
            Err(_) => Ok(Verdict::PASS),
        },
        _ => Ok(Verdict::PASS),
    }
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
    // The host may speak of an answer on its way to a pod: that its time is over, that it is too long.
    if packet.tuple.source == F::node_address() {
        return icmp::apply_snat(ctx, packet, IcmpSender::Host).map(|_| Verdict::PASS);
    }
    let Some(endpoint) = F::endpoint(packet.tuple.source) else { return Ok(Verdict::PASS) };
    match icmp::apply_snat(ctx, packet, IcmpSender::PodThroughStack)? {
        Path::UNKNOWN => untranslatable(packet, endpoint::snat_policy::<F>(&endpoint), DropReason::IcmpNotTranslated),
        _ => Ok(Verdict::PASS),
    }
}
