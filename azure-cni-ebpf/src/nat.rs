//! Step: source NAT. A port of the node is held towards one destination by at most one flow.
//!
//! The claim is one insert that fails if the key is there: two CPUs cannot get the same port. The translation is claimed
//! before the flow is remembered, so a flow that says it is translated always holds its port.

use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::family::Be16;
use azure_cni_common::flow::{Nat, Path, Tuple};
use azure_cni_common::layout::{NatHolder, NatKey};
use azure_cni_common::snat::{Candidates, MAX_TRIES};

use crate::conntrack::{self, IF_ABSENT, Known, NewFlow};
use crate::maps::{self, Tables};
use crate::packet::{Headers, Packet};

/// To whom a packet for the node's address belongs.
pub enum Arrival<A> {
    NotTranslated,
    ForHost,
    ForPod(NatHolder<A>),
}

/// Whether a port of the node may be held by a translated flow. Port 0 stands for "no ports".
pub fn in_range(port: Be16) -> bool {
    maps::NAT_PORTS.load().contains(port.to_host())
}

pub fn arrival<F: Tables>(tuple: &Tuple<F::Address>) -> Arrival<F::Address> {
    if tuple.destination_port != Be16(0) && !in_range(tuple.destination_port) {
        return Arrival::NotTranslated;
    }
    // SAFETY: the value is copied at once; a reader during a replacement sees the old or the new holder.
    match unsafe { F::translations().get(&NatKey::for_incoming(tuple)) }.copied() {
        None => Arrival::NotTranslated,
        Some(holder) if holder.address == F::node_address() => Arrival::ForHost,
        Some(holder) => Arrival::ForPod(holder),
    }
}

/// Claims a port for a new flow and remembers the flow.
pub fn open<F: Tables>(new: &NewFlow<F>, path: Path) -> Result<Be16, DropReason> {
    let port = claim::<F>(&new.tuple, new.now_ns)?;
    if let Err(reason) = new.open_translated(path, port) {
        let _ = F::translations().remove(&NatKey::for_outgoing(&new.tuple, F::node_address(), port));
        return Err(reason);
    }
    Ok(port)
}

/// Claims a port for a flow that was remembered before it was known that it needs one.
pub fn decide<F: Headers + Tables>(known: &Known, packet: &Packet<F>) -> Result<Be16, DropReason> {
    let port = claim::<F>(&packet.tuple, conntrack::now_ns())?;
    known.set_translation(port);
    Ok(port)
}

/// Notes that a socket of the host uses its own port towards this destination.
pub fn reserve_for_host<F: Tables>(new: &NewFlow<F>) -> Result<(), DropReason> {
    let port = new.tuple.source_port;
    match hold::<F>(&new.tuple, port, new.now_ns) {
        Claim::Held => new.open(Path::HOST, Nat::KEEP).map(|_| ()),
        Claim::Taken => Err(DropReason::HostPortTaken),
        Claim::TableFull => Err(DropReason::NatTableFull),
    }
}

fn claim<F: Tables>(tuple: &Tuple<F::Address>, now_ns: u64) -> Result<Be16, DropReason> {
    // SAFETY: helper without arguments.
    let random = unsafe { bpf_get_prandom_u32() };
    let candidates = Candidates::new(maps::NAT_PORTS.load(), tuple.protocol, F::ICMP, tuple.source_port, random);
    for try_number in 0..MAX_TRIES {
        let Some(port) = candidates.port(try_number) else { break };
        match hold::<F>(tuple, port, now_ns) {
            Claim::Held => return Ok(port),
            Claim::Taken => {}
            Claim::TableFull => return Err(DropReason::NatTableFull),
        }
    }
    Err(DropReason::NatPortsExhausted)
}

enum Claim {
    Held,
    Taken,
    TableFull,
}

/// Tries to hold one port. A holder whose flow is over, or translated to another port, loses it.
fn hold<F: Tables>(tuple: &Tuple<F::Address>, port: Be16, now_ns: u64) -> Claim {
    let key = NatKey::for_outgoing(tuple, F::node_address(), port);
    let holder = NatHolder::new(tuple.source, tuple.source_port);
    if F::translations().insert(&key, &holder, IF_ABSENT).is_ok() {
        return Claim::Held;
    }
    // SAFETY: the value is copied at once.
    let Some(present) = (unsafe { F::translations().get(&key) }.copied()) else { return Claim::TableFull };
    if present != holder && is_in_use::<F>(&present, &key, now_ns) {
        return Claim::Taken;
    }
    let _ = F::translations().remove(&key);
    if F::translations().insert(&key, &holder, IF_ABSENT).is_ok() { Claim::Held } else { Claim::Taken }
}

fn is_in_use<F: Tables>(holder: &NatHolder<F::Address>, key: &NatKey<F::Address>, now_ns: u64) -> bool {
    conntrack::find_opened_by::<F>(&holder.opening_tuple(key), now_ns)
        .is_some_and(|flow| flow.holds_port(key.node_port))
}
