//! Ingress of a pod through the host's stack: TC egress of its host veth.
//!
//! What this hook adds is memory: a flow that came through the stack is answered through it. It never holds a packet back.

use aya_ebpf::{macros::classifier, programs::TcContext};
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::family::{V4, V6};
use azure_cni_common::flow::{Nat, Origin, Path};

use crate::conntrack::{self, Tracking};
use crate::endpoint;
use crate::maps::Tables;
use crate::packet::{self, Headers, Kind, Packet};
use crate::verdict::{Verdict, finish};

#[classifier]
fn to_endpoint(ctx: TcContext) -> i32 {
    let result = if packet::is_of::<V6>(&ctx) { steps::<V6>(&ctx) } else { steps::<V4>(&ctx) };
    finish(&ctx, result)
}

#[inline(always)]
fn steps<F: Headers + Tables>(ctx: &TcContext) -> Result<Verdict, DropReason> {
    let Ok(packet) = Packet::<F>::parse(ctx) else { return Ok(Verdict::PASS) };
    let Kind::Flow(event) = packet.kind else { return Ok(Verdict::PASS) };
    if endpoint::find::<F>(packet.tuple.destination) != Some(packet.ifindex) {
        return Ok(Verdict::PASS);
    }
    if let Tracking::New(new) = conntrack::track(&packet, event) {
        // Whoever it is, the stack has let it in. A full table is no reason to cut the host off from its pods.
        let _ = new.open(Origin::OUTSIDE, Path::STACK, Nat::KEEP);
    }
    Ok(Verdict::PASS)
}
