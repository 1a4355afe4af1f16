//! Ingress of a pod through the host's stack: TC egress of its host veth.
//!
//! What this hook adds is memory: replies to a flow that came through the stack go through it too. It holds back what is more than
//! the pod's limit, and what came in from the wire, by a way that `from_wire` does not look at, with the source of a pod of this node.

use aya_ebpf::{macros::classifier, programs::TcContext};
use azure_cni_common::conntrack::Origin;
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::endpoint::EndpointFlags;
use azure_cni_common::flow::{Nat, Path};

use super::{Hook, may_open_from_outside, run};
use crate::bandwidth::{self, Direction};
use crate::conntrack::{self, Tracking};
use crate::globals;
use crate::packet::{self, Kind, Packet, Rewrite};
use crate::scratch::ScratchRef;
use crate::tables::{Tables, lead_through_stack};
use crate::verdict::Verdict;

#[classifier]
fn to_endpoint(ctx: TcContext) -> i32 {
    run::<ToEndpoint>(&ctx)
}

struct ToEndpoint;

impl Hook for ToEndpoint {
    const SEES_ICMP_ERRORS: bool = false;

    #[inline(always)]
    fn steps<F: Rewrite + Tables>(
        ctx: &TcContext,
        packet: &mut Packet<F>,
        mut scratch: ScratchRef<'_, F>,
    ) -> Result<Verdict, DropReason> {
        if packet.parse(ctx).is_err() {
            return Ok(Verdict::PASS);
        }
        let Some(pod) = F::endpoint(packet.tuple.destination).filter(|pod| pod.ifindex == packet.ifindex) else {
            return Ok(Verdict::PASS);
        };
        // The stack refuses other martians; to it the address of a pod is one out there, if its interface is not asked for. The node's
        // own is that of whom the stack has masqueraded.
        let came_by = packet::came_by(ctx);
        // The host's own are not asked.
        let sender = if came_by == 0 { None } else { F::pod_ifindex(packet.tuple.source) };
        if came_by == globals::UPLINK_IFINDEX.load() && sender.is_some() {
            return Err(DropReason::MartianSource);
        }
        if pod.flags.has(EndpointFlags::LIMITED) {
            bandwidth::charge(ctx, packet, pod.ifindex, Direction::Ingress)?;
        }
        if !matches!(packet.kind, Kind::Flow) {
            return Ok(Verdict::PASS);
        }
        // A pod of this node that has come here by a service is known by its interface; to all others an address is all there is.
        let is_of_pod = sender == Some(came_by);
        let from = if is_of_pod { Origin::NODE } else { Origin::OUTSIDE };
        match conntrack::track(packet, from, scratch.lend()) {
            // The stack has let it in. A full table is no reason to cut the host off from its pods.
            Tracking::New(new) if packet.event().opens() && (is_of_pod || may_open_from_outside(packet)) => {
                let _ = new.open::<F>(packet, Path::STACK, Nat::KEEP);
            }
            // Whoever opened it came by another way, or said so: what the stack did to this packet only the stack undoes.
            Tracking::Known(known) if !known.is_assured() && known.path != Path::STACK && packet.event().opens() => {
                lead_through_stack::<F>(&packet.flow_key);
            }
            _ => {}
        }
        Ok(Verdict::PASS)
    }
}
