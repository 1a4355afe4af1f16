//! Step: which flow does a packet belong to, and what does it do to it.
//!
//! The decisions are in `azure_cni_common::conntrack`; here the entry is found, renewed, made, and moved to the
//! connection table once its flow is assured. An expired entry counts as absent, so the data path is right without anyone
//! sweeping the tables.

use aya_ebpf::bindings::BPF_ANY;
use azure_cni_common::conntrack::{Event, Observed, Origin, Sender, State, is_worth_writing, observe};
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::family::Be16;
use azure_cni_common::flow::{Flow, FlowKey, Nat, Path, Side, Tuple};
use azure_cni_common::nat::{NatHolder, NatKey};

use crate::globals;
use crate::packet::{Headers, Packet};
use crate::tables::{Tables, now_ns};

pub enum Tracking {
    Known(KnownFlow),
    New(NewFlow),
}

/// A live flow, after the packet was entered into it.
#[derive(Clone, Copy)]
pub struct KnownFlow {
    /// As it was found; state and expiry are older by this packet.
    pub flow: Flow,
    pub is_initiator: bool,
    /// The flow is assured by this packet and by none before.
    pub becomes_assured: bool,
    /// It is, and the connection table has no room for it.
    pub is_refused: bool,
    pub now_ns: u64,
}

/// A flow that has no live entry yet.
#[derive(Clone, Copy)]
pub struct NewFlow {
    pub now_ns: u64,
    /// What its first packet does to it.
    by_initiator: State,
    by_responder: State,
    side: Side,
}

/// Finds the packet's flow and enters the packet into it.
#[inline(always)]
pub fn track<F: Headers + Tables>(packet: &Packet<F>, event: Event) -> Tracking {
    let now_ns = now_ns();
    let (key, side) = FlowKey::of(&packet.tuple);
    if let Some(entry) = F::flows().get_ptr_mut(&key) {
        // SAFETY: map values live as long as the program runs. Other CPUs may write at the same time: every field is
        // written whole, and each combination of old and new fields is a flow that could have been seen.
        let flow = unsafe { entry.read() };
        if flow.is_live(now_ns)
            && let Observed::Continues(state) = observe(flow.state, flow.sender(side), event)
        {
            renew(entry, &flow, state, key.protocol(), now_ns);
            let is_initiator = flow.initiator == side;
            return Tracking::Known(KnownFlow {
                flow,
                is_initiator,
                becomes_assured: false,
                is_refused: false,
                now_ns,
            });
        }
        let _ = F::flows().remove(&key);
        release_port::<F>(&key, &flow, side);
    } else if let Some(entry) = F::half_open().get_ptr_mut(&key) {
        // SAFETY: as above. The least recently used entry may become another flow's while it is read: an expiry or a
        // state that is not its own then, for a flow that has no reply yet.
        let flow = unsafe { entry.read() };
        if flow.is_live(now_ns)
            && let Observed::Continues(state) = observe(flow.state, flow.sender(side), event)
        {
            let becomes_assured = state.is_assured(flow.origin);
            let is_refused = becomes_assured && promote::<F>(&key, &flow, state, now_ns).is_err();
            if !becomes_assured {
                renew(entry, &flow, state, key.protocol(), now_ns);
            }
            return Tracking::Known(KnownFlow {
                flow,
                is_initiator: flow.initiator == side,
                becomes_assured,
                is_refused,
                now_ns,
            });
        }
        release_port::<F>(&key, &flow, side);
    }
    Tracking::New(NewFlow {
        now_ns,
        by_initiator: begin(Sender::Initiator, event),
        by_responder: begin(Sender::Responder, event),
        side,
    })
}

fn begin(sender: Sender, event: Event) -> State {
    match observe(State::NEW, sender, event) {
        Observed::Continues(state) => state,
        Observed::Restarts => State::NEW,
    }
}

#[inline(always)]
fn renew(entry: *mut Flow, flow: &Flow, state: State, protocol: u8, now_ns: u64) {
    let expires_ns = globals::TIMEOUTS.load().expiry_ns(now_ns, protocol, state);
    if state != flow.state || is_worth_writing(flow.expires_ns, expires_ns) {
        // SAFETY: as in `track`.
        let entry = unsafe { &mut *entry };
        entry.state = state;
        entry.expires_ns = expires_ns;
    }
}

/// Moves a flow to the connection table. If that is full, the flow stays where it is, to be lost to a flood.
#[inline(never)]
fn promote<F: Tables>(key: &FlowKey<F::Address>, flow: &Flow, state: State, now_ns: u64) -> Result<(), i32> {
    let expires_ns = globals::TIMEOUTS.load().expiry_ns(now_ns, key.protocol(), state);
    let assured = Flow { state, expires_ns, ..*flow };
    F::flows().insert(key, &assured, u64::from(BPF_ANY))?;
    let _ = F::half_open().remove(key);
    Ok(())
}

/// The flow's translation has no room: the flow waits for a reply as before.
#[inline(never)]
pub fn demote<F: Tables>(tuple: &Tuple<F::Address>, flow: &Flow) {
    let (key, _) = FlowKey::of(tuple);
    let _ = F::half_open().insert(&key, flow, u64::from(BPF_ANY));
    let _ = F::flows().remove(&key);
}

/// A dead flow gives its port back when its initiator begins again, unless another flow has taken the port over. For the
/// other side it stays: a late reply finds the translation as it was, and revives the flow with it.
#[inline(never)]
fn release_port<F: Tables>(key: &FlowKey<F::Address>, flow: &Flow, side: Side) {
    if flow.nat != Nat::TRANSLATED || flow.initiator != side {
        return;
    }
    let sent = key.tuple_from(flow.initiator);
    let held = NatKey::for_outgoing(&sent, F::node_address(), flow.nat_port);
    let ours = NatHolder::new(sent.source, sent.source_port, 0);
    // SAFETY: the value is read at once.
    if unsafe { F::translations().get(&held) }.is_some_and(|holder| holder.is_same(&ours)) {
        let _ = F::translations().remove(&held);
    }
    // SAFETY: as above.
    if unsafe { F::half_open_translations().get(&held) }.is_some_and(|holder| holder.is_same(&ours)) {
        let _ = F::half_open_translations().remove(&held);
    }
}

impl NewFlow {
    /// Whether the flow is assured at once when it is opened again for the receiver of its packet.
    pub fn is_assured_for_receiver(&self) -> bool {
        self.by_responder.is_assured(Origin::NODE)
    }

    /// Remembers the flow as opened by the sender of the packet.
    #[inline(always)]
    pub fn open<F: Tables>(
        &self,
        tuple: &Tuple<F::Address>,
        origin: Origin,
        path: Path,
        nat: Nat,
    ) -> Result<Path, DropReason> {
        let flow = Flow { state: self.by_initiator, ..Flow::new(self.side, origin, path, nat) };
        remember::<F>(tuple, flow, self.now_ns)
    }

    #[inline(always)]
    pub fn open_translated<F: Tables>(
        &self,
        tuple: &Tuple<F::Address>,
        path: Path,
        port: Be16,
    ) -> Result<Path, DropReason> {
        let flow = Flow::new(self.side, Origin::NODE, path, Nat::TRANSLATED);
        remember::<F>(tuple, Flow { nat_port: port, state: self.by_initiator, ..flow }, self.now_ns)
    }

    /// Remembers a translated flow again whose entry was lost: the packet is a reply, its receiver opened the flow.
    #[inline(always)]
    pub fn reopen_for_receiver<F: Tables>(
        &self,
        tuple: &Tuple<F::Address>,
        path: Path,
        port: Be16,
    ) -> Result<Path, DropReason> {
        let flow = Flow::new(self.side.other(), Origin::NODE, path, Nat::TRANSLATED);
        remember::<F>(tuple, Flow { nat_port: port, state: self.by_responder, ..flow }, self.now_ns)
    }
}

#[inline(always)]
fn remember<F: Tables>(tuple: &Tuple<F::Address>, mut flow: Flow, now_ns: u64) -> Result<Path, DropReason> {
    flow.expires_ns = globals::TIMEOUTS.load().expiry_ns(now_ns, tuple.protocol, flow.state);
    if insert::<F>(tuple, &flow) { Ok(flow.path) } else { Err(DropReason::FlowTableFull) }
}

/// BPF_ANY: an entry that is there has expired or ended.
#[inline(never)]
fn insert<F: Tables>(tuple: &Tuple<F::Address>, flow: &Flow) -> bool {
    let (key, _) = FlowKey::of(tuple);
    if flow.is_assured() {
        let is_there = F::flows().insert(&key, flow, u64::from(BPF_ANY)).is_ok();
        // What has expired there must not give back this one's port.
        let _ = F::half_open().remove(&key);
        is_there
    } else {
        F::half_open().insert(&key, flow, u64::from(BPF_ANY)).is_ok()
    }
}
