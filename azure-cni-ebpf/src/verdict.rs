//! What becomes of a packet, and the one place where that turns into a TC code and is counted.
//!
//! The marks are here too: notes about a packet from one program to the next, in its skb mark.

use aya_ebpf::{
    bindings::{BPF_F_INGRESS, TC_ACT_SHOT, TC_ACT_UNSPEC, bpf_redir_neigh, bpf_redir_neigh__bindgen_ty_1},
    helpers::generated::{bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer},
    programs::TcContext,
};
use aya_log_ebpf::debug;
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::family::{Address, Family};

use crate::globals;
use crate::maps::DROPS;
use crate::packet::skb;
use crate::tables::Tables;

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
    Internet,
    Queue,
}

impl Verdict {
    /// Not ours, or the host's stack goes on with it: the next program runs (TCX_NEXT, which is TC_ACT_UNSPEC).
    pub const PASS: Self = Self { to: To::NextProgram, ifindex: 0 };

    /// Out of the uplink; the kernel fills in the neighbour's MAC, or queues the packet until it is known.
    pub const TO_WIRE: Self = Self { to: To::Wire, ifindex: 0 };

    /// Out of the uplink, to the router that all of the Internet is behind.
    pub const TO_INTERNET: Self = Self { to: To::Internet, ifindex: 0 };

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
pub fn finish<F: Tables>(ctx: &TcContext, result: Result<Verdict, DropReason>) -> i32 {
    match result {
        Ok(Verdict { to: To::NextProgram, .. }) => TC_ACT_UNSPEC,
        // SAFETY: helper without pointers.
        Ok(Verdict { to: To::Pod, ifindex }) => unsafe { bpf_redirect_peer(ifindex, 0) as i32 },
        Ok(Verdict { to: To::Wire, .. }) => {
            ctx.set_mark(HANDLED_MARK);
            redirect_by_routes()
        }
        Ok(Verdict { to: To::Internet, .. }) => {
            ctx.set_mark(HANDLED_MARK);
            match F::gateway() {
                Some(gateway) => redirect_through::<F>(gateway),
                None => redirect_by_routes(),
            }
        }
        // SAFETY: helper without pointers.
        Ok(Verdict { to: To::Queue, ifindex }) => unsafe { bpf_redirect(ifindex, BPF_F_INGRESS.into()) as i32 },
        Err(reason) => {
            count(ctx, reason);
            TC_ACT_SHOT
        }
    }
}

/// To the next hop of the kernel's routes.
#[inline(always)]
fn redirect_by_routes() -> i32 {
    // SAFETY: a null pointer of length 0 asks for a route look-up (include/uapi/linux/bpf.h).
    unsafe { bpf_redirect_neigh(globals::UPLINK_IFINDEX.load(), core::ptr::null_mut(), 0, 0) as i32 }
}

/// To a router on the uplink's link, without asking the kernel's routes (docs/adr/0008).
#[inline(always)]
fn redirect_through<F: Family>(gateway: F::Address) -> i32 {
    let mut next_hop = bpf_redir_neigh {
        nh_family: F::AF,
        __bindgen_anon_1: bpf_redir_neigh__bindgen_ty_1 { ipv6_nh: gateway.to_words() },
    };
    // SAFETY: a pointer to a whole `bpf_redir_neigh`, of the size said; of IPv4 the address is the first word.
    unsafe {
        bpf_redirect_neigh(globals::UPLINK_IFINDEX.load(), &raw mut next_hop, size_of::<bpf_redir_neigh>() as i32, 0)
            as i32
    }
}

fn count(ctx: &TcContext, reason: DropReason) {
    if let Some(counter) = DROPS.get_ptr_mut(reason.number()) {
        // SAFETY: this CPU's own slot, and a program is not interrupted by itself on one CPU.
        unsafe { *counter += 1 };
    }
    debug!(ctx, "dropped: reason {}", reason.number());
}

/// skb mark of a packet that `from_endpoint` sends to the uplink; `to_wire` takes it off again. Meaningless elsewhere:
/// the kernel clears marks when a packet leaves a pod's namespace.
const HANDLED_MARK: u32 = 0x0ac1_0001;

/// skb mark of a fragment that was put back into its queue; the low bits count how often.
const WAITING_MARK: u32 = 0x0ac2_0000;

/// How often a fragment is put back before its packet's first is taken for lost: about what a burst of a driver's poll
/// (64 packets, include/linux/netdevice.h, NAPI_POLL_WEIGHT) takes to pass.
const MOST_WAITS: u32 = 8;

/// Whether `from_endpoint` has done all there is to do; the mark is gone afterwards.
pub fn take_handled_mark(ctx: &TcContext) -> bool {
    let handled = skb(ctx).mark == HANDLED_MARK;
    if handled {
        ctx.set_mark(0);
    }
    handled
}

/// Whether a fragment may wait once more for its packet's first; notes that it does. If not, the note is gone.
pub fn may_wait(ctx: &TcContext) -> bool {
    let mark = skb(ctx).mark;
    let waits = if has_waited(ctx) { mark & WAITS } else { 0 };
    let may = waits < MOST_WAITS && (mark == 0 || waits > 0);
    if may {
        ctx.set_mark(WAITING_MARK | (waits + 1));
    } else {
        end_wait(ctx);
    }
    may
}

/// Whether the packet is a fragment that was put back into its queue.
pub fn has_waited(ctx: &TcContext) -> bool {
    skb(ctx).mark & !WAITS == WAITING_MARK
}

/// What others see of a packet that has waited is the packet as it came.
pub fn end_wait(ctx: &TcContext) {
    if has_waited(ctx) {
        ctx.set_mark(0);
    }
}

/// The bits of [`WAITING_MARK`] that count.
const WAITS: u32 = 0xff;
