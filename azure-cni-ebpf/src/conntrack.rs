//! Step: which flow does a packet belong to, and what does it do to it.
//!
//! The decisions are in `azure_cni_common::conntrack`; here the entry is found, renewed, made, and moved to the
//! connection table once its flow is settled. An expired entry counts as absent, so the data path is right without anyone
//! sweeping the tables.

use aya_ebpf::{bindings::BPF_ANY, helpers::generated::bpf_ktime_get_coarse_ns};
use azure_cni_common::conntrack::{Event, Observed, State, is_worth_writing, observe};
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::family::Be16;
use azure_cni_common::flow::{Flow, FlowKey, Nat, Origin, Path, Side, Tuple};
use azure_cni_common::layout::{NatHolder, NatKey};

use crate::maps::{self, Tables};
use crate::packet::{Headers, Packet};

pub enum Tracking<F: Tables> {
    Known(Known<F>),
    New(NewFlow<F>),
}

/// A live flow, after the packet was entered into it.
pub struct Known<F: Tables> {
    /// As it was found; state and expiry are older by this packet.
    pub flow: Flow,
    pub is_opener: bool,
    /// The flow is settled by this packet, and the connection table has no room for it.
    pub is_refused: bool,
    pub now_ns: u64,
    key: FlowKey<F::Address>,
}

/// A flow that has no live entry yet.
pub struct NewFlow<F: Tables> {
    pub tuple: Tuple<F::Address>,
    pub now_ns: u64,
    event: Event,
    key: FlowKey<F::Address>,
    side: Side,
}

/// CLOCK_MONOTONIC at the last tick: a few milliseconds late at most, and a third of the cost of the exact time.
pub fn now_ns() -> u64 {
    // SAFETY: helper without arguments.
    unsafe { bpf_ktime_get_coarse_ns() }
}

/// Finds the packet's flow and enters the packet into it.
#[inline(always)]
pub fn track<F: Headers + Tables>(packet: &Packet<F>, event: Event) -> Tracking<F> {
    let now_ns = now_ns();
    let (key, side) = FlowKey::of(&packet.tuple);
    if let Some(entry) = F::flows().get_ptr_mut(&key) {
        // SAFETY: map values live as long as the program runs. Other CPUs may write at the same time: every field is
        // written whole, and each combination of old and new fields is a flow that could have been seen.
        let flow = unsafe { entry.read() };
        if flow.is_live(now_ns)
            && let Observed::Continues(state) = observe(flow.state, flow.sender(side), event)
        {
            renew(entry, &flow, state, key.protocol, now_ns);
            return Tracking::Known(Known { flow, is_opener: flow.opener == side, is_refused: false, now_ns, key });
        }
        let _ = F::flows().remove(&key);
        give_port_back::<F>(&key, &flow, side);
    } else if let Some(entry) = F::opening().get_ptr_mut(&key) {
        // SAFETY: as above. The least recently used entry may become another flow's while it is read: an expiry or a
        // state that is not its own then, for a flow that has not been answered yet.
        let flow = unsafe { entry.read() };
        if flow.is_live(now_ns)
            && let Observed::Continues(state) = observe(flow.state, flow.sender(side), event)
        {
            let is_refused = if state.is_settled(flow.origin) {
                settle::<F>(&key, &flow, state, now_ns).is_err()
            } else {
                renew(entry, &flow, state, key.protocol, now_ns);
                false
            };
            return Tracking::Known(Known { flow, is_opener: flow.opener == side, is_refused, now_ns, key });
        }
        give_port_back::<F>(&key, &flow, side);
    }
    Tracking::New(NewFlow { tuple: packet.tuple, now_ns, event, key, side })
}

#[inline(always)]
fn renew(entry: *mut Flow, flow: &Flow, state: State, protocol: u8, now_ns: u64) {
    let expires_ns = maps::TIMEOUTS.load().expiry_ns(now_ns, protocol, state);
    if state != flow.state || is_worth_writing(flow.expires_ns, expires_ns) {
        // SAFETY: as in `track`.
        let entry = unsafe { &mut *entry };
        entry.state = state;
        entry.expires_ns = expires_ns;
    }
}

/// Moves a flow to the connection table. If that is full, the flow stays where it is, to be lost to a flood.
#[inline(never)]
fn settle<F: Tables>(key: &FlowKey<F::Address>, flow: &Flow, state: State, now_ns: u64) -> Result<(), i32> {
    let expires_ns = maps::TIMEOUTS.load().expiry_ns(now_ns, key.protocol, state);
    let settled = Flow { state, expires_ns, ..*flow };
    F::flows().insert(key, &settled, u64::from(BPF_ANY))?;
    let _ = F::opening().remove(key);
    Ok(())
}

/// A dead flow gives its port back when its opener begins anew, unless another flow has taken the port over. For the
/// other side it stays: a late answer finds the translation as it was, and revives the flow with it.
#[inline(never)]
fn give_port_back<F: Tables>(key: &FlowKey<F::Address>, flow: &Flow, side: Side) {
    if flow.nat != Nat::TRANSLATED || flow.opener != side {
        return;
    }
    let opening = key.tuple_from(flow.opener);
    let held = NatKey::for_outgoing(&opening, F::node_address(), flow.nat_port);
    let ours = NatHolder::new(opening.source, opening.source_port, 0);
    // SAFETY: the value is read at once.
    if unsafe { F::translations().get(&held) }.is_some_and(|holder| holder.is_same(&ours)) {
        let _ = F::translations().remove(&held);
    }
    // SAFETY: as above.
    if unsafe { F::opening_translations().get(&held) }.is_some_and(|holder| holder.is_same(&ours)) {
        let _ = F::opening_translations().remove(&held);
    }
}

impl<F: Tables> Known<F> {
    pub fn set_nat(&self, nat: Nat) {
        if let Some(entry) = self.entry() {
            // SAFETY: as in `track`.
            unsafe { (*entry).nat = nat };
        }
    }

    /// The port first: whoever sees [`Nat::TRANSLATED`] finds it there.
    pub fn set_translation(&self, port: Be16) {
        if let Some(entry) = self.entry() {
            // SAFETY: as in `track`.
            unsafe { (*entry).nat_port = port };
            self.set_nat(Nat::TRANSLATED);
        }
    }

    fn entry(&self) -> Option<*mut Flow> {
        F::flows().get_ptr_mut(&self.key).or_else(|| F::opening().get_ptr_mut(&self.key))
    }
}

impl<F: Tables> NewFlow<F> {
    /// Remembers the flow as opened by the sender of the packet.
    pub fn open(&self, origin: Origin, path: Path, nat: Nat) -> Result<Path, DropReason> {
        self.insert(Flow::opened_by(self.side, origin, path, nat))
    }

    pub fn open_translated(&self, path: Path, port: Be16) -> Result<Path, DropReason> {
        self.insert(Flow { nat_port: port, ..Flow::opened_by(self.side, Origin::NODE, path, Nat::TRANSLATED) })
    }

    /// Remembers a translated flow again whose entry was lost: the packet is an answer, its receiver opened the flow.
    pub fn reopen_for_receiver(&self, path: Path, port: Be16) -> Result<Path, DropReason> {
        let receiver = FlowKey::of(&self.tuple.reversed()).1;
        self.insert(Flow { nat_port: port, ..Flow::opened_by(receiver, Origin::NODE, path, Nat::TRANSLATED) })
    }

    fn insert(&self, mut flow: Flow) -> Result<Path, DropReason> {
        if let Observed::Continues(state) = observe(State::NEW, flow.sender(self.side), self.event) {
            flow.state = state;
        }
        flow.expires_ns = maps::TIMEOUTS.load().expiry_ns(self.now_ns, self.key.protocol, flow.state);
        // BPF_ANY: an entry that is there has expired or ended.
        let inserted = if flow.state.is_settled(flow.origin) {
            F::flows().insert(&self.key, &flow, u64::from(BPF_ANY))
        } else {
            F::opening().insert(&self.key, &flow, u64::from(BPF_ANY))
        };
        inserted.map(|()| flow.path).map_err(|_| DropReason::FlowTableFull)
    }
}

/// The live flow that a packet of this tuple belongs to, and who its sender is in it, as nothing but a look.
#[inline(always)]
pub fn peek<F: Tables>(tuple: &Tuple<F::Address>, now_ns: u64) -> Option<(Flow, bool)> {
    let (key, side) = FlowKey::of(tuple);
    // SAFETY: as in `track`; the value is copied.
    let mut flow = unsafe { F::flows().get(&key) }.copied();
    if flow.is_none() {
        // SAFETY: as above.
        flow = unsafe { F::opening().get(&key) }.copied();
    }
    flow.filter(|flow| flow.is_live(now_ns)).map(|flow| (flow, flow.opener == side))
}
