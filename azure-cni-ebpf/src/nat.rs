//! Step: source NAT. A port of the node is held towards one destination by at most one flow.
//!
//! A claim is one insert into the opening translations that fails if the key is there: two CPUs cannot get the same port.
//! Whoever has it looks whether an established flow holds the port. A port whose holder's flow is over is taken over under
//! a lock of its own, which is such an insert too. The translation is claimed before the flow is remembered, and a claim
//! that is a moment old is never taken over.

use core::ffi::c_void;

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use aya_ebpf::helpers::generated::bpf_loop;
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::family::Be16;
use azure_cni_common::flow::{FlowKey, Nat, Path, Tuple};
use azure_cni_common::nat::{Candidates, MAX_TAKE_OVERS, MAX_TRIES, NatHolder, NatKey, search_start};

use crate::conntrack::{self, KnownFlow, NewFlow};
use crate::maps::{self, Scratch, Tables};

/// Whether a port of the node may be held by a translated flow. Port 0 stands for "no ports".
pub fn can_be_held(port: Be16) -> bool {
    port == Be16(0) || maps::NAT_PORTS.load().contains(port.to_host())
}

/// Who holds the port of the node that a packet from the wire is for.
#[inline(always)]
pub fn holder_of<F: Tables>(key: &NatKey<F::Address>) -> Option<&'static NatHolder<F::Address>> {
    if !can_be_held(key.node_port) {
        return None;
    }
    // SAFETY: a reader during a replacement sees the old or the new holder, or an address and a port of both: then the
    // packet was for nobody who still wants it.
    let established = unsafe { F::translations().get(key) };
    // SAFETY: as above.
    established.or_else(|| unsafe { F::half_open_translations().get(key) })
}

/// The other side has answered: the translation is not to be lost to a flood any more. `tuple` is the answer's as the pod
/// sees it, `port` the node's. False if there is no room.
#[inline(never)]
pub fn promote<F: Tables>(tuple: &Tuple<F::Address>, port: Be16, node_is_holder: bool, now_ns: u64) -> bool {
    let Some(scratch) = F::scratch() else { return false };
    let node = F::node_address();
    scratch.key = NatKey::for_incoming(tuple);
    (scratch.key.node, scratch.key.node_port) = (node, port);
    let address = if node_is_holder { node } else { tuple.destination };
    scratch.holder = NatHolder::new(address, tuple.destination_port, now_ns);
    establish::<F>(&scratch.key, &scratch.holder)
}

#[inline(always)]
fn establish<F: Tables>(key: &NatKey<F::Address>, holder: &NatHolder<F::Address>) -> bool {
    match F::translations().insert(key, holder, NOEXIST) {
        Err(error) if error != -EEXIST => return false,
        _ => {}
    }
    let _ = F::half_open_translations().remove(key);
    true
}

/// Remembers a new flow with the port it is to have. If that fails, nobody has the port.
#[inline(always)]
pub fn open<F: Tables>(new: &NewFlow, tuple: &Tuple<F::Address>, path: Path, port: Be16) -> Result<(), DropReason> {
    let opened = new.open_translated::<F>(tuple, path, port);
    if opened.is_err() {
        release::<F>(tuple, port);
    }
    opened.map(|_| ())
}

#[inline(never)]
fn release<F: Tables>(tuple: &Tuple<F::Address>, port: Be16) {
    let _ = F::half_open_translations().remove(&NatKey::for_outgoing(tuple, F::node_address(), port));
}

/// The port of a translated flow whose initiator goes on; if its translation was lost, the flow gets one again.
#[inline(always)]
pub fn port_of<F: Tables>(known: &KnownFlow, tuple: &Tuple<F::Address>) -> Result<Be16, DropReason> {
    let port = known.flow.nat_port;
    let key = NatKey::for_outgoing(tuple, F::node_address(), port);
    // Where it is to be expected.
    let is_assured = known.flow.state.is_assured(known.flow.origin);
    let present = if is_assured {
        // SAFETY: as in `holder_of`.
        unsafe { F::translations().get(&key) }
    } else {
        // SAFETY: as above.
        unsafe { F::half_open_translations().get(&key) }
    };
    match present {
        Some(holder) if holder.address == tuple.source && holder.port == tuple.source_port => Ok(port),
        _ => heal::<F>(tuple, port, is_assured, known.now_ns).into_result(),
    }
}

/// A flow's translation was lost: it gets the same port again, or another.
#[inline(never)]
fn heal<F: Tables>(tuple: &Tuple<F::Address>, port: Be16, is_assured: bool, now_ns: u64) -> Allocation {
    let allocation =
        if hold_again::<F>(tuple, port, now_ns) { Allocation::port(port) } else { claim_word::<F>(tuple, now_ns) };
    if allocation.attempt() != HELD {
        return allocation;
    }
    let port = allocation.get();
    conntrack::set_nat::<F>(tuple, Nat::TRANSLATED, port);
    if is_assured && !promote_outgoing::<F>(tuple, port, now_ns) {
        return Allocation::none(TABLE_FULL);
    }
    allocation
}

#[inline(never)]
fn hold_again<F: Tables>(tuple: &Tuple<F::Address>, port: Be16, now_ns: u64) -> bool {
    let Some(scratch) = F::scratch() else { return false };
    scratch.key = NatKey::for_outgoing(tuple, F::node_address(), port);
    scratch.holder = NatHolder::new(tuple.source, tuple.source_port, now_ns);
    hold::<F>(&scratch.key, &scratch.holder) == HELD
}

#[inline(never)]
fn promote_outgoing<F: Tables>(tuple: &Tuple<F::Address>, port: Be16, now_ns: u64) -> bool {
    let Some(scratch) = F::scratch() else { return false };
    scratch.key = NatKey::for_outgoing(tuple, F::node_address(), port);
    scratch.holder = NatHolder::new(tuple.source, tuple.source_port, now_ns);
    establish::<F>(&scratch.key, &scratch.holder)
}

/// Notes that a socket of the host uses its own port towards this destination.
#[inline(always)]
pub fn reserve_for_host<F: Tables>(tuple: &Tuple<F::Address>, now_ns: u64) -> Result<(), DropReason> {
    match reserve::<F>(tuple, now_ns) {
        HELD => Ok(()),
        TAKEN => Err(DropReason::HostPortTaken),
        _ => Err(DropReason::NatTableFull),
    }
}

#[inline(never)]
fn reserve<F: Tables>(tuple: &Tuple<F::Address>, now_ns: u64) -> Attempt {
    let Some(scratch) = F::scratch() else { return TABLE_FULL };
    scratch.key = NatKey::for_outgoing(tuple, F::node_address(), tuple.source_port);
    scratch.holder = NatHolder::new(tuple.source, tuple.source_port, now_ns);
    scratch.now_ns = now_ns;
    match hold::<F>(&scratch.key, &scratch.holder) {
        TAKEN if take_over::<F>(scratch) => HELD,
        other => other,
    }
}

/// A port, or why there is none, as one word: what functions that are not inlined return has no part that is not set.
#[derive(Clone, Copy)]
struct Allocation(u64);

impl Allocation {
    const fn port(port: Be16) -> Self {
        Self((port.0 as u64) << 32 | HELD as u64)
    }

    const fn none(attempt: Attempt) -> Self {
        Self(attempt as u64)
    }

    const fn attempt(self) -> Attempt {
        self.0 as Attempt
    }

    const fn get(self) -> Be16 {
        Be16((self.0 >> 32) as u16)
    }

    #[inline(always)]
    fn into_result(self) -> Result<Be16, DropReason> {
        match self.attempt() {
            HELD => Ok(self.get()),
            TAKEN => Err(DropReason::NatPortsExhausted),
            _ => Err(DropReason::NatTableFull),
        }
    }
}

/// Holds a port for a flow: the one it held before, a free one, or one whose holder's flow is over.
#[inline(always)]
pub fn claim<F: Tables>(tuple: &Tuple<F::Address>, now_ns: u64) -> Result<Be16, DropReason> {
    claim_word::<F>(tuple, now_ns).into_result()
}

#[inline(always)]
fn claim_word<F: Tables>(tuple: &Tuple<F::Address>, now_ns: u64) -> Allocation {
    let Some(scratch) = F::scratch() else { return Allocation::none(TABLE_FULL) };
    scratch.tuple = *tuple;
    Allocation(F::search(now_ns))
}

/// For the tuple in [`Scratch`]; returns an [`Allocation`]. The tries are calls of one function (bpf_loop, Linux 5.17), which the
/// verifier walks once and not once a try.
#[inline(always)]
pub fn search<F: Tables>(now_ns: u64) -> u64 {
    let Some(scratch) = F::scratch() else { return Allocation::none(TABLE_FULL).0 };
    scratch.now_ns = now_ns;
    scratch.candidates = candidates::<F>(&scratch.tuple);
    scratch.holder = NatHolder::new(scratch.tuple.source, scratch.tuple.source_port, now_ns);
    scratch.key = NatKey::for_outgoing(&scratch.tuple, F::node_address(), Be16(0));
    scratch.allocation = Allocation::none(TAKEN).0;
    repeat(MAX_TRIES, try_to_hold::<F>);
    if Allocation(scratch.allocation).attempt() == TAKEN {
        repeat(MAX_TAKE_OVERS, try_to_take_over::<F>);
    }
    scratch.allocation
}

/// A step of a loop: told the round, it says whether the loop goes on (0) or ends (1).
type Round = extern "C" fn(u32, *mut c_void) -> u64;

fn repeat(rounds: u32, round: Round) {
    // SAFETY: the function is of the form that the helper calls (include/uapi/linux/bpf.h, bpf_loop); it is given no memory.
    unsafe { bpf_loop(rounds, round as *mut c_void, core::ptr::null_mut(), 0) };
}

const GO_ON: u64 = 0;
const END: u64 = 1;

extern "C" fn try_to_hold<F: Tables>(round: u32, _: *mut c_void) -> u64 {
    let Some(scratch) = F::scratch() else { return END };
    let Some(port) = scratch.candidates.port(round) else { return END };
    if maps::is_host_port(scratch.key.protocol(), port) {
        return GO_ON;
    }
    scratch.key.node_port = port;
    let mut attempt = hold::<F>(&scratch.key, &scratch.holder);
    // The first is the one that nobody else is given before all others are taken.
    if attempt == TAKEN && round == 0 && take_over::<F>(scratch) {
        attempt = HELD;
    }
    scratch.allocation = if attempt == HELD { Allocation::port(port).0 } else { Allocation::none(attempt).0 };
    if attempt == TAKEN { GO_ON } else { END }
}

extern "C" fn try_to_take_over<F: Tables>(round: u32, _: *mut c_void) -> u64 {
    let Some(scratch) = F::scratch() else { return END };
    let Some(port) = scratch.candidates.port(round) else { return END };
    scratch.key.node_port = port;
    if maps::is_host_port(scratch.key.protocol(), port) || !take_over::<F>(scratch) {
        return GO_ON;
    }
    scratch.allocation = Allocation::port(port).0;
    END
}

/// The port that the sender of a packet in mid-stream holds, if the flow that the packet belongs to was forgotten.
#[inline(always)]
pub fn find_held_port<F: Tables>(tuple: &Tuple<F::Address>) -> Option<Be16> {
    find_held_port_word::<F>(tuple).into_result().ok()
}

#[inline(never)]
fn find_held_port_word<F: Tables>(tuple: &Tuple<F::Address>) -> Allocation {
    let Some(scratch) = F::scratch() else { return Allocation::none(TAKEN) };
    let candidates = candidates::<F>(tuple);
    scratch.holder = NatHolder::new(tuple.source, tuple.source_port, 0);
    scratch.key = NatKey::for_outgoing(tuple, F::node_address(), Be16(0));
    for try_number in 0..MAX_TAKE_OVERS {
        let Some(port) = candidates.port(try_number) else { break };
        scratch.key.node_port = port;
        // SAFETY: as in `holder_of`.
        if unsafe { F::translations().get(&scratch.key) }.is_some_and(|holder| holder.is_same(&scratch.holder)) {
            return Allocation::port(port);
        }
    }
    Allocation::none(TAKEN)
}

fn candidates<F: Tables>(tuple: &Tuple<F::Address>) -> Candidates {
    let start = search_start(maps::NAT_SEED.load(), tuple);
    Candidates::new(maps::NAT_PORTS.load(), tuple.protocol, F::ICMP, tuple.source_port, start)
}

/// What becomes of an attempt to hold a port.
type Attempt = u32;
const HELD: Attempt = 0;
const TAKEN: Attempt = 1;
const TABLE_FULL: Attempt = 2;

const NOEXIST: u64 = BPF_NOEXIST as u64;

/// include/uapi/asm-generic/errno-base.h
const EEXIST: i32 = 17;

/// Holds a port that nobody holds, or that this very flow holds already. A function of its own, so that the verifier
/// walks it once a try and not once for each way through the tries before.
#[inline(never)]
fn hold<F: Tables>(key: &NatKey<F::Address>, holder: &NatHolder<F::Address>) -> Attempt {
    match F::half_open_translations().insert(key, holder, NOEXIST) {
        Ok(()) => {}
        Err(error) if error == -EEXIST => {
            // SAFETY: as in `holder_of`.
            let present = unsafe { F::half_open_translations().get(key) };
            return if present.is_some_and(|present| present.is_same(holder)) { HELD } else { TAKEN };
        }
        Err(_) => return TABLE_FULL,
    }
    // SAFETY: as in `holder_of`.
    let Some(established) = (unsafe { F::translations().get(key) }) else { return HELD };
    let is_ours = established.is_same(holder);
    let _ = F::half_open_translations().remove(key);
    if is_ours { HELD } else { TAKEN }
}

/// Takes a port from a holder whose flow is over, or translated to another port.
#[inline(never)]
fn take_over<F: Tables>(scratch: &mut Scratch<F>) -> bool {
    // One CPU at a time, for each port.
    if F::take_overs().insert(&scratch.key, &0, NOEXIST).is_err() {
        return false;
    }
    let is_taken = !is_in_use::<F>(scratch, true) && !is_in_use::<F>(scratch, false) && {
        let _ = F::translations().remove(&scratch.key);
        // Who claims a port without a lock does so only where nobody holds it.
        F::half_open_translations().insert(&scratch.key, &scratch.holder, u64::from(BPF_ANY)).is_ok()
    };
    let _ = F::take_overs().remove(&scratch.key);
    is_taken
}

/// Whether the holder in one of the tables has a flow that is alive, or is about to have one.
#[inline(always)]
fn is_in_use<F: Tables>(scratch: &mut Scratch<F>, opening: bool) -> bool {
    let now_ns = scratch.now_ns;
    let holder = if opening {
        // SAFETY: as in `holder_of`.
        unsafe { F::half_open_translations().get(&scratch.key) }
    } else {
        // SAFETY: as in `holder_of`.
        unsafe { F::translations().get(&scratch.key) }
    };
    let Some(holder) = holder else { return false };
    if holder.is_claiming(now_ns) {
        return true;
    }
    scratch.tuple = holder.initiator_tuple(&scratch.key);
    let (holding, initiator) = FlowKey::of(&scratch.tuple);
    scratch.holding = holding;
    match conntrack::peek::<F>(&scratch.holding, now_ns) {
        Some(flow) => flow.initiator == initiator && flow.holds_port(scratch.key.node_port),
        None => false,
    }
}
