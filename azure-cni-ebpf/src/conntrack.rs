//! Step: which flow does a packet belong to, and what does it do to it.
//!
//! The decisions are in `azure_cni_common::conntrack`; here the entry is found, renewed, made, and moved to the
//! connection table once its flow is assured. An expired entry counts as absent, so the data path is right without anyone
//! sweeping the tables.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use azure_cni_common::conntrack::{Arrival, Event, Observed, Origin, Seen, Sender, State, observe};
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::family::{Be16, Family, TCP, V4, V6};
use azure_cni_common::flow::{Flow, FlowKey, Nat, Path, Side, Tuple};
use azure_cni_common::nat::{NatHolder, NatKey};

use crate::atomic;
use crate::globals;
use crate::packet::{Headers, Packet};
use crate::scratch::ScratchRef;
use crate::tables::{EEXIST, Tables, now_ns};

pub enum Tracking {
    Known(KnownFlow),
    New(NewFlow),
}

/// A live flow, as it was found before the packet was entered into it. What a hook asks of it and no more: it is on the stack.
#[derive(Clone, Copy)]
pub struct KnownFlow {
    pub now_ns: u64,
    pub nat_port: Be16,
    pub path: Path,
    pub nat: Nat,
    pub was_assured: bool,
    pub is_initiator: bool,
    /// The flow is assured by this packet and by none before.
    pub becomes_assured: bool,
    /// It is TCP's, and the connection table has no room for it, or the pod has its share.
    pub refusal: Option<DropReason>,
}

impl KnownFlow {
    #[inline(always)]
    fn found(flow: &Flow, side: Side, now_ns: u64) -> Self {
        Self {
            now_ns,
            nat_port: flow.nat_port,
            path: flow.path,
            nat: flow.nat,
            was_assured: flow.is_assured(),
            is_initiator: flow.initiator == side,
            becomes_assured: false,
            refusal: None,
        }
    }
}

/// A flow that has no live entry yet.
#[derive(Clone, Copy)]
pub struct NewFlow {
    pub now_ns: u64,
    /// Where its first packet comes from.
    from: Origin,
    /// What that packet does to it, if it opens the flow.
    seen: Seen,
}

/// Finds the packet's flow and enters the packet into it. `from`: whether the hook's packets have a checked source.
#[inline(always)]
pub fn track<F: Headers + Tables>(packet: &mut Packet<F>, from: Origin, mut scratch: ScratchRef<'_, F>) -> Tracking {
    let event = packet.event();
    let now_ns = now_ns();
    let side = packet.flow_key.set(&packet.tuple);
    let key = &packet.flow_key;
    let assured = F::flows().get_ptr_mut(key);
    let is_in_flows = assured.is_some();
    // One way for both tables: two would need twice the stack.
    if let Some(entry) = assured.or_else(|| F::unassured(key).get_ptr_mut(key)) {
        // SAFETY: map values live as long as the program runs. Other CPUs may write at the same time: every field is
        // written whole, and each combination of old and new fields is a flow that could have been seen. Where flows are not
        // assured, the least recently used entry may become another flow's while it is read: an expiry or a state that is not
        // its own then.
        let flow = unsafe { entry.read() };
        if flow.is_live(now_ns) {
            let mut known = KnownFlow::found(&flow, side, now_ns);
            match step(&flow, side, event, from, now_ns) {
                Observed::Nothing => return Tracking::Known(known),
                Observed::Continues(mut seen) => {
                    if !is_in_flows && seen.state.is_assured() {
                        let (expires_ns, _) = flow.renewal(seen, globals::timeout_secs, now_ns);
                        let assured = Flow { state: seen.state, numbers: seen.numbers, expires_ns, ..flow };
                        let promotion = promote::<F>(key, assured, scratch.lend());
                        known.becomes_assured = promotion == DONE;
                        // Datagrams go on where they are: they lose nothing if they are turned over.
                        if key.protocol() == TCP {
                            known.refusal = refusal(promotion);
                        }
                        seen = flow.seen();
                    }
                    if !known.becomes_assured && known.refusal.is_none() {
                        renew(entry, &flow, seen, now_ns);
                    }
                    return Tracking::Known(known);
                }
                Observed::Restarts => {}
            }
        }
        forget::<F>(key, &flow, is_in_flows, flow.initiator == side, scratch);
    }
    Tracking::New(NewFlow { now_ns, from, seen: begin(packet.tuple.protocol, event, from, now_ns) })
}

#[inline(always)]
fn step(flow: &Flow, side: Side, event: Event, from: Origin, now_ns: u64) -> Observed {
    observe(flow.seen(), flow.origin, &Arrival { sender: flow.sender(side), from, now_ns }, event)
}

/// What the first packet of a flow does to it.
#[inline(always)]
fn begin(protocol: u8, event: Event, from: Origin, now_ns: u64) -> Seen {
    let new = unseen(protocol, State::NEW, now_ns);
    match observe(new, from, &Arrival { sender: Sender::Initiator, from, now_ns }, event) {
        Observed::Continues(seen) => seen,
        Observed::Nothing | Observed::Restarts => new,
    }
}

/// What is known of a flow of which no segment counted yet.
#[inline(always)]
fn unseen(protocol: u8, datagram: State, now_ns: u64) -> Seen {
    if protocol == TCP { Seen::NEW } else { Seen::datagram(datagram, now_ns) }
}

#[inline(always)]
fn renew(entry: *mut Flow, flow: &Flow, seen: Seen, now_ns: u64) {
    let (expires_ns, is_worth_writing) = flow.renewal(seen, globals::timeout_secs, now_ns);
    if is_worth_writing {
        // SAFETY: as in `track`.
        let entry = unsafe { &mut *entry };
        entry.state = seen.state;
        entry.numbers = seen.numbers;
        entry.expires_ns = expires_ns;
    }
}

/// What becomes of a promotion.
const DONE: u64 = 0;
const NO_ROOM: u64 = 1;
const SHARE_IS_HELD: u64 = 2;

#[inline(always)]
fn refusal(promotion: u64) -> Option<DropReason> {
    match promotion {
        DONE => None,
        SHARE_IS_HELD => Some(DropReason::PodFlowShare),
        _ => Some(DropReason::FlowTableFull),
    }
}

/// Moves a flow to the connection table. If that is full, or the pod has its share of it, the flow stays where it is, to be lost
/// to a flood.
#[inline(always)]
fn promote<F: Tables>(key: &FlowKey<F::Address>, assured: Flow, mut right: ScratchRef<'_, F>) -> u64 {
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
    // SAFETY: map values live as long as the program runs.
    let number = unsafe { if is_promoted { &raw mut (*flows).promoted } else { &raw mut (*flows).removed } };
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
fn forget<F: Tables>(
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
    if F::VERSION == V4::VERSION { flow_forget4(how) } else { flow_forget6(how) };
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

impl NewFlow {
    /// Remembers the flow as opened by the sender of the packet.
    #[inline(always)]
    pub fn open<F: Tables>(&self, tuple: &Tuple<F::Address>, path: Path, nat: Nat) -> Result<Path, DropReason> {
        self.remember::<F>(tuple, Opening { path, nat, nat_port: Be16(0) })
    }

    #[inline(always)]
    pub fn open_translated<F: Tables>(
        &self,
        tuple: &Tuple<F::Address>,
        path: Path,
        nat_port: Be16,
    ) -> Result<Path, DropReason> {
        self.remember::<F>(tuple, Opening { path, nat: Nat::TRANSLATED, nat_port })
    }

    #[inline(always)]
    fn remember<F: Tables>(&self, tuple: &Tuple<F::Address>, opening: Opening) -> Result<Path, DropReason> {
        let is_there = remember_apart::<F>(tuple, self, opening.to_word());
        if is_there { Ok(opening.path) } else { Err(DropReason::FlowTableFull) }
    }

    /// Remembers a translated flow again whose entry was lost: the packet is a reply, its receiver opened the flow. It may be
    /// forged, so the flow is not assured before the receiver goes on.
    #[inline(always)]
    pub fn reopen_for_receiver<F: Tables>(
        &self,
        tuple: &Tuple<F::Address>,
        path: Path,
        nat_port: Be16,
    ) -> Result<Path, DropReason> {
        let opening = Opening { path, nat: Nat::TRANSLATED, nat_port };
        let is_there = reopen_apart::<F>(tuple, self.now_ns, opening.to_word());
        if is_there { Ok(path) } else { Err(DropReason::FlowTableFull) }
    }
}

/// What was decided for a new flow; as one word it takes no place on a caller's stack.
#[derive(Clone, Copy)]
struct Opening {
    path: Path,
    nat: Nat,
    nat_port: Be16,
}

impl Opening {
    fn to_word(self) -> u32 {
        u32::from(self.nat_port.0) << 16 | u32::from(self.nat.0) << 8 | u32::from(self.path.0)
    }

    fn of_word(word: u32) -> Self {
        Self { path: Path(word as u8), nat: Nat((word >> 8) as u8), nat_port: Be16((word >> 16) as u16) }
    }
}

#[inline(never)]
fn remember_apart<F: Tables>(tuple: &Tuple<F::Address>, new: &NewFlow, opening: u32) -> bool {
    let (key, side) = FlowKey::of(tuple);
    insert::<F>(&key, side, new.from, new.seen, opening, new.now_ns)
}

#[inline(never)]
fn reopen_apart<F: Tables>(tuple: &Tuple<F::Address>, now_ns: u64, opening: u32) -> bool {
    let (key, side) = FlowKey::of(tuple);
    let seen = unseen(key.protocol(), State(State::SEEN_REPLY), now_ns);
    insert::<F>(&key, side.other(), Origin::NODE, seen, opening, now_ns)
}

/// No packet assures a flow that it opens. BPF_ANY: an entry that is there has expired or ended.
#[inline(always)]
fn insert<F: Tables>(
    key: &FlowKey<F::Address>,
    initiator: Side,
    origin: Origin,
    seen: Seen,
    opening: u32,
    now_ns: u64,
) -> bool {
    let Opening { path, nat, nat_port } = Opening::of_word(opening);
    let mut flow = Flow { nat_port, ..Flow::new(key, initiator, origin, path, nat, seen) };
    (flow.expires_ns, _) = flow.renewal(seen, globals::timeout_secs, now_ns);
    F::unassured(key).insert(key, &flow, u64::from(BPF_ANY)).is_ok()
}
