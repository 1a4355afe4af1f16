//! The limits of a pod: every packet of one that has any is paid for, once on its way out and once on its way in.

use aya_ebpf::{helpers::generated::bpf_ktime_get_ns, programs::TcContext};
use azure_cni_common::bandwidth::{ATTEMPTS, Limit, cost_ns, spend, wire_bytes};
use azure_cni_common::drop_reason::DropReason;

use crate::atomic::{add, compare_exchange};
use crate::maps::BANDWIDTH;
use crate::packet::{Headers, Packet, ip_length, skb};

/// Seen from the pod.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Ingress,
    Egress,
}

/// To be called for pods that have a limit.
#[inline(always)]
pub fn charge<F: Headers>(
    ctx: &TcContext,
    packet: &Packet<F>,
    ifindex: u32,
    direction: Direction,
) -> Result<(), DropReason> {
    if is_paid(ctx, packet.segment_headers(), ifindex, direction) { Ok(()) } else { Err(DropReason::BandwidthLimit) }
}

#[inline(never)]
fn is_paid(ctx: &TcContext, headers: u32, ifindex: u32, direction: Direction) -> bool {
    let Some(limits) = BANDWIDTH.get_ptr_mut(&ifindex) else { return true };
    let limit = match direction {
        // SAFETY: a map's value lives as long as the program runs.
        Direction::Ingress => unsafe { &raw mut (*limits).ingress },
        // SAFETY: as above.
        Direction::Egress => unsafe { &raw mut (*limits).egress },
    };
    // SAFETY: as above.
    let bucket = unsafe { &raw mut (*limit).paid_until_ns };
    // SAFETY: as above. What the agent may write at the same time is read once.
    let Limit { byte_cost, burst_ns, mut paid_until_ns, .. } = unsafe { limit.read() };
    if byte_cost == 0 {
        return true;
    }
    let bytes = wire_bytes(ip_length(ctx), skb(ctx).gso_size, headers);
    let cost_ns = cost_ns(byte_cost, bytes);
    // SAFETY: helper without arguments. The time of the last tick would let bursts of milliseconds through.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    for _ in 0..ATTEMPTS {
        let Some(after) = spend(paid_until_ns, burst_ns, cost_ns, now_ns) else { return false };
        // SAFETY: as above.
        let found = unsafe { compare_exchange(bucket, paid_until_ns, after) };
        if found == paid_until_ns {
            return true;
        }
        paid_until_ns = found;
    }
    // Others were faster each time, so the bucket is of this moment, and was not empty.
    // SAFETY: as above.
    unsafe { add(bucket, cost_ns) };
    true
}
