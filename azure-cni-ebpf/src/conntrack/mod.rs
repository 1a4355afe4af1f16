//! Step: which flow does a packet belong to, and what does it do to it.
//!
//! The decisions are in `azure_cni_common::conntrack`; here the entry is found, renewed, made, and moved to the
//! connection table once its flow is assured. An expired entry counts as absent, so the data path is right without anyone
//! sweeping the tables.

mod assured;

use aya_ebpf::bindings::BPF_ANY;
use azure_cni_common::conntrack::{Arrival, Event, Observed, Origin, Seen, Sender, State, observe};
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::family::{Be16, TCP};
use azure_cni_common::flow::{Flow, FlowKey, Nat, Path, Side};

use crate::globals;
use crate::packet::{Headers, Packet};
use crate::scratch::ScratchRef;
use crate::tables::{Tables, now_ns};

pub use assured::demote;
use assured::{DONE, forget, promote, refusal};

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
    /// Now that the packet has been entered.
    pub fn is_assured(&self) -> bool {
        self.was_assured || self.becomes_assured
    }

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
    let now_ns = now_ns();
    let (event, key, side) = packet.identify();
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
            match flow.observe(side, from, event, now_ns) {
                Observed::Nothing => return Tracking::Known(known),
                Observed::Continues { mut seen, is_owed } => {
                    if !is_in_flows && seen.state.is_assured() {
                        let (expires_ns, _) = flow.renewal(seen, false, globals::timeout_secs, now_ns);
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
                        renew(entry, &flow, seen, is_owed, now_ns);
                    }
                    return Tracking::Known(known);
                }
                Observed::Restarts => {}
            }
        }
        forget::<F>(key, &flow, is_in_flows, flow.initiator == side, scratch);
    }
    Tracking::New(NewFlow { now_ns, from, seen: begin(key.protocol(), event, from, now_ns) })
}

/// What the first packet of a flow does to it.
#[inline(always)]
fn begin(protocol: u8, event: Event, from: Origin, now_ns: u64) -> Seen {
    let new = unseen(protocol, State::NEW, now_ns);
    match observe(new, from, &Arrival { sender: Sender::Initiator, from, now_ns, is_awaited: false }, event) {
        Observed::Continues { seen, .. } => seen,
        Observed::Nothing | Observed::Restarts => new,
    }
}

/// What is known of a flow of which no segment counted yet.
#[inline(always)]
fn unseen(protocol: u8, datagram: State, now_ns: u64) -> Seen {
    if protocol == TCP { Seen::NEW } else { Seen::datagram(datagram, now_ns) }
}

#[inline(always)]
fn renew(entry: *mut Flow, flow: &Flow, seen: Seen, is_owed: bool, now_ns: u64) {
    let (expires_ns, is_worth_writing) = flow.renewal(seen, is_owed, globals::timeout_secs, now_ns);
    if is_worth_writing {
        // SAFETY: as in `track`.
        let entry = unsafe { &mut *entry };
        entry.state = seen.state;
        entry.numbers = seen.numbers;
        entry.expires_ns = expires_ns;
    }
}

impl NewFlow {
    /// Remembers the flow as opened by the sender of the packet.
    #[inline(always)]
    pub fn open<F: Headers + Tables>(&self, packet: &mut Packet<F>, path: Path, nat: Nat) -> Result<Path, DropReason> {
        self.remember::<F>(packet, Opening { path, nat, nat_port: Be16(0) })
    }

    #[inline(always)]
    pub fn open_translated<F: Headers + Tables>(
        &self,
        packet: &mut Packet<F>,
        path: Path,
        nat_port: Be16,
    ) -> Result<Path, DropReason> {
        self.remember::<F>(packet, Opening { path, nat: Nat::TRANSLATED, nat_port })
    }

    #[inline(always)]
    fn remember<F: Headers + Tables>(&self, packet: &mut Packet<F>, opening: Opening) -> Result<Path, DropReason> {
        let is_there = remember_apart::<F>(packet, self, opening.to_word());
        if is_there { Ok(opening.path) } else { Err(DropReason::FlowTableFull) }
    }

    /// Remembers a translated flow again whose entry was lost: the packet is a reply, its receiver opened the flow. It may be
    /// forged, so the flow is not assured before the receiver goes on.
    #[inline(always)]
    pub fn reopen_for_receiver<F: Headers + Tables>(
        &self,
        packet: &mut Packet<F>,
        path: Path,
        nat_port: Be16,
    ) -> Result<Path, DropReason> {
        let opening = Opening { path, nat: Nat::TRANSLATED, nat_port };
        let is_there = reopen_apart::<F>(packet, self.now_ns, opening.to_word());
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

/// The key is made where the packet has its place for it: with the flow, it would take too much of the stack.
#[inline(never)]
fn remember_apart<F: Headers + Tables>(packet: &mut Packet<F>, new: &NewFlow, opening: u32) -> bool {
    let side = packet.flow_key.set(&packet.tuple);
    insert::<F>(&packet.flow_key, side, new.from, new.seen, opening, new.now_ns)
}

#[inline(never)]
fn reopen_apart<F: Headers + Tables>(packet: &mut Packet<F>, now_ns: u64, opening: u32) -> bool {
    let side = packet.flow_key.set(&packet.tuple);
    let seen = unseen(packet.flow_key.protocol(), State(State::SEEN_REPLY), now_ns);
    insert::<F>(&packet.flow_key, side.other(), Origin::NODE, seen, opening, now_ns)
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
    (flow.expires_ns, _) = flow.renewal(seen, false, globals::timeout_secs, now_ns);
    F::unassured(key).insert(key, &flow, u64::from(BPF_ANY)).is_ok()
}
