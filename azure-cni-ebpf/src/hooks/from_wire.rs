//! What arrives at the NIC: TC ingress of the uplink.
//!
//! Only packets for a pod, or for a port of the node that a pod's flow holds, are ours.

use aya_ebpf::{macros::classifier, programs::TcContext};
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::family::V4;
use azure_cni_common::flow::{Nat, Path};

use crate::conntrack::{self, Tracking};
use crate::endpoint;
use crate::maps::Tables;
use crate::nat::{self, Arrival};
use crate::packet::{Kind, Packet};
use crate::rewrite::{self, End, Rewrite};
use crate::verdict::{Verdict, finish};

#[classifier]
fn from_wire(ctx: TcContext) -> i32 {
    finish(&ctx, steps::<V4>(&ctx))
}

#[inline(always)]
fn steps<F: Rewrite + Tables>(ctx: &TcContext) -> Result<Verdict, DropReason> {
    let Ok(mut packet) = Packet::<F>::parse(ctx) else { return Ok(Verdict::PASS) };
    let Kind::Flow(event) = packet.kind else { return Ok(Verdict::PASS) };

    let mut answered_port = None;
    if packet.tuple.destination == F::node_address() {
        match nat::arrival::<F>(&packet.tuple) {
            Arrival::NotTranslated => return Ok(Verdict::PASS),
            Arrival::ForHost => {
                // The host holds the port: note that its flow is alive.
                let _ = conntrack::track(&packet, event);
                return Ok(Verdict::PASS);
            }
            Arrival::ForPod(holder) => {
                answered_port = Some(packet.tuple.destination_port);
                rewrite::replace(ctx, &mut packet, End::Destination, holder.address, holder.port)?;
            }
        }
    }
    let Some(ifindex) = endpoint::find::<F>(packet.tuple.destination) else {
        return if answered_port.is_some() { Err(DropReason::EndpointGone) } else { Ok(Verdict::PASS) };
    };

    let path = match conntrack::track(&packet, event) {
        Tracking::Known(known) => known.flow.path,
        Tracking::New(new) => match answered_port {
            None => new.open(Path::WIRE, Nat::KEEP)?,
            // The flow's entry was lost and its translation was not: the pod opened it, by which way is unknown.
            Some(port) => new.reopen_for_receiver(Path::STACK, port)?,
        },
    };
    // The stack undoes what it did to the flow on its way out, and answers what a router cannot forward.
    if path == Path::STACK || packet.hop_limit <= 1 {
        return Ok(Verdict::PASS);
    }
    rewrite::decrement_hop_limit(ctx, &mut packet)?;
    Ok(Verdict::to_pod(ifindex))
}
