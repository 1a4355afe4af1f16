//! Step: source NAT. A port of the node is held towards one destination by at most one flow.
//!
//! A claim is one insert into the opening translations that fails if the key is there: two CPUs cannot get the same port.
//! Whoever has it looks whether an established flow holds the port. A port whose holder's flow is over is taken over under
//! a lock of its own, which is such an insert too. The translation is claimed before the flow is remembered, and a claim
//! that is a moment old is never taken over.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::family::Be16;
use azure_cni_common::flow::{Flow, Nat, Origin, Path, Tuple};
use azure_cni_common::layout::{NatHolder, NatKey};
use azure_cni_common::snat::{Candidates, MAX_TAKE_OVERS, MAX_TRIES, search_start};

use crate::conntrack::{self, Known, NewFlow};
use crate::maps::{self, Tables};

/// To whom a packet for the node's address belongs.
pub enum Arrival<A> {
    NotTranslated,
    Held(Held<A>),
}

/// A port of the node that a flow holds.
pub struct Held<A> {
    pub holder: NatHolder<A>,
    pub is_host: bool,
    /// The other side has not answered until now.
    pub is_opening: bool,
}

/// Whether a port of the node may be held by a translated flow. Port 0 stands for "no ports".
pub fn can_be_held(port: Be16) -> bool {
    port == Be16(0) || maps::NAT_PORTS.load().contains(port.to_host())
}

#[inline(always)]
pub fn arrival<F: Tables>(tuple: &Tuple<F::Address>) -> Arrival<F::Address> {
    if !can_be_held(tuple.destination_port) {
        return Arrival::NotTranslated;
    }
    let key = NatKey::for_incoming(tuple);
    // SAFETY: the value is copied at once; a reader during a replacement sees the old or the new holder.
    let mut holder = unsafe { F::translations().get(&key) }.copied();
    let is_opening = holder.is_none();
    if is_opening {
        // SAFETY: as above.
        holder = unsafe { F::opening_translations().get(&key) }.copied();
    }
    match holder {
        None => Arrival::NotTranslated,
        Some(holder) => Arrival::Held(Held { is_host: holder.address == F::node_address(), holder, is_opening }),
    }
}

/// The other side has answered: the translation is not to be lost to a flood any more. `tuple` is the answer's, as it was
/// on the wire.
#[inline(never)]
pub fn settle<F: Tables>(tuple: &Tuple<F::Address>, holder: &NatHolder<F::Address>) -> Result<(), DropReason> {
    let key = NatKey::for_incoming(tuple);
    match F::translations().insert(&key, holder, NOEXIST) {
        Err(error) if error != -EEXIST => return Err(DropReason::NatTableFull),
        _ => {}
    }
    let _ = F::opening_translations().remove(&key);
    Ok(())
}

/// Remembers a new flow with the port it is to have. If that fails, nobody has the port.
pub fn open<F: Tables>(new: &NewFlow<F>, path: Path, port: Be16) -> Result<(), DropReason> {
    let opened = new.open_translated(path, port);
    if opened.is_err() {
        let _ = F::opening_translations().remove(&NatKey::for_outgoing(&new.tuple, F::node_address(), port));
    }
    opened.map(|_| ())
}

/// The port of a translated flow whose opener goes on; if its translation was lost, the flow gets one again.
#[inline(always)]
pub fn port_of<F: Tables>(known: &Known<F>, tuple: &Tuple<F::Address>) -> Result<Be16, DropReason> {
    let port = known.flow.nat_port;
    let key = NatKey::for_outgoing(tuple, F::node_address(), port);
    let holder = NatHolder::new(tuple.source, tuple.source_port, known.now_ns);
    // Where it is to be expected.
    let present = if known.flow.state.is_settled(known.flow.origin) {
        // SAFETY: the value is read at once.
        unsafe { F::translations().get(&key) }
    } else {
        // SAFETY: as above.
        unsafe { F::opening_translations().get(&key) }
    };
    if present.is_some_and(|present| present.is_same(&holder)) {
        return Ok(port);
    }
    let port = match hold::<F>(&key, &holder) {
        Ok(()) => return Ok(port),
        Err(_) => claim::<F>(tuple, known.now_ns)?,
    };
    known.set_translation(port);
    Ok(port)
}

/// Notes that a socket of the host uses its own port towards this destination.
pub fn reserve_for_host<F: Tables>(new: &NewFlow<F>) -> Result<(), DropReason> {
    let key = NatKey::for_outgoing(&new.tuple, F::node_address(), new.tuple.source_port);
    let holder = NatHolder::new(new.tuple.source, new.tuple.source_port, new.now_ns);
    match hold::<F>(&key, &holder) {
        Err(Refused::Taken) if !take_over::<F>(&key, &holder, new.now_ns) => return Err(DropReason::HostPortTaken),
        Err(Refused::TableFull) => return Err(DropReason::NatTableFull),
        _ => {}
    }
    new.open(Origin::NODE, Path::HOST, Nat::KEEP).map(|_| ())
}

/// Holds a port for a flow: the one it held before, a free one, or one whose holder's flow is over.
#[inline(never)]
pub fn claim<F: Tables>(tuple: &Tuple<F::Address>, now_ns: u64) -> Result<Be16, DropReason> {
    let candidates = candidates::<F>(tuple);
    let holder = NatHolder::new(tuple.source, tuple.source_port, now_ns);
    let mut key = NatKey::for_outgoing(tuple, F::node_address(), Be16(0));
    for try_number in 0..MAX_TRIES {
        let Some(port) = candidates.port(try_number) else { break };
        if maps::is_host_port(tuple.protocol, port) {
            continue;
        }
        key.node_port = port;
        match hold::<F>(&key, &holder) {
            Ok(()) => return Ok(port),
            // The first is the one that nobody else is given before all others are taken.
            Err(Refused::Taken) if try_number == 0 && take_over::<F>(&key, &holder, now_ns) => return Ok(port),
            Err(Refused::Taken) => {}
            Err(Refused::TableFull) => return Err(DropReason::NatTableFull),
        }
    }
    for try_number in 0..MAX_TAKE_OVERS {
        let Some(port) = candidates.port(try_number) else { break };
        key.node_port = port;
        if !maps::is_host_port(tuple.protocol, port) && take_over::<F>(&key, &holder, now_ns) {
            return Ok(port);
        }
    }
    Err(DropReason::NatPortsExhausted)
}

/// The port that the sender of a packet in mid-stream holds, if the flow that the packet belongs to was forgotten.
#[inline(never)]
pub fn recall<F: Tables>(tuple: &Tuple<F::Address>) -> Option<Be16> {
    let candidates = candidates::<F>(tuple);
    let ours = NatHolder::new(tuple.source, tuple.source_port, 0);
    let mut key = NatKey::for_outgoing(tuple, F::node_address(), Be16(0));
    for try_number in 0..MAX_TAKE_OVERS {
        let port = candidates.port(try_number)?;
        key.node_port = port;
        // SAFETY: the value is read at once.
        if unsafe { F::translations().get(&key) }.is_some_and(|holder| holder.is_same(&ours)) {
            return Some(port);
        }
    }
    None
}

fn candidates<F: Tables>(tuple: &Tuple<F::Address>) -> Candidates {
    let start = search_start(maps::NAT_SEED.load(), tuple);
    Candidates::new(maps::NAT_PORTS.load(), tuple.protocol, F::ICMP, tuple.source_port, start)
}

enum Refused {
    Taken,
    TableFull,
}

const NOEXIST: u64 = BPF_NOEXIST as u64;

/// include/uapi/asm-generic/errno-base.h
const EEXIST: i32 = 17;

/// Holds a port that nobody holds, or that this very flow holds already.
#[inline(always)]
fn hold<F: Tables>(key: &NatKey<F::Address>, holder: &NatHolder<F::Address>) -> Result<(), Refused> {
    match F::opening_translations().insert(key, holder, NOEXIST) {
        Ok(()) => {}
        Err(error) if error == -EEXIST => {
            // SAFETY: the value is read at once.
            let present = unsafe { F::opening_translations().get(key) };
            return if present.is_some_and(|present| present.is_same(holder)) { Ok(()) } else { Err(Refused::Taken) };
        }
        Err(_) => return Err(Refused::TableFull),
    }
    // SAFETY: as above.
    let Some(established) = (unsafe { F::translations().get(key) }) else { return Ok(()) };
    let is_ours = established.is_same(holder);
    let _ = F::opening_translations().remove(key);
    if is_ours { Ok(()) } else { Err(Refused::Taken) }
}

/// Takes a port from a holder whose flow is over, or translated to another port.
#[inline(never)]
fn take_over<F: Tables>(key: &NatKey<F::Address>, holder: &NatHolder<F::Address>, now_ns: u64) -> bool {
    // One CPU at a time, for each port.
    if F::take_overs().insert(key, &0, NOEXIST).is_err() {
        return false;
    }
    // SAFETY: the values are copied at once.
    let opening = unsafe { F::opening_translations().get(key) }.copied();
    // SAFETY: as above.
    let established = unsafe { F::translations().get(key) }.copied();
    let is_free = !opening.is_some_and(|present| is_in_use::<F>(key, &present, now_ns))
        && !established.is_some_and(|present| is_in_use::<F>(key, &present, now_ns));
    let is_taken = is_free && {
        let _ = F::translations().remove(key);
        // Who claims a port without a lock does so only where nobody holds it.
        let mode = if opening.is_some() { u64::from(BPF_ANY) } else { NOEXIST };
        F::opening_translations().insert(key, holder, mode).is_ok()
    };
    let _ = F::take_overs().remove(key);
    is_taken
}

#[inline(always)]
fn is_in_use<F: Tables>(key: &NatKey<F::Address>, holder: &NatHolder<F::Address>, now_ns: u64) -> bool {
    holder.is_claiming(now_ns)
        || conntrack::peek::<F>(&holder.opening_tuple(key), now_ns)
            .is_some_and(|(flow, is_opener): (Flow, bool)| is_opener && flow.holds_port(key.node_port))
}
