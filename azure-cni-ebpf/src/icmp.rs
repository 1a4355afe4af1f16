//! Step: ICMP errors. They belong to the flow of the packet that they quote, and are translated as it was.
//!
//! A message never renews a flow. One that quotes a packet of no known flow is left to the host's stack, which routes it.

use aya_ebpf::{bindings::BPF_ANY, programs::TcContext};
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::family::Be16;
use azure_cni_common::flow::{Nat, Path};
use azure_cni_common::icmp_budget::IcmpBudget;
use azure_cni_common::nat::NatKey;

use crate::maps::ICMP_BUDGETS;
use crate::packet::{End, Packet, Replacement, Rewrite, replace, replace_quoted};
use crate::scratch::{Scratch, ScratchRef};
use crate::tables::{Tables, holder_of, live_flow, now_ns};

/// What a message's flow asks for.
struct Quoting {
    path: Path,
    /// The message has another address than the packet that it quotes now; its own is the caller's to replace, whose stack
    /// [`replace`] does not add to that of reading the quoted packet.
    is_translated: bool,
}

impl Quoting {
    const UNKNOWN: Self = Self { path: Path::UNKNOWN, is_translated: false };
}

/// A [`Quoting`], or why there is none, as one word: functions that are not inlined return none that is set in parts.
const FAILED: u32 = 0xff;
const NOT_OWNED: u32 = 0xfe;
const IS_TRANSLATED: u32 = 0x100;

fn word_of(result: Result<Quoting, DropReason>) -> u32 {
    match result {
        Ok(Quoting { path, is_translated: true }) => u32::from(path.0) | IS_TRANSLATED,
        Ok(Quoting { path, .. }) => u32::from(path.0),
        Err(DropReason::IcmpNotOwned) => NOT_OWNED,
        Err(_) => FAILED,
    }
}

fn quoting_of(word: u32) -> Result<Quoting, DropReason> {
    match word {
        FAILED => Err(DropReason::RewriteFailed),
        NOT_OWNED => Err(DropReason::IcmpNotOwned),
        word => Ok(Quoting { path: Path(word as u8), is_translated: word & IS_TRANSLATED != 0 }),
    }
}

/// From the wire: if the message is about a translated packet, message and quoted packet are put back as the pod knows
/// them. Returns the way of the flow that they belong to.
#[inline(always)]
pub fn reverse_snat<F: Rewrite + Tables>(
    ctx: &TcContext,
    message: &mut Packet<F>,
    mut scratch: ScratchRef<'_, F>,
) -> Result<Path, DropReason> {
    let quoting = quoting_of(reverse_snat_apart(ctx, message, scratch.lend()))?;
    if quoting.is_translated
        && let Some(scratch) = scratch.get()
    {
        let pod = Replacement::new(scratch.quoted.tuple.source, Be16(0));
        replace(ctx, message, End::Destination, &pod)?;
    }
    Ok(quoting.path)
}

#[inline(never)]
fn reverse_snat_apart<F: Rewrite + Tables>(
    ctx: &TcContext,
    message: &mut Packet<F>,
    scratch: ScratchRef<'_, F>,
) -> u32 {
    word_of(reverse_snat_steps(ctx, message, scratch))
}

#[inline(always)]
fn reverse_snat_steps<F: Rewrite + Tables>(
    ctx: &TcContext,
    message: &mut Packet<F>,
    mut scratch: ScratchRef<'_, F>,
) -> Result<Quoting, DropReason> {
    let Some(Scratch { key, holding, quoted, .. }) = scratch.get() else { return Ok(Quoting::UNKNOWN) };
    if quoted.parse(ctx, message).is_none() {
        return Ok(Quoting::UNKNOWN);
    }
    let is_translated = message.tuple.destination == F::node_address() && quoted.tuple.source == F::node_address();
    if is_translated {
        *key = NatKey::for_outgoing(&quoted.tuple, quoted.tuple.source, quoted.tuple.source_port);
        let Some(holder) = holder_of::<F>(key) else { return Ok(Quoting::UNKNOWN) };
        if holder.address == F::node_address() {
            return Ok(Quoting::UNKNOWN);
        }
        let (address, port) = (holder.address, holder.port);
        replace_quoted(ctx, message, quoted, End::Source, address, port)?;
        (quoted.tuple.source, quoted.tuple.source_port) = (address, port);
    }
    let _ = holding.set(&quoted.tuple);
    let path = live_flow::<F>(holding, now_ns()).map_or(Path::UNKNOWN, |flow| flow.path);
    Ok(Quoting { path, is_translated })
}

/// A pod's message is paid for, whatever way it will take.
pub fn charge(ifindex: u32) -> Result<(), DropReason> {
    if may_send(ifindex) { Ok(()) } else { Err(DropReason::IcmpRateLimited) }
}

/// Two CPUs that write at the same time count one message for two.
#[inline(never)]
fn may_send(ifindex: u32) -> bool {
    let entry = ICMP_BUDGETS.get_ptr_mut(&ifindex);
    // SAFETY: one word, which lives as long as the program runs.
    let budget = entry.map_or(IcmpBudget::UNTOUCHED, |entry| unsafe { entry.read() });
    let Some(spent) = budget.spend(now_ns()) else { return false };
    match entry {
        // SAFETY: as above.
        Some(entry) => unsafe { entry.write(spent) },
        None => drop(ICMP_BUDGETS.insert(&ifindex, &spent, u64::from(BPF_ANY))),
    }
    true
}

/// Who sends a message about a packet that a pod received.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum IcmpSender {
    Pod,
    /// A pod whose message has passed the host's stack.
    PodThroughStack,
    /// The host's stack, from its own address.
    Host,
}

/// A message about a packet that a pod received. If that was a reply of a translated flow, the outside must see it as it
/// left there; what is yet to pass the host's stack stays as it is. Returns the way of the flow.
#[inline(always)]
pub fn apply_snat<F: Rewrite + Tables>(
    ctx: &TcContext,
    message: &mut Packet<F>,
    sender: IcmpSender,
    scratch: ScratchRef<'_, F>,
) -> Result<Path, DropReason> {
    let quoting = quoting_of(apply_snat_apart(ctx, message, sender, scratch))?;
    if quoting.is_translated && sender != IcmpSender::Host {
        replace(ctx, message, End::Source, &Replacement::new(F::node_address(), Be16(0)))?;
    }
    Ok(quoting.path)
}

#[inline(never)]
fn apply_snat_apart<F: Rewrite + Tables>(
    ctx: &TcContext,
    message: &mut Packet<F>,
    sender: IcmpSender,
    scratch: ScratchRef<'_, F>,
) -> u32 {
    word_of(apply_snat_steps(ctx, message, sender, scratch))
}

#[inline(always)]
fn apply_snat_steps<F: Rewrite + Tables>(
    ctx: &TcContext,
    message: &mut Packet<F>,
    sender: IcmpSender,
    mut scratch: ScratchRef<'_, F>,
) -> Result<Quoting, DropReason> {
    let Some(Scratch { holding, quoted, .. }) = scratch.get() else { return Ok(Quoting::UNKNOWN) };
    if quoted.parse(ctx, message).is_none() {
        return Ok(Quoting::UNKNOWN);
    }
    if sender != IcmpSender::Host {
        // A host's message is never so long that it comes in parts (RFC 1812 section 4.3.2.3).
        if message.is_fragment() {
            return Ok(Quoting::UNKNOWN);
        }
        // A pod speaks of what it received, to the one that sent it.
        let (about, of) = (&quoted.tuple, &message.tuple);
        if about.destination != of.source || about.source != of.destination {
            return Err(DropReason::IcmpNotOwned);
        }
    }
    let side = holding.set(&quoted.tuple);
    let Some(flow) = live_flow::<F>(holding, now_ns()) else { return Ok(Quoting::UNKNOWN) };
    let (path, port) = (flow.path, flow.nat_port);
    let is_done_later = sender == IcmpSender::Pod && path == Path::STACK;
    let is_translated = flow.nat == Nat::TRANSLATED && flow.initiator != side && !is_done_later;
    if is_translated {
        replace_quoted(ctx, message, quoted, End::Destination, F::node_address(), port)?;
    }
    Ok(Quoting { path, is_translated })
}
