//! Step: which port of the node a new flow leaves from. A port is held towards one destination by at most one flow.
//!
//! A claim is one insert into the half-open translations that fails if the key is there: two CPUs cannot get the same port.
//! The CPU that has it looks whether an assured flow holds the port. A port whose holder's flow is over is taken over under
//! a lock of its own, which is such an insert too. The translation is claimed before the flow is remembered, and a claim
//! that is a moment old is never taken over.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::family::{Be16, Family, V4, V6};
use azure_cni_common::flow::Tuple;
use azure_cni_common::nat::{
    Candidates, MAX_TAKE_OVERS, MAX_TRIES, NatHolder, NatKey, SearchKeys, TRIES_AFTER_REFUSAL,
};

use crate::globals;
use crate::scratch::{Scratch, ScratchRef};
use crate::tables::{EEXIST, Tables, is_host_port, live_flow, recent_refusal};

/// Holds a port for a flow: the one it held before, a free one, or one whose holder's flow is over.
#[inline(always)]
pub fn claim<F: Tables>(
    tuple: &Tuple<F::Address>,
    now_ns: u64,
    scratch: ScratchRef<'_, F>,
) -> Result<Be16, DropReason> {
    claim_word::<F>(tuple, now_ns, scratch).into_result()
}

#[inline(always)]
pub(super) fn claim_word<F: Tables>(
    tuple: &Tuple<F::Address>,
    now_ns: u64,
    mut right: ScratchRef<'_, F>,
) -> Allocation {
    let Some(scratch) = right.get() else { return Allocation::none(TABLE_FULL) };
    scratch.tuple = *tuple;
    // A global function: the verifier walks it once, however many ways lead to it (Documentation/bpf/verifier.rst). It may take
    // and return numbers only, so its flow is in scratch.
    Allocation(if F::VERSION == V4::VERSION { nat_search4(now_ns) } else { nat_search6(now_ns) })
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn nat_search4(now_ns: u64) -> u64 {
    // SAFETY: `claim_word` alone calls it, which has the right and no reference while it waits.
    search(unsafe { ScratchRef::<V4>::assume() }, now_ns).0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn nat_search6(now_ns: u64) -> u64 {
    // Before 6.8, the kernel verifies a global function also if nothing leads to it.
    if !globals::has_ipv6() {
        return Allocation::none(TABLE_FULL).0;
    }
    // SAFETY: as above.
    search(unsafe { ScratchRef::<V6>::assume() }, now_ns).0
}

/// For the tuple in [`Scratch`].
#[inline(always)]
fn search<F: Tables>(mut right: ScratchRef<'_, F>, now_ns: u64) -> Allocation {
    let Some(scratch) = right.get() else { return Allocation::none(TABLE_FULL) };
    scratch.now_ns = now_ns;
    find_candidates(scratch);
    scratch.holder = NatHolder::new(scratch.tuple.source, scratch.tuple.source_port, now_ns);
    scratch.key = NatKey::for_outgoing(&scratch.tuple, F::node_address(), Be16(0));
    let mut found = Allocation::none(TAKEN);
    repeat::<F, Hold>(MAX_TRIES, scratch, &mut found);
    if found.attempt() == TAKEN {
        repeat::<F, TakeOver>(MAX_TAKE_OVERS, scratch, &mut found);
    }
    if found.attempt() == TAKEN && !scratch.candidates.has_ports() { Allocation::none(ADDRESS_TAKEN) } else { found }
}

/// Tries one candidate after the other to hold a port that is free.
struct Hold;

impl<F: Tables> Round<F> for Hold {
    #[inline(always)]
    fn run(round: u32, scratch: &mut Scratch<F>, found: &mut Allocation) -> Go {
        let Some(port) = scratch.candidates.port(round) else { return Go::End };
        if round == TRIES_AFTER_REFUSAL && was_refused_a_moment_ago(scratch) {
            *found = Allocation::none(GIVEN_UP);
            return Go::End;
        }
        if is_host_port(scratch.key.protocol(), port) {
            return Go::On;
        }
        scratch.key.node_port = port;
        let mut attempt = hold::<F>(scratch);
        // The first is the one that no other flow is given before all others are taken.
        if attempt == TAKEN && round == 0 && take_over::<F>(scratch) {
            attempt = HELD;
        }
        *found = if attempt == HELD { Allocation::port(port) } else { Allocation::none(attempt) };
        if attempt == TAKEN {
            return Go::On;
        }
        if attempt == HELD && round > 0 {
            forget_refusal(scratch);
        }
        Go::End
    }
}

/// Whether a search of the same pod towards the same destination has failed a moment ago: this one will, most likely.
#[inline(never)]
fn was_refused_a_moment_ago<F: Tables>(scratch: &mut Scratch<F>) -> bool {
    find_own_tuple(scratch);
    recent_refusal::<F>(&scratch.tuple, DropReason::NatPortsExhausted)
        .is_some_and(|(place, key)| place.is_of(key, scratch.now_ns))
}

/// Whoever holds a candidate has left its tuple in scratch.
#[inline(always)]
fn find_own_tuple<F: Tables>(scratch: &mut Scratch<F>) {
    scratch.tuple = scratch.holder.initiator_tuple(&scratch.key);
}

/// There are ports again.
#[inline(never)]
fn forget_refusal<F: Tables>(scratch: &mut Scratch<F>) {
    find_own_tuple(scratch);
    if let Some((place, key)) = recent_refusal::<F>(&scratch.tuple, DropReason::NatPortsExhausted) {
        place.forget(key);
    }
}

/// Tries the first candidates again: the flow of a holder may be over.
struct TakeOver;

impl<F: Tables> Round<F> for TakeOver {
    #[inline(always)]
    fn run(round: u32, scratch: &mut Scratch<F>, found: &mut Allocation) -> Go {
        let Some(port) = scratch.candidates.port(round) else { return Go::End };
        scratch.key.node_port = port;
        if is_host_port(scratch.key.protocol(), port) || !take_over::<F>(scratch) {
            return Go::On;
        }
        *found = Allocation::port(port);
        Go::End
    }
}

/// A round of a loop.
trait Round<F: Family> {
    fn run(round: u32, scratch: &mut Scratch<F>, found: &mut Allocation) -> Go;
}

/// Whether there is another round.
enum Go {
    On,
    End,
}

/// A plain loop: the kernel's own (bpf_loop) is there from 5.17 on, and needs its compiler (JIT). The verifier walks each round, so what
/// a round asks of the tables is in functions that are not inlined.
#[inline(always)]
fn repeat<F: Tables, R: Round<F>>(rounds: u32, scratch: &mut Scratch<F>, found: &mut Allocation) {
    for round in 0..rounds {
        if matches!(R::run(round, scratch, found), Go::End) {
            break;
        }
    }
}

/// The flow that was to have the port could not be remembered.
#[inline(never)]
pub fn release<F: Tables>(tuple: &Tuple<F::Address>, port: Be16) {
    let _ = F::half_open_translations().remove(&NatKey::for_outgoing(tuple, F::node_address(), port));
}

/// The port that the sender of a packet in mid-stream holds, if the flow that the packet belongs to was forgotten.
#[inline(always)]
pub fn find_held_port<F: Tables>(tuple: &Tuple<F::Address>, scratch: ScratchRef<'_, F>) -> Option<Be16> {
    find_held_port_word::<F>(tuple, scratch).into_result().ok()
}

#[inline(never)]
fn find_held_port_word<F: Tables>(tuple: &Tuple<F::Address>, mut scratch: ScratchRef<'_, F>) -> Allocation {
    let Some(scratch) = scratch.get() else { return Allocation::none(TAKEN) };
    scratch.tuple = *tuple;
    find_candidates(scratch);
    scratch.holder = NatHolder::new(tuple.source, tuple.source_port, 0);
    scratch.key = NatKey::for_outgoing(tuple, F::node_address(), Be16(0));
    for try_number in 0..MAX_TAKE_OVERS {
        let Some(port) = scratch.candidates.port(try_number) else { break };
        scratch.key.node_port = port;
        // SAFETY: as in `tables::holder_of`.
        if unsafe { F::translations().get(&scratch.key) }.is_some_and(|holder| holder.is_same(&scratch.holder)) {
            return Allocation::port(port);
        }
    }
    Allocation::none(TAKEN)
}

/// Of the tuple in scratch. Functions of their own, one after the other: what they need of the stack must not add up.
#[inline(always)]
fn find_candidates<F: Tables>(scratch: &mut Scratch<F>) {
    mix_keys(scratch);
    choose(scratch);
}

#[inline(never)]
fn mix_keys<F: Tables>(scratch: &mut Scratch<F>) {
    scratch.keys = SearchKeys::of(globals::NAT_SEED.load(), &scratch.tuple);
}

#[inline(never)]
fn choose<F: Tables>(scratch: &mut Scratch<F>) {
    let (range, blocks) = (globals::NAT_PORTS.load(), globals::NAT_POD_BLOCKS.load());
    let Tuple { protocol, source_port, .. } = scratch.tuple;
    scratch.candidates = Candidates::new(range, blocks, protocol, F::ICMP, source_port, scratch.keys);
}

/// A port, or why there is none, as one word: what functions that are not inlined return has no part that is not set.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Allocation(u64);

impl Allocation {
    pub const fn port(port: Be16) -> Self {
        Self((port.0 as u64) << 32 | HELD as u64)
    }

    pub const fn none(attempt: Attempt) -> Self {
        Self(attempt as u64)
    }

    pub const fn attempt(self) -> Attempt {
        self.0 as Attempt
    }

    pub const fn get(self) -> Be16 {
        Be16((self.0 >> 32) as u16)
    }

    #[inline(always)]
    pub fn into_result(self) -> Result<Be16, DropReason> {
        match self.attempt() {
            HELD => Ok(self.get()),
            TAKEN | GIVEN_UP => Err(DropReason::NatPortsExhausted),
            ADDRESS_TAKEN => Err(DropReason::NatAddressTaken),
            _ => Err(DropReason::NatTableFull),
        }
    }
}

/// What becomes of an attempt to hold a port.
pub(super) type Attempt = u32;
pub(super) const HELD: Attempt = 0;
pub(super) const TAKEN: Attempt = 1;
pub(super) const TABLE_FULL: Attempt = 2;
/// Not all candidates were tried.
const GIVEN_UP: Attempt = 3;
/// The protocol has no ports.
const ADDRESS_TAKEN: Attempt = 4;

pub(super) const NOEXIST: u64 = BPF_NOEXIST as u64;

/// Holds a port that is free, or that this very flow holds already. A function of its own, so that the verifier
/// walks it once a try and not once for each way through the tries before.
#[inline(never)]
pub(super) fn hold<F: Tables>(scratch: &Scratch<F>) -> Attempt {
    let Scratch { key, holder, .. } = scratch;
    match F::half_open_translations().insert(key, holder, NOEXIST) {
        Ok(()) => {}
        Err(error) if error == -EEXIST => {
            // SAFETY: as in `tables::holder_of`.
            let present = unsafe { F::half_open_translations().get(key) };
            return if present.is_some_and(|present| present.is_same(holder)) { HELD } else { TAKEN };
        }
        Err(_) => return TABLE_FULL,
    }
    // SAFETY: as in `tables::holder_of`.
    let Some(assured) = (unsafe { F::translations().get(key) }) else { return HELD };
    let is_ours = assured.is_same(holder);
    let _ = F::half_open_translations().remove(key);
    if is_ours { HELD } else { TAKEN }
}

/// Takes a port from a holder whose flow is over, or translated to another port.
#[inline(never)]
pub(super) fn take_over<F: Tables>(scratch: &mut Scratch<F>) -> bool {
    // One CPU at a time, for each port.
    if F::take_overs().insert(&scratch.key, &0, NOEXIST).is_err() {
        return false;
    }
    let is_taken = !is_in_use::<F>(scratch, true) && !is_in_use::<F>(scratch, false) && {
        let _ = F::translations().remove(&scratch.key);
        // A port is claimed without a lock only where it is free.
        F::half_open_translations().insert(&scratch.key, &scratch.holder, u64::from(BPF_ANY)).is_ok()
    };
    let _ = F::take_overs().remove(&scratch.key);
    is_taken
}

/// Whether the holder in one of the tables has a flow that is alive, or is about to have one.
#[inline(always)]
fn is_in_use<F: Tables>(scratch: &mut Scratch<F>, half_open: bool) -> bool {
    let now_ns = scratch.now_ns;
    let holder = if half_open {
        // SAFETY: as in `tables::holder_of`.
        unsafe { F::half_open_translations().get(&scratch.key) }
    } else {
        // SAFETY: as in `tables::holder_of`.
        unsafe { F::translations().get(&scratch.key) }
    };
    let Some(holder) = holder else { return false };
    if holder.is_claiming(now_ns) {
        return true;
    }
    scratch.tuple = holder.initiator_tuple(&scratch.key);
    let initiator = scratch.holding.set(&scratch.tuple);
    match live_flow::<F>(&scratch.holding, now_ns) {
        Some(flow) => flow.initiator == initiator && flow.holds_port(scratch.key.node_port),
        None => false,
    }
}
