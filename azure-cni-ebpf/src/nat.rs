//! Step: source NAT. A port of the node is held towards one destination by at most one flow.
//!
//! The claim is one insert that fails if the key is there: two CPUs cannot get the same free port. Taking a port over from
//! a flow that is dead is two steps, and of two CPUs that do it at once the later may undo the earlier: its flow's next
//! connection gets another port. The translation is claimed before the flow is remembered.

use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::family::Be16;
use azure_cni_common::flow::{Nat, Path, Tuple};
use azure_cni_common::layout::{NatHolder, NatKey};
use azure_cni_common::snat::{Candidates, MAX_TAKE_OVERS, MAX_TRIES};

use crate::conntrack::{self, IF_ABSENT, NewFlow};
use crate::maps::{self, Tables};

/// To whom a packet for the node's address belongs.
pub enum Arrival<A> {
    NotTranslated,
    ForHost,
    ForPod(NatHolder<A>),
}

/// Whether a port of the node may be held by a translated flow. Port 0 stands for "no ports".
pub fn can_be_held(port: Be16) -> bool {
    port == Be16(0) || maps::NAT_PORTS.load().contains(port.to_host())
}

pub fn arrival<F: Tables>(tuple: &Tuple<F::Address>) -> Arrival<F::Address> {
    if !can_be_held(tuple.destination_port) {
        return Arrival::NotTranslated;
    }
    // SAFETY: the value is copied at once; a reader during a replacement sees the old or the new holder.
    match unsafe { F::translations().get(&NatKey::for_incoming(tuple)) }.copied() {
        None => Arrival::NotTranslated,
        Some(holder) if holder.address == F::node_address() => Arrival::ForHost,
        Some(holder) => Arrival::ForPod(holder),
    }
}

/// Remembers a new flow with the port it is to have. If that fails, nobody has the port.
pub fn open<F: Tables>(new: &NewFlow<F>, path: Path, port: Be16) -> Result<(), DropReason> {
    let opened = new.open_translated(path, port);
    if opened.is_err() {
        let _ = F::translations().remove(&NatKey::for_outgoing(&new.tuple, F::node_address(), port));
    }
    opened.map(|_| ())
}

/// Notes that a socket of the host uses its own port towards this destination.
pub fn reserve_for_host<F: Tables>(new: &NewFlow<F>) -> Result<(), DropReason> {
    let key = NatKey::for_outgoing(&new.tuple, F::node_address(), new.tuple.source_port);
    let holder = NatHolder::new(new.tuple.source, new.tuple.source_port);
    match hold::<F>(&key, &holder) {
        Err(Refused::Taken) if !take_over::<F>(&key, &holder, new.now_ns) => return Err(DropReason::HostPortTaken),
        Err(Refused::TableFull) => return Err(DropReason::NatTableFull),
        _ => {}
    }
    new.open(Path::HOST, Nat::KEEP).map(|_| ())
}

/// Holds a port for a flow: a free one, else one whose holder's flow is over.
#[inline(never)]
pub fn claim<F: Tables>(tuple: &Tuple<F::Address>, now_ns: u64) -> Result<Be16, DropReason> {
    // SAFETY: helper without arguments.
    let random = unsafe { bpf_get_prandom_u32() };
    let candidates = Candidates::new(maps::NAT_PORTS.load(), tuple.protocol, F::ICMP, tuple.source_port, random);
    let holder = NatHolder::new(tuple.source, tuple.source_port);
    let mut key = NatKey::for_outgoing(tuple, F::node_address(), Be16(0));
    for try_number in 0..MAX_TRIES {
        let Some(port) = candidates.port(try_number) else { break };
        key.node_port = port;
        match hold::<F>(&key, &holder) {
            Ok(()) => return Ok(port),
            // The first is the flow's own: the holder may be this very flow, whose entry was lost.
            Err(Refused::Taken) if try_number == 0 && take_over::<F>(&key, &holder, now_ns) => return Ok(port),
            Err(Refused::Taken) => {}
            Err(Refused::TableFull) => return Err(DropReason::NatTableFull),
        }
    }
    for try_number in 0..MAX_TAKE_OVERS {
        let Some(port) = candidates.port(try_number) else { break };
        key.node_port = port;
        if take_over::<F>(&key, &holder, now_ns) {
            return Ok(port);
        }
    }
    Err(DropReason::NatPortsExhausted)
}

enum Refused {
    Taken,
    TableFull,
}

/// include/uapi/asm-generic/errno-base.h
const EEXIST: i32 = 17;

/// Holds a port that nobody holds.
#[inline(always)]
fn hold<F: Tables>(key: &NatKey<F::Address>, holder: &NatHolder<F::Address>) -> Result<(), Refused> {
    F::translations().insert(key, holder, IF_ABSENT).map_err(|error| match error {
        error if error == -EEXIST => Refused::Taken,
        _ => Refused::TableFull,
    })
}

/// Takes a port from a holder whose flow is over, or translated to another port.
#[inline(always)]
fn take_over<F: Tables>(key: &NatKey<F::Address>, holder: &NatHolder<F::Address>, now_ns: u64) -> bool {
    // SAFETY: the value is copied at once.
    let present = unsafe { F::translations().get(key) }.copied();
    let Some(present) = present else { return false };
    let in_use = conntrack::find_opened_by::<F>(&present.opening_tuple(key), now_ns)
        .is_some_and(|flow| flow.holds_port(key.node_port));
    // Removed and held anew; the head of this file says what that leaves open.
    !in_use && F::translations().remove(key).is_ok() && hold::<F>(key, holder).is_ok()
}
