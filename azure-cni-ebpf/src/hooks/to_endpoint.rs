//! Ingress of a pod through the host's stack: TC egress of its host veth.
//!
//! What this hook adds is memory: a flow that came through the stack is answered through it. It never holds a packet back.

use aya_ebpf::{macros::classifier, programs::TcContext};
use azure_cni_common::conntrack::Origin;
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::family::{V4, V6};
use azure_cni_common::flow::{Nat, Path};

use crate::conntrack::{self, Tracking};
use crate::endpoint;
use crate::maps::Tables;
use crate::packet::{self, Headers, Kind};
use crate::verdict::{Verdict, finish};

#[classifier]
fn to_endpoint(ctx: TcContext) -> i32 {
    if packet::is_of::<V6>(&ctx) { run::<V6>(&ctx) } else { run::<V4>(&ctx) }
}

/// A function of its own for each family, with a stack of its own.
#[inline(never)]
fn run<F: Headers + Tables>(ctx: &TcContext) -> i32 {
    finish::<F>(ctx, steps::<F>(ctx))
}

#[inline(always)]
fn steps<F: Headers + Tables>(ctx: &TcContext) -> Result<Verdict, DropReason> {
    let Some(packet) = F::packet() else { return Ok(Verdict::PASS) };
    if packet.parse(ctx).is_err() {
        return Ok(Verdict::PASS);
    }
    if !matches!(packet.kind, Kind::Flow) {
        return Ok(Verdict::PASS);
    }
    let event = packet.event();
    if endpoint::find::<F>(packet.tuple.destination) != Some(packet.ifindex) {
        return Ok(Verdict::PASS);
    }
    if let Tracking::New(new) = conntrack::track(packet, event) {
        // Whoever it is, the stack has let it in. A full table is no reason to cut the host off from its pods.
        let _ = new.open::<F>(&packet.tuple, Origin::OUTSIDE, Path::STACK, Nat::KEEP);
    }
    Ok(Verdict::PASS)
}
