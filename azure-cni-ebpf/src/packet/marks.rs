//! What programs tell each other about a packet, in its skb mark.

use aya_ebpf::programs::TcContext;

use super::skb;

/// skb mark of a packet that `from_endpoint` sends to the uplink; `to_wire` takes it off again. Meaningless elsewhere:
/// the kernel clears marks when a packet leaves a pod's namespace.
const HANDLED_MARK: u32 = 0x0ac1_0001;

/// skb mark of a fragment that was put back into its queue; the low bits count how often.
const WAITING_MARK: u32 = 0x0ac2_0000;

/// How often a fragment is put back before its packet's first is taken for lost: about what a burst of a driver's poll
/// (64 packets, include/linux/netdevice.h, NAPI_POLL_WEIGHT) takes to pass.
const MOST_WAITS: u32 = 8;

pub fn set_handled_mark(ctx: &TcContext) {
    ctx.set_mark(HANDLED_MARK);
}

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
    let waits = if mark & !WAITS == WAITING_MARK { mark & WAITS } else { 0 };
    let may = waits < MOST_WAITS && (mark == 0 || waits > 0);
    if may {
        ctx.set_mark(WAITING_MARK | (waits + 1));
    } else {
        end_wait(ctx);
    }
    may
}

/// What others see of a packet that has waited is the packet as it came.
pub fn end_wait(ctx: &TcContext) {
    if skb(ctx).mark & !WAITS == WAITING_MARK {
        ctx.set_mark(0);
    }
}

/// The bits of [`WAITING_MARK`] that count.
const WAITS: u32 = 0xff;
