//! What leaves the NIC: TC egress of the uplink.
//!
//! Pod packets that went up the host's stack get their source NAT here, after whatever the stack did to their
//! destination. Flows of the host inside the NAT range, or without ports, are noted, so that no pod is given the same.

use aya_ebpf::{macros::classifier, programs::TcContext};
use azure_cni_common::conntrack::{Event, Origin};
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::egress::{self, RouteClass, SnatPolicy};
use azure_cni_common::family::{Be16, V4};
use azure_cni_common::flow::{Nat, Path};

use super::{Hook, open_translated, port_of, promote_outgoing, run};
use crate::conntrack::{self, KnownFlow, NewFlow, Tracking};
use crate::globals;
use crate::icmp::{self, IcmpSender};
use crate::packet::{self, End, Headers, Kind, Packet, Replacement, Rewrite};
use crate::scratch::ScratchRef;
use crate::tables::{Tables, can_be_held, set_nat};
use crate::verdict::{self, Verdict};
use crate::{events, fragments, nat};

#[classifier]
fn to_wire(ctx: TcContext) -> i32 {
    if verdict::take_handled_mark(&ctx) {
        return verdict::finish::<V4>(&ctx, Ok(Verdict::PASS));
    }
    run::<ToWire>(&ctx)
}

struct ToWire;

impl Hook for ToWire {
    #[inline(always)]
    fn steps<F: Rewrite + Tables>(
        ctx: &TcContext,
        packet: &mut Packet<F>,
        mut scratch: ScratchRef<'_, F>,
    ) -> Result<Verdict, DropReason> {
        if packet.parse(ctx).is_err() {
            return Ok(Verdict::PASS);
        }
        let Some(sender) = sender_of(ctx, packet)? else { return Ok(Verdict::PASS) };
        if matches!(packet.kind, Kind::Flow) {
            return match (conntrack::track(packet, Origin::NODE, scratch.lend()), sender) {
                (Tracking::Known(known), Sender::Pod(snat)) => known_flow(ctx, packet, snat, &known, scratch),
                (Tracking::New(new), Sender::Pod(snat)) => new_flow(ctx, packet, snat, &new, scratch),
                (Tracking::Known(known), Sender::Host) => known_flow_of_host(packet, &known, scratch),
                (Tracking::New(new), Sender::Host) => new_flow_of_host(packet, &new, scratch),
            };
        }
        let Sender::Pod(snat) = sender else { return Ok(Verdict::PASS) };
        match packet.kind {
            Kind::StrayFragment => untranslatable(packet, snat, DropReason::FragmentNotTranslated),
            Kind::IcmpError | Kind::Opaque => untranslatable(packet, snat, DropReason::IcmpNotTranslated),
            Kind::Flow | Kind::Malformed | Kind::LinkBroadcast => Ok(Verdict::PASS),
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
        // The host may send one about a reply on its way to a pod: that its time is over, that it is too long.
        if message.tuple.source == F::node_address() {
            return icmp::apply_snat(ctx, message, IcmpSender::Host, scratch).map(|_| Verdict::PASS);
        }
        let Some(pod) = F::endpoint(message.tuple.source) else {
            return check_returned(ctx, message).map(|()| Verdict::PASS);
        };
        match icmp::apply_snat(ctx, message, IcmpSender::PodThroughStack, scratch)? {
            Path::UNKNOWN => {
                untranslatable(message, SnatPolicy::of(&pod, F::is_translated()), DropReason::IcmpNotTranslated)
            }
            _ => Ok(Verdict::PASS),
        }
    }
}

/// Whose packet it is.
#[derive(Clone, Copy)]
enum Sender {
    /// A flow of a port that a pod's flow could hold, or without ports.
    Host,
    Pod(SnatPolicy),
}

/// `None`: nobody's that we look after. Fails for what neither may reach.
#[inline(always)]
fn sender_of<F: Headers + Tables>(ctx: &TcContext, packet: &mut Packet<F>) -> Result<Option<Sender>, DropReason> {
    if packet.tuple.source == F::node_address() {
        check_masqueraded(ctx, packet)?;
        let is_noted = matches!(packet.kind, Kind::Flow) && can_be_held(packet.tuple.source_port);
        return Ok(if is_noted { Some(Sender::Host) } else { None });
    }
    let Some(pod) = F::endpoint(packet.tuple.source) else { return check_returned(ctx, packet).map(|()| None) };
    if packet.is_fragment() {
        fragments::find_ports(packet);
    }
    // Once more: the stack may have led the packet here from a service's address.
    F::check_platform(&packet.tuple)?;
    Ok(Some(Sender::Pod(SnatPolicy::of(&pod, F::is_translated()))))
}

/// Refuses what has come in here and was for a service with an address of the pool, whose rules have left it alone. The router would send
/// it back, again and again.
#[inline(always)]
fn check_returned<F: Tables>(ctx: &TcContext, packet: &Packet<F>) -> Result<(), DropReason> {
    if packet::came_by(ctx) != globals::UPLINK_IFINDEX.load() {
        return Ok(());
    }
    if F::route(packet.tuple.destination) == RouteClass::POOL_BY_HOST { Err(DropReason::NoSuchPod) } else { Ok(()) }
}

/// The host may reach what pods may not. What the stack forwards with the host's address, because a service led to the platform and
/// its rules ask for the node's source, is not the host's.
#[inline(always)]
fn check_masqueraded<F: Headers + Tables>(ctx: &TcContext, packet: &mut Packet<F>) -> Result<(), DropReason> {
    if packet::came_by(ctx) == 0 {
        return Ok(());
    }
    if packet.is_fragment() {
        fragments::find_ports(packet);
    }
    F::check_platform(&packet.tuple)
}

#[inline(always)]
fn known_flow<F: Rewrite + Tables>(
    ctx: &TcContext,
    packet: &mut Packet<F>,
    snat: SnatPolicy,
    known: &KnownFlow,
    scratch: ScratchRef<'_, F>,
) -> Result<Verdict, DropReason> {
    if !known.is_initiator {
        return Ok(Verdict::PASS);
    }
    let port = match known.nat {
        Nat::TRANSLATED => port_of::<F>(known, &packet.tuple, scratch),
        Nat::UNDECIDED if nat_of_new_flow(packet, snat, packet.event())? == Nat::TRANSLATED => {
            nat::claim::<F>(&packet.tuple, known.now_ns, scratch)
                .inspect(|port| set_nat::<F>(&packet.tuple, Nat::TRANSLATED, *port))
        }
        Nat::UNDECIDED => {
            set_nat::<F>(&packet.tuple, Nat::KEEP, Be16(0));
            return Ok(Verdict::PASS);
        }
        _ => return Ok(Verdict::PASS),
    };
    translate(ctx, packet, port.map_err(|reason| events::refused::<F>(&packet.tuple, reason))?)
}

#[inline(always)]
fn new_flow<F: Rewrite + Tables>(
    ctx: &TcContext,
    packet: &mut Packet<F>,
    snat: SnatPolicy,
    new: &NewFlow,
    scratch: ScratchRef<'_, F>,
) -> Result<Verdict, DropReason> {
    let nat = nat_of_new_flow(packet, snat, Event::DATAGRAM)?;
    let opens = packet.event().opens();
    if nat == Nat::TRANSLATED && opens {
        let port = open_translated::<F>(new, packet, Path::STACK, scratch)
            .map_err(|reason| events::refused::<F>(&packet.tuple, reason))?;
        return translate(ctx, packet, port);
    }
    if nat == Nat::TRANSLATED {
        // In mid-stream of a flow that is unknown, or was forgotten.
        let Some(port) = nat::find_held_port::<F>(&packet.tuple, scratch) else { return Ok(Verdict::PASS) };
        new.open_translated::<F>(packet, Path::STACK, port)?;
        return translate(ctx, packet, port);
    }
    // What does not open a flow may belong to one that is unknown.
    if opens {
        new.open::<F>(packet, Path::STACK, Nat::KEEP)?;
    }
    Ok(Verdict::PASS)
}

#[inline(always)]
fn translate<F: Rewrite + Tables>(ctx: &TcContext, packet: &mut Packet<F>, port: Be16) -> Result<Verdict, DropReason> {
    packet::replace(ctx, packet, End::Source, &Replacement::new(F::node_address(), port))?;
    Ok(Verdict::PASS)
}

/// Fails for an address of the pool, which no pod has: it was not delivered.
#[inline(always)]
fn nat_of_new_flow<F: Headers + Tables>(packet: &Packet<F>, snat: SnatPolicy, event: Event) -> Result<Nat, DropReason> {
    let class = F::route(packet.tuple.destination);
    if class.is_nobodys_at_the_wire() {
        return Err(DropReason::NoSuchPod);
    }
    Ok(egress::at_the_wire(class, snat, event))
}

/// A packet without ports leaves with the pod's address or not at all.
#[inline(always)]
fn untranslatable<F: Headers + Tables>(
    packet: &Packet<F>,
    snat: SnatPolicy,
    reason: DropReason,
) -> Result<Verdict, DropReason> {
    match nat_of_new_flow(packet, snat, Event::DATAGRAM)? {
        Nat::TRANSLATED => Err(reason),
        _ => Ok(Verdict::PASS),
    }
}

#[inline(always)]
fn known_flow_of_host<F: Headers + Tables>(
    packet: &Packet<F>,
    known: &KnownFlow,
    scratch: ScratchRef<'_, F>,
) -> Result<Verdict, DropReason> {
    if known.becomes_assured {
        promote_outgoing::<F>(known, &packet.tuple, packet.tuple.source_port, scratch);
    }
    Ok(Verdict::PASS)
}

#[inline(always)]
fn new_flow_of_host<F: Headers + Tables>(
    packet: &mut Packet<F>,
    new: &NewFlow,
    scratch: ScratchRef<'_, F>,
) -> Result<Verdict, DropReason> {
    // Where no pod is translated, no pod takes the port.
    let any_pod = SnatPolicy { is_on: F::is_translated(), pod_keeps_source: false };
    let class = F::route(packet.tuple.destination);
    if !packet.event().opens() || egress::at_the_wire(class, any_pod, Event::DATAGRAM) != Nat::TRANSLATED {
        return Ok(Verdict::PASS);
    }
    match nat::reserve_for_host::<F>(&packet.tuple, new.now_ns, scratch) {
        Ok(()) => {
            let _ = new.open::<F>(packet, Path::HOST, Nat::KEEP);
            Ok(Verdict::PASS)
        }
        Err(DropReason::HostPortTaken) => Err(DropReason::HostPortTaken),
        // A full table is no reason to cut the host off.
        Err(_) => Ok(Verdict::PASS),
    }
}
