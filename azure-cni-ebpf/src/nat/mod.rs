//! Step: source NAT of flows that have a port. Ports are found in `search`.
//!
//! A translation moves to the table that is never turned over by a flood when its flow does, and it is made again if it was
//! lost while its flow was not.

mod search;

use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::family::Be16;
use azure_cni_common::flow::{Nat, Tuple};
use azure_cni_common::nat::{NatHolder, NatKey};

use crate::scratch::ScratchRef;
use crate::tables::{EEXIST, Tables, set_nat};

use search::{Allocation, Attempt, HELD, NOEXIST, TABLE_FULL, TAKEN, claim_word, hold, take_over};
pub use search::{claim, find_held_port, release};

/// The other side has replied: the translation is not to be lost to a flood any more. `tuple` is the reply's as the holder
/// sees it, `port` the node's. False if there is no room.
#[inline(never)]
pub fn promote<F: Tables>(
    tuple: &Tuple<F::Address>,
    port: Be16,
    node_is_holder: bool,
    now_ns: u64,
    mut scratch: ScratchRef<'_, F>,
) -> bool {
    let Some(scratch) = scratch.get() else { return false };
    let node = F::node_address();
    scratch.key = NatKey::for_incoming(tuple);
    (scratch.key.node, scratch.key.node_port) = (node, port);
    let address = if node_is_holder { node } else { tuple.destination };
    scratch.holder = NatHolder::new(address, tuple.destination_port, now_ns);
    assure::<F>(&scratch.key, &scratch.holder)
}

#[inline(always)]
fn assure<F: Tables>(key: &NatKey<F::Address>, holder: &NatHolder<F::Address>) -> bool {
    match F::translations().insert(key, holder, NOEXIST) {
        Err(error) if error != -EEXIST => return false,
        _ => {}
    }
    let _ = F::half_open_translations().remove(key);
    true
}

/// The port of a translated flow whose initiator goes on; if its translation was lost, the flow gets one again.
#[inline(always)]
pub fn port_of<F: Tables>(
    tuple: &Tuple<F::Address>,
    port: Be16,
    is_assured: bool,
    now_ns: u64,
    mut scratch: ScratchRef<'_, F>,
) -> Result<Be16, DropReason> {
    if is_held::<F>(tuple, port, is_assured) {
        return Ok(port);
    }
    // Its translation was lost: it gets the same port again, or another. The search is not called from a function below this one: it
    // is what needs most of the stack.
    let allocation = if hold_again::<F>(tuple, port, now_ns, scratch.lend()) {
        Allocation::port(port)
    } else {
        claim_word::<F>(tuple, now_ns, scratch.lend())
    };
    if allocation.attempt() != HELD {
        return allocation.into_result();
    }
    let port = allocation.get();
    set_nat::<F>(tuple, Nat::TRANSLATED, port);
    if is_assured && !promote_outgoing::<F>(tuple, port, now_ns, scratch) {
        return Err(DropReason::NatTableFull);
    }
    Ok(port)
}

/// Whether the translation is where it is to be expected. A function of its own: its key is not on the stack of what heals.
#[inline(never)]
fn is_held<F: Tables>(tuple: &Tuple<F::Address>, port: Be16, is_assured: bool) -> bool {
    let key = NatKey::for_outgoing(tuple, F::node_address(), port);
    let present = if is_assured {
        // SAFETY: as in `tables::holder_of`.
        unsafe { F::translations().get(&key) }
    } else {
        // SAFETY: as above.
        unsafe { F::half_open_translations().get(&key) }
    };
    present.is_some_and(|holder| holder.address == tuple.source && holder.port == tuple.source_port)
}

#[inline(never)]
fn hold_again<F: Tables>(tuple: &Tuple<F::Address>, port: Be16, now_ns: u64, mut scratch: ScratchRef<'_, F>) -> bool {
    let Some(scratch) = scratch.get() else { return false };
    scratch.key = NatKey::for_outgoing(tuple, F::node_address(), port);
    scratch.holder = NatHolder::new(tuple.source, tuple.source_port, now_ns);
    hold::<F>(scratch) == HELD
}

/// The same for a packet of the holder's own.
#[inline(never)]
pub fn promote_outgoing<F: Tables>(
    tuple: &Tuple<F::Address>,
    port: Be16,
    now_ns: u64,
    mut scratch: ScratchRef<'_, F>,
) -> bool {
    let Some(scratch) = scratch.get() else { return false };
    scratch.key = NatKey::for_outgoing(tuple, F::node_address(), port);
    scratch.holder = NatHolder::new(tuple.source, tuple.source_port, now_ns);
    assure::<F>(&scratch.key, &scratch.holder)
}

/// Notes that a socket of the host uses its own port towards this destination.
#[inline(always)]
pub fn reserve_for_host<F: Tables>(
    tuple: &Tuple<F::Address>,
    now_ns: u64,
    scratch: ScratchRef<'_, F>,
) -> Result<(), DropReason> {
    match reserve::<F>(tuple, now_ns, scratch) {
        HELD => Ok(()),
        TAKEN => Err(DropReason::HostPortTaken),
        _ => Err(DropReason::NatTableFull),
    }
}

#[inline(never)]
fn reserve<F: Tables>(tuple: &Tuple<F::Address>, now_ns: u64, mut scratch: ScratchRef<'_, F>) -> Attempt {
    let Some(scratch) = scratch.get() else { return TABLE_FULL };
    scratch.key = NatKey::for_outgoing(tuple, F::node_address(), tuple.source_port);
    scratch.holder = NatHolder::new(tuple.source, tuple.source_port, now_ns);
    scratch.now_ns = now_ns;
    match hold::<F>(scratch) {
        TAKEN if take_over::<F>(scratch) => HELD,
        other => other,
    }
}
