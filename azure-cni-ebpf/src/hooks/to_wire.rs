//! What leaves the NIC: TC egress of the uplink.
//!
//! Pod packets that went up the host's stack get their source NAT here, after whatever the stack did to their
//! destination. Flows of the host inside the NAT range, or without ports, are noted, so that no pod is given the same.

use aya_ebpf::{macros::classifier, programs::TcContext};
use azure_cni_common::conntrack::Event;
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::family::{V4, V6};
use azure_cni_common::flow::{Nat, Origin, Path};
use azure_cni_common::next_hop::{self, Translation};

use crate::conntrack::{self, Tracking};
use crate::endpoint;
use crate::icmp::{self, Speaker};
use crate::maps::Tables;
use crate::packet::{self, Headers, Kind, Packet};
use crate::rewrite::{self, End, Rewrite};
use crate::verdict::{Verdict, finish};
use crate::{events, fragments, nat};

#[classifier]
fn to_wire(ctx: TcContext) -> i32 {
    if packet::take_handled_mark(&ctx) {
        return finish(&ctx, Ok(Verdict::PASS));
    }
    let result = if packet::is_of::<V6>(&ctx) { steps::<V6>(&ctx) } else { steps::<V4>(&ctx) };
    finish(&ctx, result)
}

#[inline(always)]
fn steps<F: Rewrite + Tables>(ctx: &TcContext) -> Result<Verdict, DropReason> {
    let Ok(mut packet) = Packet::<F>::parse(ctx) else { return Ok(Verdict::PASS) };
    if packet.tuple.source == F::node_address() {
        return from_host(ctx, &mut packet);
    }
    let Some(endpoint) = F::endpoint(packet.tuple.source) else { return Ok(Verdict::PASS) };
    let translation = endpoint::translation::<F>(endpoint);
    fragments::follow(&mut packet);
    // Once more: the stack may have led the packet here from a service's address.
    F::check_platform(&packet.tuple)?;
    match packet.kind {
        Kind::Flow(event) => pod_flow(ctx, &mut packet, translation, event),
        Kind::IcmpError => match icmp::translate(ctx, &mut packet, Speaker::PodThroughStack)? {
            Path::UNKNOWN => untranslatable(&packet, translation, DropReason::IcmpNotTranslated),
            _ => Ok(Verdict::PASS),
        },
        Kind::StrayFragment => untranslatable(&packet, translation, DropReason::FragmentNotTranslated),
        Kind::Opaque => untranslatable(&packet, translation, DropReason::IcmpNotTranslated),
        Kind::LinkBroadcast => Ok(Verdict::PASS),
    }
}

#[inline(always)]
fn pod_flow<F: Rewrite + Tables>(
    ctx: &TcContext,
    packet: &mut Packet<F>,
    translation: Translation,
    event: Event,
) -> Result<Verdict, DropReason> {
    let tracking = conntrack::track(packet, event);
    let is_decided = match &tracking {
        Tracking::Known(known) if !known.is_opener => return Ok(Verdict::PASS),
        Tracking::Known(known) => known.flow.nat != Nat::UNDECIDED,
        Tracking::New(_) => false,
    };
    let port = match &tracking {
        Tracking::Known(known) if known.flow.nat == Nat::TRANSLATED => nat::port_of(known, &packet.tuple)?,
        _ if is_decided => return Ok(Verdict::PASS),
        _ if decide(packet, translation, event) != Nat::TRANSLATED => return keep_source(&tracking, event),
        _ => {
            let now_ns = conntrack::now_ns();
            let port = nat::claim::<F>(&packet.tuple, now_ns)
                .and_then(|port| {
                    match &tracking {
                        Tracking::Known(known) => known.set_translation(port),
                        Tracking::New(new) => nat::open(new, Path::STACK, port)?,
                    }
                    Ok(port)
                })
                .map_err(|reason| events::refused::<F>(&packet.tuple, reason))?;
            port
        }
    };
    rewrite::replace(ctx, packet, End::Source, F::node_address(), port)?;
    Ok(Verdict::PASS)
}

/// Remembers that the flow leaves with the pod's address. What does not open a flow may belong to one that is unknown.
#[inline(always)]
fn keep_source<F: Tables>(tracking: &Tracking<F>, event: Event) -> Result<Verdict, DropReason> {
    match tracking {
        Tracking::Known(known) => known.set_nat(Nat::KEEP),
        Tracking::New(new) if event.opens() => {
            new.open(Origin::NODE, Path::STACK, Nat::KEEP)?;
        }
        Tracking::New(_) => {}
    }
    Ok(Verdict::PASS)
}

#[inline(always)]
fn decide<F: Headers + Tables>(packet: &Packet<F>, translation: Translation, event: Event) -> Nat {
    next_hop::at_the_wire(F::route(packet.tuple.destination), translation, event)
}

/// A packet without ports leaves with the pod's address or not at all.
#[inline(always)]
fn untranslatable<F: Headers + Tables>(
    packet: &Packet<F>,
    translation: Translation,
    reason: DropReason,
) -> Result<Verdict, DropReason> {
    match decide(packet, translation, Event::Datagram) {
        Nat::TRANSLATED => Err(reason),
        _ => Ok(Verdict::PASS),
    }
}

#[inline(always)]
fn from_host<F: Rewrite + Tables>(ctx: &TcContext, packet: &mut Packet<F>) -> Result<Verdict, DropReason> {
    match packet.kind {
        Kind::Flow(event) if nat::can_be_held(packet.tuple.source_port) => host_flow(packet, event),
        // The host may speak of an answer on its way to a pod: that its time is over, that it is too long.
        Kind::IcmpError => icmp::translate(ctx, packet, Speaker::Host).map(|_| Verdict::PASS),
        _ => Ok(Verdict::PASS),
    }
}

#[inline(always)]
fn host_flow<F: Headers + Tables>(packet: &Packet<F>, event: Event) -> Result<Verdict, DropReason> {
    match conntrack::track(packet, event) {
        Tracking::New(new) if event.opens() => match nat::reserve_for_host(&new) {
            Err(DropReason::HostPortTaken) => Err(DropReason::HostPortTaken),
            // A full table is no reason to cut the host off.
            _ => Ok(Verdict::PASS),
        },
        _ => Ok(Verdict::PASS),
    }
}
