//! What leaves the NIC: TC egress of the uplink.
//!
//! Pod packets that went up the host's stack get their source NAT here, after whatever the stack did to their
//! destination. Flows of the host inside the NAT range, or without ports, are noted, so that no pod is given the same.

use aya_ebpf::{macros::classifier, programs::TcContext};
use azure_cni_common::conntrack::Event;
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::family::V4;
use azure_cni_common::flow::{Nat, Path};
use azure_cni_common::next_hop;

use crate::conntrack::{self, Tracking};
use crate::endpoint;
use crate::maps::Tables;
use crate::nat;
use crate::packet::{self, Headers, Kind, Packet};
use crate::rewrite::{self, End, Rewrite};
use crate::verdict::{Verdict, finish};

#[classifier]
fn to_wire(ctx: TcContext) -> i32 {
    if packet::take_handled_mark(&ctx) {
        return finish(&ctx, Ok(Verdict::PASS));
    }
    finish(&ctx, steps::<V4>(&ctx))
}

#[inline(always)]
fn steps<F: Rewrite + Tables>(ctx: &TcContext) -> Result<Verdict, DropReason> {
    let Ok(mut packet) = Packet::<F>::parse(ctx) else { return Ok(Verdict::PASS) };
    if packet.tuple.source == F::node_address() {
        return host_flow(&packet);
    }
    if endpoint::find::<F>(packet.tuple.source).is_none() {
        return Ok(Verdict::PASS);
    }
    // Once more: the stack may have led the packet here from a service's address.
    F::check_platform(&packet.tuple)?;
    match packet.kind {
        Kind::Flow(event) => pod_flow(ctx, &mut packet, event),
        Kind::Fragment => untranslatable(&packet, DropReason::FragmentNotTranslated),
        Kind::IcmpMessage => untranslatable(&packet, DropReason::IcmpNotTranslated),
        Kind::LinkBroadcast => Ok(Verdict::PASS),
    }
}

#[inline(always)]
fn pod_flow<F: Rewrite + Tables>(ctx: &TcContext, packet: &mut Packet<F>, event: Event) -> Result<Verdict, DropReason> {
    let tracking = conntrack::track(packet, event);
    let decided = match &tracking {
        Tracking::Known(known) if !known.is_opener => return Ok(Verdict::PASS),
        Tracking::Known(known) => known.flow.nat,
        Tracking::New(_) => Nat::UNDECIDED,
    };
    let port = match (decided, &tracking) {
        (Nat::TRANSLATED, Tracking::Known(known)) => known.flow.nat_port,
        (Nat::UNDECIDED, _) if decide(packet, event) == Nat::TRANSLATED => {
            let port = nat::claim::<F>(&packet.tuple, conntrack::now_ns())?;
            match &tracking {
                Tracking::Known(known) => known.set_translation(port),
                Tracking::New(new) => nat::open(new, Path::STACK, port)?,
            }
            port
        }
        _ => return keep_source(&tracking),
    };
    rewrite::replace(ctx, packet, End::Source, F::node_address(), port)?;
    Ok(Verdict::PASS)
}

/// Remembers that the flow leaves with the pod's address.
#[inline(always)]
fn keep_source<F: Tables>(tracking: &Tracking<F>) -> Result<Verdict, DropReason> {
    match tracking {
        Tracking::Known(known) if known.flow.nat == Nat::UNDECIDED => known.set_nat(Nat::KEEP),
        Tracking::Known(_) => {}
        Tracking::New(new) => {
            new.open(Path::STACK, Nat::KEEP)?;
        }
    }
    Ok(Verdict::PASS)
}

#[inline(always)]
fn decide<F: Headers + Tables>(packet: &Packet<F>, event: Event) -> Nat {
    next_hop::at_the_wire(F::route(packet.tuple.destination), event)
}

/// A packet without ports leaves with the pod's address or not at all.
#[inline(always)]
fn untranslatable<F: Headers + Tables>(packet: &Packet<F>, reason: DropReason) -> Result<Verdict, DropReason> {
    match decide(packet, Event::Datagram) {
        Nat::TRANSLATED => Err(reason),
        _ => Ok(Verdict::PASS),
    }
}

#[inline(always)]
fn host_flow<F: Headers + Tables>(packet: &Packet<F>) -> Result<Verdict, DropReason> {
    let Kind::Flow(event) = packet.kind else { return Ok(Verdict::PASS) };
    if !nat::can_be_held(packet.tuple.source_port) {
        return Ok(Verdict::PASS);
    }
    match conntrack::track(packet, event) {
        Tracking::New(new) if event.opens() => match nat::reserve_for_host(&new) {
            Err(DropReason::HostPortTaken) => Err(DropReason::HostPortTaken),
            // A full table is no reason to cut the host off.
            _ => Ok(Verdict::PASS),
        },
        _ => Ok(Verdict::PASS),
    }
}
