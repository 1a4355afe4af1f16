//! Egress of a pod: TC ingress of its host veth.

use aya_ebpf::{macros::classifier, programs::TcContext};
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::family::{Address, V4};
use azure_cni_common::flow::{Nat, Path};
use azure_cni_common::next_hop;

use crate::conntrack::{self, Tracking};
use crate::endpoint;
use crate::maps::{self, Tables};
use crate::nat;
use crate::packet::{Kind, Packet, Unparsed};
use crate::rewrite::{self, End, Rewrite};
use crate::verdict::{Verdict, finish};

#[classifier]
fn from_endpoint(ctx: TcContext) -> i32 {
    finish(&ctx, steps::<V4>(&ctx))
}

#[inline(always)]
fn steps<F: Rewrite + Tables>(ctx: &TcContext) -> Result<Verdict, DropReason> {
    let mut packet = match Packet::<F>::parse(ctx) {
        Ok(packet) => packet,
        Err(Unparsed::NotOurs) => return Ok(Verdict::PASS),
        // The stack takes tags of VLAN 0 off behind our back, as many as there are (net/core/dev.c).
        Err(Unparsed::Tagged) => return Err(DropReason::VlanTagged),
        Err(Unparsed::Malformed) => return Err(DropReason::Malformed),
    };
    endpoint::check_source(&packet)?;
    F::check_platform(&packet.tuple)?;
    let Kind::Flow(event) = packet.kind else { return Ok(Verdict::PASS) };
    // The host's stack knows how to answer what a router cannot forward: time exceeded, fragmentation needed.
    if packet.hop_limit <= 1 || packet.tuple.destination.stays_on_link() || packet.exceeds(ctx, maps::UPLINK_MTU.load())
    {
        return Ok(Verdict::PASS);
    }

    let destination = packet.tuple.destination;
    match conntrack::track(&packet, event) {
        Tracking::Known(known) => {
            if known.flow.path != Path::LOCAL && known.flow.path != Path::WIRE {
                return Ok(Verdict::PASS);
            }
            // Looked up anew: the pod may have come since the flow was opened.
            if let Some(ifindex) = endpoint::find::<F>(destination) {
                return to_pod(ctx, &mut packet, ifindex);
            }
            // A pod that left takes its flows along; until they are scrubbed, the stack answers "unreachable".
            if known.flow.path == Path::LOCAL {
                return Ok(Verdict::PASS);
            }
            if known.is_opener && known.flow.nat == Nat::TRANSLATED {
                rewrite::replace(ctx, &mut packet, End::Source, F::node_address(), known.flow.nat_port)?;
            }
            to_wire(ctx, &mut packet)
        }
        Tracking::New(new) => {
            if let Some(ifindex) = endpoint::find::<F>(destination) {
                new.open(Path::LOCAL, Nat::KEEP)?;
                return to_pod(ctx, &mut packet, ifindex);
            }
            let class = F::route(destination);
            let egress = next_hop::from_pod(class, maps::services(), event);
            if egress.path == Path::STACK {
                // Without an entry the next packet is decided the same: a full table cuts no pod off from its host.
                let _ = new.open(egress.path, egress.nat);
                return Ok(Verdict::PASS);
            }
            if egress.nat == Nat::TRANSLATED {
                let port = nat::claim::<F>(&new.tuple, new.now_ns)?;
                nat::open(&new, egress.path, port)?;
                rewrite::replace(ctx, &mut packet, End::Source, F::node_address(), port)?;
            } else {
                new.open(egress.path, egress.nat)?;
            }
            to_wire(ctx, &mut packet)
        }
    }
}

#[inline(always)]
fn to_pod<F: Rewrite>(ctx: &TcContext, packet: &mut Packet<F>, ifindex: u32) -> Result<Verdict, DropReason> {
    rewrite::decrement_hop_limit(ctx, packet)?;
    Ok(Verdict::to_pod(ifindex))
}

#[inline(always)]
fn to_wire<F: Rewrite>(ctx: &TcContext, packet: &mut Packet<F>) -> Result<Verdict, DropReason> {
    rewrite::decrement_hop_limit(ctx, packet)?;
    Ok(Verdict::TO_WIRE)
}
