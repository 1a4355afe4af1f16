//! What leaves the NIC: TC egress of the uplink.
//!
//! Pod packets that went up the host's stack get their source NAT here, after whatever the stack did to their
//! destination. Flows of the host inside the NAT range are noted, so that no pod is given the same port.

use aya_ebpf::{macros::classifier, programs::TcContext};
use azure_cni_common::conntrack::Event;
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::family::V4;
use azure_cni_common::flow::{Nat, Path};
use azure_cni_common::next_hop;

use crate::conntrack::{self, Known, Tracking};
use crate::endpoint;
use crate::maps::Tables;
use crate::nat;
use crate::packet::{self, Headers, Kind, Packet};
use crate::rewrite::{self, End, Rewrite};
use crate::verdict::{Verdict, finish};

#[classifier]
fn to_wire(ctx: TcContext) -> i32 {
    if packet::take_handled_mark(&ctx) {
        return finish(&ctx, Ok(Verdict::Pass));
    }
    finish(&ctx, steps::<V4>(&ctx))
}

#[inline(always)]
fn steps<F: Rewrite + Tables>(ctx: &TcContext) -> Result<Verdict, DropReason> {
    let Ok(mut packet) = Packet::<F>::parse(ctx) else { return Ok(Verdict::Pass) };
    if packet.tuple.source == F::node_address() {
        return host_flow(&packet);
    }
    if endpoint::find::<F>(packet.tuple.source).is_none() {
        return Ok(Verdict::Pass);
    }
    match packet.kind {
        Kind::Flow(event) => pod_flow(ctx, &mut packet, event),
        Kind::Fragment => untranslatable(&packet, DropReason::FragmentNotTranslated),
        Kind::IcmpMessage => untranslatable(&packet, DropReason::IcmpNotTranslated),
    }
}

#[inline(always)]
fn pod_flow<F: Rewrite + Tables>(ctx: &TcContext, packet: &mut Packet<F>, event: Event) -> Result<Verdict, DropReason> {
    let port = match conntrack::track(packet, event) {
        Tracking::Known(Known { is_opener: false, .. }) => None,
        Tracking::Known(known) => match known.flow.nat {
            Nat::TRANSLATED => Some(known.flow.nat_port),
            Nat::UNDECIDED => match decide(packet, event) {
                Nat::TRANSLATED => Some(nat::decide(&known, packet)?),
                nat => {
                    known.set_nat(nat);
                    None
                }
            },
            _ => None,
        },
        Tracking::New(new) => match decide(packet, event) {
            Nat::TRANSLATED => Some(nat::open(&new, Path::STACK)?),
            nat => {
                new.open(Path::STACK, nat)?;
                None
            }
        },
    };
    if let Some(port) = port {
        rewrite::replace(ctx, packet, End::Source, F::node_address(), port)?;
    }
    Ok(Verdict::Pass)
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
        _ => Ok(Verdict::Pass),
    }
}

#[inline(always)]
fn host_flow<F: Headers + Tables>(packet: &Packet<F>) -> Result<Verdict, DropReason> {
    let Kind::Flow(event) = packet.kind else { return Ok(Verdict::Pass) };
    if !nat::in_range(packet.tuple.source_port) {
        return Ok(Verdict::Pass);
    }
    match conntrack::track(packet, event) {
        Tracking::New(new) if event.opens() => match nat::reserve_for_host(&new) {
            Err(DropReason::HostPortTaken) => Err(DropReason::HostPortTaken),
            // A full table is no reason to cut the host off.
            _ => Ok(Verdict::Pass),
        },
        _ => Ok(Verdict::Pass),
    }
}
