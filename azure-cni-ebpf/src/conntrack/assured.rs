//! Flows into the connection table and out of it, counted for the pod that each belongs to.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::family::{Family, V4, V6};
use azure_cni_common::flow::{Flow, FlowKey, Nat, Tuple};
use azure_cni_common::nat::{NatHolder, NatKey};

use crate::atomic;
use crate::globals;
use crate::scratch::ScratchRef;
use crate::tables::{EEXIST, Tables};

/// What becomes of a promotion.
pub(super) const DONE: u64 = 0;
const NO_ROOM: u64 = 1;
const SHARE_IS_HELD: u64 = 2;

#[inline(always)]
pub(super) fn refusal(promotion: u64) -> Option<DropReason> {
    match promotion {
        DONE => None,
        SHARE_IS_HELD => Some(DropReason::PodFlowShare),
        _ => Some(DropReason::FlowTableFull),
    }
}

/// Moves a flow to the connection table. If that is full, or the pod has its share of it, the flow stays where it is, to be lost
/// to a flood.
#[inline(always)]
pub(super) fn promote<F: Tables>(key: &FlowKey<F::Address>, assured: Flow, mut right: ScratchRef<'_, F>) -> u64 {
    let Some(scratch) = right.get() else { return NO_ROOM };
    (scratch.flow_key, scratch.flow) = (*key, assured);
    // Global functions: the verifier walks them once, however many ways lead to them, and what follows once as well.
    if F::VERSION == V4::VERSION { flow_promote4() } else { flow_promote6() }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn flow_promote4() -> u64 {
    // SAFETY: `promote` alone calls it, which has the right and no reference while it waits.
    promote_in_scratch(unsafe { ScratchRef::<V4>::assume() })
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn flow_promote6() -> u64 {
    // Before 6.8, the kernel verifies a global function also if nothing leads to it.
    if !globals::has_ipv6() {
        return NO_ROOM;
    }
    // SAFETY: as above.
    promote_in_scratch(unsafe { ScratchRef::<V6>::assume() })
}

#[inline(always)]
fn promote_in_scratch<F: Tables>(mut right: ScratchRef<'_, F>) -> u64 {
    let Some(scratch) = right.get() else { return NO_ROOM };
    let (key, flow) = (&scratch.flow_key, &scratch.flow);
    let pod = key.address_of(flow.node_side());
    if !has_room_in_its_share::<F>(pod) {
        return SHARE_IS_HELD;
    }
    match F::flows().insert(key, flow, u64::from(BPF_NOEXIST)) {
        Ok(()) => count::<F>(pod, true),
        // Another CPU has promoted it, and counted.
        Err(error) if error == -EEXIST => {}
        Err(_) => return NO_ROOM,
    }
    let _ = F::unassured(key).remove(key);
    DONE
}

/// CPUs that look at the same time may together exceed the share, by one each.
#[inline(always)]
fn has_room_in_its_share<F: Tables>(pod: &F::Address) -> bool {
    // SAFETY: two words, each read whole; what other CPUs count meanwhile is seen by the next promotion.
    let Some(flows) = (unsafe { F::pod_flows().get(pod) }) else { return true };
    // SAFETY: one word.
    let swept = unsafe { F::pods_swept().get(pod) }.copied().unwrap_or(0);
    flows.live(swept) < u64::from(globals::POD_FLOW_SHARE.load())
}

/// One more flow of the pod was promoted, or removed. Not counted: the host's, and those of addresses that have no entry.
#[inline(always)]
fn count<F: Tables>(pod: &F::Address, is_promoted: bool) {
    let Some(flows) = F::pod_flows().get_ptr_mut(pod) else { return };
    let number = if is_promoted {
        // SAFETY: map values live as long as the program runs.
        unsafe { &raw mut (*flows).promoted }
    } else {
        // SAFETY: as above.
        unsafe { &raw mut (*flows).removed }
    };
    // SAFETY: a word of a map's value, which all programs change so.
    unsafe { atomic::add(number, 1) };
}

/// Removes a flow from the connection table.
#[inline(always)]
fn remove_assured<F: Tables>(key: &FlowKey<F::Address>, flow: &Flow) {
    // Of CPUs that remove it at the same time, one does.
    if F::flows().remove(key).is_ok() {
        count::<F>(key.address_of(flow.node_side()), false);
    }
}

/// The flow's translation has no room: the flow is not assured after all.
#[inline(never)]
pub fn demote<F: Tables>(tuple: &Tuple<F::Address>) {
    let (key, _) = FlowKey::of(tuple);
    // SAFETY: as in `track`.
    if let Some(flow) = unsafe { F::flows().get(&key) } {
        let demoted = flow.demoted();
        let _ = F::unassured(&key).insert(&key, &demoted, u64::from(BPF_ANY));
        remove_assured::<F>(&key, &demoted);
    }
}

/// A flow that is over leaves the connection table, and gives its port back if it is its initiator that begins again, unless
/// another flow has taken the port over. For the other side the port stays: a late reply finds the translation as it was, and
/// revives the flow with it.
#[inline(always)]
pub(super) fn forget<F: Tables>(
    key: &FlowKey<F::Address>,
    flow: &Flow,
    is_assured: bool,
    begins_again: bool,
    mut right: ScratchRef<'_, F>,
) {
    let Some(scratch) = right.get() else { return };
    (scratch.flow_key, scratch.flow) = (*key, *flow);
    let how = u64::from(is_assured) | u64::from(begins_again) << 1;
    // As for a promotion.
    if F::VERSION == V4::VERSION {
        flow_forget4(how)
    } else {
        flow_forget6(how)
    };
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn flow_forget4(how: u64) -> u64 {
    // SAFETY: `forget` alone calls it, which has the right and no reference while it waits.
    forget_in_scratch(unsafe { ScratchRef::<V4>::assume() }, how)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn flow_forget6(how: u64) -> u64 {
    if !globals::has_ipv6() {
        return 0;
    }
    // SAFETY: as above.
    forget_in_scratch(unsafe { ScratchRef::<V6>::assume() }, how)
}

#[inline(always)]
fn forget_in_scratch<F: Tables>(mut right: ScratchRef<'_, F>, how: u64) -> u64 {
    let Some(scratch) = right.get() else { return 0 };
    if how & 1 != 0 {
        remove_assured::<F>(&scratch.flow_key, &scratch.flow);
    }
    if how & 2 == 0 || scratch.flow.nat != Nat::TRANSLATED {
        return 0;
    }
    scratch.tuple = scratch.flow_key.tuple_from(scratch.flow.initiator);
    scratch.key = NatKey::for_outgoing(&scratch.tuple, F::node_address(), scratch.flow.nat_port);
    scratch.holder = NatHolder::new(scratch.tuple.source, scratch.tuple.source_port, 0);
    // SAFETY: the value is read at once.
    if unsafe { F::translations().get(&scratch.key) }.is_some_and(|holder| holder.is_same(&scratch.holder)) {
        let _ = F::translations().remove(&scratch.key);
    }
    // SAFETY: as above.
    if unsafe { F::half_open_translations().get(&scratch.key) }.is_some_and(|holder| holder.is_same(&scratch.holder)) {
        let _ = F::half_open_translations().remove(&scratch.key);
    }
    0
}
