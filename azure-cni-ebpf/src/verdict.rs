//! What becomes of a packet, and the one place where that turns into a TC code and is counted.

use aya_ebpf::{
    bindings::{BPF_F_INGRESS, TC_ACT_SHOT, TC_ACT_UNSPEC},
    helpers::generated::{bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer},
    programs::TcContext,
};
use aya_log_ebpf::debug;
use azure_cni_common::drop_reason::DropReason;

use crate::maps;
use crate::packet;

/// Where a packet goes.
///
/// Both words are always set, in a `Result` with a [`DropReason`] too: a payload that only some variants have would be
/// left uninitialised in the others, and the compiler moves such words around where the verifier refuses to read them.
#[must_use]
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Verdict {
    to: To,
    ifindex: u32,
}

#[repr(u32)]
#[derive(Clone, Copy)]
enum To {
    NextProgram,
    Pod,
    Wire,
    Queue,
}

impl Verdict {
    /// Not ours, or the host's stack goes on with it: the next program runs (TCX_NEXT, which is TC_ACT_UNSPEC).
    pub const PASS: Self = Self { to: To::NextProgram, ifindex: 0 };

    /// Out of the uplink; the kernel fills in the neighbour's MAC, or queues the packet until it is known.
    pub const TO_WIRE: Self = Self { to: To::Wire, ifindex: 0 };

    /// Back into the queue that it came from, behind what has come since.
    pub const fn wait(ifindex: u32) -> Self {
        Self { to: To::Queue, ifindex }
    }

    pub const fn is_wait(self) -> bool {
        matches!(self.to, To::Queue)
    }

    /// Into the network namespace of the pod behind this host veth, without a queue in between.
    pub const fn to_pod(ifindex: u32) -> Self {
        Self { to: To::Pod, ifindex }
    }
}

#[inline(always)]
pub fn finish(ctx: &TcContext, result: Result<Verdict, DropReason>) -> i32 {
    match result {
        Ok(Verdict { to: To::NextProgram, .. }) => TC_ACT_UNSPEC,
        // SAFETY: helper without pointers.
        Ok(Verdict { to: To::Pod, ifindex }) => unsafe { bpf_redirect_peer(ifindex, 0) as i32 },
        Ok(Verdict { to: To::Wire, .. }) => {
            packet::set_handled_mark(ctx);
            // SAFETY: a null pointer of length 0 asks for a route look-up (include/uapi/linux/bpf.h).
            unsafe { bpf_redirect_neigh(maps::UPLINK_IFINDEX.load(), core::ptr::null_mut(), 0, 0) as i32 }
        }
        // SAFETY: helper without pointers.
        Ok(Verdict { to: To::Queue, ifindex }) => unsafe { bpf_redirect(ifindex, BPF_F_INGRESS.into()) as i32 },
        Err(reason) => {
            count(ctx, reason);
            TC_ACT_SHOT
        }
    }
}

fn count(ctx: &TcContext, reason: DropReason) {
    if let Some(counter) = maps::DROPS.get_ptr_mut(reason.number()) {
        // SAFETY: this CPU's own slot, and a program is not interrupted by itself on one CPU.
        unsafe { *counter += 1 };
    }
    debug!(ctx, "dropped: reason {}", reason.number());
}
