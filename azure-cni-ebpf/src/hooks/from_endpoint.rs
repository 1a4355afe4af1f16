//! Egress of a pod: TC ingress of its host veth.

use aya_ebpf::{macros::classifier, programs::TcContext};
use azure_cni_common::conntrack::{Event, Origin};
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::egress::{self, RouteClass, SnatPolicy};
use azure_cni_common::endpoint::EndpointFlags;
use azure_cni_common::family::{Address, Be16, Ipv4, V4, V6};
use azure_cni_common::flow::{Nat, Path};

use super::{Hook, open_translated, port_of, promote_outgoing, run, to_pod};
use crate::bandwidth::{self, Direction};
use crate::conntrack::{self, KnownFlow, NewFlow, Tracking};
use crate::icmp::{self, IcmpSender};
use crate::packet::{self, End, Kind, Packet, Replacement, Rewrite, Unparsed};
use crate::scratch::ScratchRef;
use crate::tables::{LinkSources, Tables};
use crate::verdict::{self, Verdict};
use crate::{events, fragments, globals, nat};

#[classifier]
fn from_endpoint(ctx: TcContext) -> i32 {
    run::<FromEndpoint>(&ctx)
}

struct FromEndpoint;

impl Hook for FromEndpoint {
    const PUTS_BACK: bool = true;

    #[inline(always)]
    fn steps<F: Rewrite + Tables>(
        ctx: &TcContext,
        packet: &mut Packet<F>,
        mut scratch: ScratchRef<'_, F>,
    ) -> Result<Verdict, DropReason> {
        let parsed = packet.parse(ctx);
        let Some(snat) = admit(ctx, packet, parsed)? else { return Ok(Verdict::PASS) };
        match packet.kind {
            Kind::Flow => match conntrack::track(packet, Origin::NODE, scratch.lend()) {
                Tracking::Known(known) => known_flow(ctx, packet, &known, scratch),
                Tracking::New(new) => new_flow(ctx, packet, &new, snat, scratch),
            },
            Kind::StrayFragment => stray_fragment(ctx, packet, snat),
            _ => Ok(Verdict::PASS),
        }
    }

    #[inline(always)]
    fn icmp_error_steps<F: Rewrite + Tables>(
        ctx: &TcContext,
        message: &mut Packet<F>,
        scratch: ScratchRef<'_, F>,
    ) -> Result<Verdict, DropReason> {
        let parsed = message.parse_apart(ctx);
        if admit(ctx, message, parsed)?.is_none() || !matches!(message.kind, Kind::IcmpError) {
            return Ok(Verdict::PASS);
        }
        icmp::charge(message.ifindex)?;
        match icmp::apply_snat(ctx, message, IcmpSender::Pod, scratch)? {
            Path::WIRE => to_wire(ctx, message),
            Path::LOCAL => match F::endpoint(message.tuple.destination) {
                Some(pod) => to_pod(ctx, message, pod),
                None => Ok(Verdict::PASS),
            },
            _ => Ok(Verdict::PASS),
        }
    }

    #[inline(always)]
    fn steps_without_ipv6(ctx: &TcContext, packet: &mut Packet<V6>) -> Result<Verdict, DropReason> {
        on_link_only(packet.parse_apart(ctx), packet)
    }
}

/// Where no pod has an address of the family, only the affairs of the link go up.
#[inline(always)]
fn on_link_only(parsed: Result<(), Unparsed>, packet: &Packet<V6>) -> Result<Verdict, DropReason> {
    match parsed {
        Err(Unparsed::NotOurs) => Ok(Verdict::PASS),
        Err(Unparsed::Tagged) => Err(DropReason::VlanTagged),
        Err(Unparsed::Malformed) => Err(DropReason::Malformed),
        Ok(()) if matches!(packet.kind, Kind::Malformed) => Err(DropReason::Malformed),
        Ok(())
            if V6::is_link_source_of(packet.ifindex, packet.tuple.source)
                && packet.tuple.destination.stays_on_link() =>
        {
            Ok(Verdict::PASS)
        }
        Ok(()) => Err(DropReason::SourceNotOwned),
    }
}

/// Whether the packet is one that the pod may send and that can be forwarded from here.
#[inline(always)]
fn admit<F: Rewrite + Tables>(
    ctx: &TcContext,
    packet: &mut Packet<F>,
    parsed: Result<(), Unparsed>,
) -> Result<Option<SnatPolicy>, DropReason> {
    match parsed {
        Ok(()) if matches!(packet.kind, Kind::Malformed) => return Err(DropReason::Malformed),
        Ok(()) => {}
        Err(Unparsed::NotOurs) if packet::is_arp(ctx) => {
            return if is_own_arp(ctx) { Ok(None) } else { Err(DropReason::ArpNotOwned) };
        }
        Err(Unparsed::NotOurs) => return Ok(None),
        // The stack takes tags of VLAN 0 off behind our back, as many as there are (net/core/dev.c).
        Err(Unparsed::Tagged) => return Err(DropReason::VlanTagged),
        Err(Unparsed::Malformed) => return Err(DropReason::Malformed),
    }
    let Some(snat) = check_sender(ctx, packet)? else { return Ok(None) };
    if packet.is_fragment() {
        fragments::find_ports(packet);
    }
    F::check_platform(&packet.tuple)?;
    // The host's stack knows how to answer what a router cannot forward: time exceeded, fragmentation needed.
    if packet.hop_limit <= 1 || packet.exceeds(ctx, globals::UPLINK_MTU.load()) {
        return Ok(None);
    }
    // The prober on the uplink's link gets its replies there; a pod opens no flow to it.
    let destination = packet.tuple.destination;
    if destination.stays_on_link() && !destination.is_prober_on_link() {
        return Ok(None);
    }
    Ok(Some(snat))
}

/// A pod says in ARP that it has its own address, or none yet: all else would fill the host's table of neighbours.
#[inline(never)]
fn is_own_arp(ctx: &TcContext) -> bool {
    match packet::arp_sender(ctx) {
        Some(sender) => sender == Ipv4::UNSPECIFIED || V4::pod_ifindex(sender) == Some(packet::skb(ctx).ifindex),
        None => false,
    }
}

/// A pod sends from its own address only: the source must belong to the veth that the packet came from. Nothing is forwarded
/// that a pod sends in the affairs of its link (neighbour discovery, router solicitation), from the address that its MAC makes or
/// from none yet.
#[inline(always)]
fn check_sender<F: Rewrite + Tables>(ctx: &TcContext, packet: &Packet<F>) -> Result<Option<SnatPolicy>, DropReason> {
    match F::endpoint(packet.tuple.source) {
        Some(pod) if pod.ifindex == packet.ifindex => {
            // A fragment that was put back into its queue was paid for when it came.
            if pod.flags.has(EndpointFlags::LIMITED)
                && !verdict::has_waited(ctx)
                && !packet.tuple.destination.stays_on_link()
            {
                bandwidth::charge(ctx, packet, pod.ifindex, Direction::Egress)?;
            }
            Ok(Some(SnatPolicy::of(&pod, F::is_translated())))
        }
        None if F::is_link_source_of(packet.ifindex, packet.tuple.source)
            && packet.tuple.destination.stays_on_link() =>
        {
            Ok(None)
        }
        _ => Err(DropReason::SourceNotOwned),
    }
}

#[inline(always)]
fn known_flow<F: Rewrite + Tables>(
    ctx: &TcContext,
    packet: &mut Packet<F>,
    known: &KnownFlow,
    scratch: ScratchRef<'_, F>,
) -> Result<Verdict, DropReason> {
    if known.path != Path::LOCAL && known.path != Path::WIRE {
        // Once more at the wire, where it is assured already.
        if known.becomes_assured && known.is_initiator && known.nat == Nat::TRANSLATED {
            promote_outgoing::<F>(known, &packet.tuple, known.nat_port, scratch);
        }
        return Ok(Verdict::PASS);
    }
    if let Some(reason) = known.refusal {
        return Err(events::refused::<F>(&packet.tuple, reason));
    }
    // It went to the Internet or to the platform when it was opened: no pod has been there, nor is one met there now.
    if known.is_initiator && known.nat == Nat::TRANSLATED && known.path == Path::WIRE {
        let port = port_of::<F>(known, &packet.tuple, scratch)
            .map_err(|reason| events::refused::<F>(&packet.tuple, reason))?;
        return to_internet(ctx, packet, port);
    }
    // Looked up again: the pod may have come since the flow was opened.
    if let Some(pod) = F::endpoint(packet.tuple.destination) {
        return to_pod(ctx, packet, pod);
    }
    // A pod that left takes its flows along, once they are scrubbed.
    if known.path == Path::LOCAL {
        return check_pool(F::route(packet.tuple.destination)).map(|()| Verdict::PASS);
    }
    to_wire(ctx, packet)
}

#[inline(always)]
fn new_flow<F: Rewrite + Tables>(
    ctx: &TcContext,
    packet: &mut Packet<F>,
    new: &NewFlow,
    snat: SnatPolicy,
    scratch: ScratchRef<'_, F>,
) -> Result<Verdict, DropReason> {
    let destination = packet.tuple.destination;
    if destination.stays_on_link() {
        return Ok(Verdict::PASS);
    }
    // The end that asked is not known any more: the stack may know it, and its next packet is entered by the way that it takes.
    if packet.event().answers() {
        return Ok(Verdict::PASS);
    }
    if let Some(pod) = F::endpoint(destination) {
        new.open::<F>(packet, Path::LOCAL, Nat::KEEP).map_err(|reason| events::refused::<F>(&packet.tuple, reason))?;
        return to_pod(ctx, packet, pod);
    }
    let class = F::route(destination);
    check_pool(class)?;
    let egress = egress::from_pod(class, globals::service_prefixes(), snat, packet.event());
    if egress.path == Path::STACK {
        // Without an entry the next packet is decided the same: a full table cuts no pod off from its host, and what may
        // belong to a flow that was forgotten is looked at again at the wire.
        if packet.event().opens() || class.is_hosts() {
            let _ = new.open::<F>(packet, egress.path, egress.nat);
        }
        return Ok(Verdict::PASS);
    }
    if egress.nat == Nat::TRANSLATED {
        let port = open_translated::<F>(new, packet, egress.path, scratch)
            .map_err(|reason| events::refused::<F>(&packet.tuple, reason))?;
        return to_internet(ctx, packet, port);
    }
    if packet.event().opens() || class == RouteClass::VNET {
        new.open::<F>(packet, egress.path, egress.nat).map_err(|reason| events::refused::<F>(&packet.tuple, reason))?;
    } else if let Some(port) = nat::find_held_port::<F>(&packet.tuple, scratch) {
        new.open_translated::<F>(packet, egress.path, port)?;
        return to_internet(ctx, packet, port);
    }
    to_wire(ctx, packet)
}

/// Its packet's first fragment may be on its way. What is not translated needs no ports: the stack routes it.
#[inline(always)]
fn stray_fragment<F: Rewrite + Tables>(
    ctx: &TcContext,
    packet: &Packet<F>,
    snat: SnatPolicy,
) -> Result<Verdict, DropReason> {
    let destination = packet.tuple.destination;
    let class = F::route(destination);
    if F::pod_ifindex(destination).is_none() {
        check_pool(class)?;
    }
    if destination.stays_on_link() || egress::at_the_wire(class, snat, Event::DATAGRAM) != Nat::TRANSLATED {
        return Ok(Verdict::PASS);
    }
    if verdict::may_wait(ctx) && fragments::may_wait(packet) {
        Ok(Verdict::wait(packet.ifindex))
    } else {
        Err(DropReason::FragmentNotTranslated)
    }
}

/// Refuses an address of the pool, given that no pod has it.
#[inline(always)]
fn check_pool(class: RouteClass) -> Result<(), DropReason> {
    if class == RouteClass::POOL { Err(DropReason::NoSuchPod) } else { Ok(()) }
}

#[inline(always)]
fn to_wire<F: Rewrite>(ctx: &TcContext, packet: &mut Packet<F>) -> Result<Verdict, DropReason> {
    packet::decrement_hop_limit(ctx, packet)?;
    Ok(Verdict::TO_WIRE)
}

/// With the node's address, to the router that all of the Internet is behind.
#[inline(always)]
fn to_internet<F: Rewrite + Tables>(
    ctx: &TcContext,
    packet: &mut Packet<F>,
    port: Be16,
) -> Result<Verdict, DropReason> {
    let node = Replacement { address: F::node_address(), port, hops: 1 };
    packet::replace(ctx, packet, End::Source, &node)?;
    Ok(Verdict::TO_INTERNET)
}
