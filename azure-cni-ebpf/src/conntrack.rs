//! Step: which flow does a packet belong to, and what does it do to it.
//!
//! The decisions are in `azure_cni_common::conntrack`; here the entry is found, renewed and made. An expired entry counts
//! as absent, so the data path is right without anyone sweeping the table.

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST},
    helpers::generated::bpf_ktime_get_coarse_ns,
};
use azure_cni_common::conntrack::{Event, Observed, State, is_worth_writing, observe};
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::family::Be16;
use azure_cni_common::flow::{Flow, FlowKey, Nat, Origin, Path, Side, Tuple};
use azure_cni_common::layout::{NatHolder, NatKey};

use crate::maps::{self, Tables};
use crate::packet::{Headers, Packet};

pub enum Tracking<F: Tables> {
    Known(Known),
    New(NewFlow<F>),
}

/// A live flow, after the packet was entered into it.
pub struct Known {
    /// As it was found; state and expiry are older by this packet.
    pub flow: Flow,
    pub is_opener: bool,
    entry: *mut Flow,
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
            return Tracking::Known(Known { flow, is_opener: flow.opener == side, entry });
        }
        // Only its opener gives a port back: a late answer finds the translation as it was, and revives the flow with it.
        if flow.opener == side {
            forget_translation::<F>(&key, &flow);
        }
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

/// A dead flow gives its port back, unless another flow has taken it over.
fn forget_translation<F: Tables>(key: &FlowKey<F::Address>, flow: &Flow) {
    if flow.nat == Nat::TRANSLATED {
        let opening = key.tuple_from(flow.opener);
        let held = NatKey::for_outgoing(&opening, F::node_address(), flow.nat_port);
        // SAFETY: the value is copied at once.
        let holder = unsafe { F::translations().get(&held) }.copied();
        if holder == Some(NatHolder::new(opening.source, opening.source_port)) {
            let _ = F::translations().remove(&held);
        }
    }
}

impl Known {
    pub fn set_nat(&self, nat: Nat) {
        // SAFETY: as in `track`.
        unsafe { (*self.entry).nat = nat };
    }

    /// The port first: whoever sees [`Nat::TRANSLATED`] finds it there.
    pub fn set_translation(&self, port: Be16) {
        // SAFETY: as in `track`.
        unsafe { (*self.entry).nat_port = port };
        self.set_nat(Nat::TRANSLATED);
    }
}

impl<F: Tables> NewFlow<F> {
    /// Remembers the flow as opened by the sender of the packet.
    pub fn open(&self, path: Path, nat: Nat) -> Result<Path, DropReason> {
        self.insert(Flow::opened_by(self.side, Origin::NODE, path, nat), self.event)
    }

    pub fn open_translated(&self, path: Path, port: Be16) -> Result<Path, DropReason> {
        self.insert(
            Flow { nat_port: port, ..Flow::opened_by(self.side, Origin::NODE, path, Nat::TRANSLATED) },
            self.event,
        )
    }

    /// Remembers a translated flow again whose entry was lost: the packet is an answer, its receiver opened the flow.
    pub fn reopen_for_receiver(&self, path: Path, port: Be16) -> Result<Path, DropReason> {
        let receiver = FlowKey::of(&self.tuple.reversed()).1;
        self.insert(
            Flow { nat_port: port, ..Flow::opened_by(receiver, Origin::NODE, path, Nat::TRANSLATED) },
            self.event,
        )
    }

    fn insert(&self, mut flow: Flow, event: Event) -> Result<Path, DropReason> {
        if let Observed::Continues(state) = observe(State::NEW, flow.sender(self.side), event) {
            flow.state = state;
        }
        flow.expires_ns = maps::TIMEOUTS.load().expiry_ns(self.now_ns, self.key.protocol, flow.state);
        // BPF_ANY: an entry that is there has expired or ended.
        F::flows().insert(&self.key, &flow, u64::from(BPF_ANY)).map_err(|_| DropReason::FlowTableFull)?;
        Ok(flow.path)
    }
}

/// The live flow that the sender of this tuple opened.
pub fn find_opened_by<F: Tables>(opening: &Tuple<F::Address>, now_ns: u64) -> Option<Flow> {
    let (key, side) = FlowKey::of(opening);
    // SAFETY: as in `track`; the value is copied.
    let flow = unsafe { F::flows().get(&key) }.copied()?;
    (flow.is_live(now_ns) && flow.opener == side).then_some(flow)
}

/// For a claim that must not replace another's.
pub const IF_ABSENT: u64 = BPF_NOEXIST as u64;
