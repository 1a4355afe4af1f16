//! Memory of one run of a program that a stack of 512 bytes has no room for: the packet as values, and scratch for searches.
//!
//! There is one of each for a CPU and a family. A run gets both once, by [`begin`]. The packet is handed on as a reference;
//! scratch is handed on as a [`ScratchRef`], the right to use it, which costs nothing to pass. A function that needs scratch
//! borrows it from the right, and gives it back before it passes the right on. So two references to it cannot be written.

use core::marker::PhantomData;

use aya_ebpf::{macros::map, maps::PerCpuArray};
use azure_cni_common::family::{Family, V4, V6};
use azure_cni_common::flow::{Flow, FlowKey, Tuple};
use azure_cni_common::nat::{Candidates, NatHolder, NatKey, SearchKeys};

use crate::packet::{Packet, Quoted};

#[map]
static PACKET4: PerCpuArray<Packet<V4>> = PerCpuArray::with_max_entries(1, 0);
#[map]
static PACKET6: PerCpuArray<Packet<V6>> = PerCpuArray::with_max_entries(1, 0);
#[map]
static SCRATCH4: PerCpuArray<Scratch<V4>> = PerCpuArray::with_max_entries(1, 0);
#[map]
static SCRATCH6: PerCpuArray<Scratch<V6>> = PerCpuArray::with_max_entries(1, 0);

/// Keys and values of a search for a port, or of a quoted packet. What an earlier packet left there has no meaning: every
/// packet writes before it reads.
pub struct Scratch<F: Family> {
    /// Of the flow that wants a port, then of the one that holds it.
    pub tuple: Tuple<F::Address>,
    pub now_ns: u64,
    pub keys: SearchKeys,
    pub candidates: Candidates,
    pub key: NatKey<F::Address>,
    pub holder: NatHolder<F::Address>,
    /// Of the flow that holds a port.
    pub holding: FlowKey<F::Address>,
    /// Of a flow that is promoted or over, with `flow`.
    pub flow_key: FlowKey<F::Address>,
    pub flow: Flow,
    pub quoted: Quoted<F>,
}

/// Where a family's memory is on this CPU.
pub trait Memory: Family + Sized {
    fn packet_place() -> Option<*mut Packet<Self>>;
    fn scratch_place() -> Option<*mut Scratch<Self>>;
}

impl Memory for V4 {
    #[inline(always)]
    fn packet_place() -> Option<*mut Packet<V4>> {
        PACKET4.get_ptr_mut(0)
    }

    #[inline(always)]
    fn scratch_place() -> Option<*mut Scratch<V4>> {
        SCRATCH4.get_ptr_mut(0)
    }
}

impl Memory for V6 {
    #[inline(always)]
    fn packet_place() -> Option<*mut Packet<V6>> {
        PACKET6.get_ptr_mut(0)
    }

    #[inline(always)]
    fn scratch_place() -> Option<*mut Scratch<V6>> {
        SCRATCH6.get_ptr_mut(0)
    }
}

/// The right to use this CPU's scratch for as long as a run lasts. It has no size: to pass it costs nothing.
pub struct ScratchRef<'run, F: Family>(PhantomData<&'run mut Scratch<F>>);

impl<F: Memory> ScratchRef<'_, F> {
    /// # Safety
    ///
    /// Until it goes, nothing else uses this CPU's scratch of the family, neither by another right nor by a reference.
    #[inline(always)]
    pub const unsafe fn assume() -> Self {
        Self(PhantomData)
    }

    /// The scratch itself.
    #[inline(always)]
    pub fn get(&mut self) -> Option<&mut Scratch<F>> {
        // SAFETY: the map's value lives as long as the program runs. It began as zeros, which are a `Scratch`, and nothing but a
        // `Scratch` was written since. It is this CPU's, and while a TC program runs, no other one runs on its CPU. Within the run
        // `self` is the only right, and it is borrowed for as long as the reference lives.
        F::scratch_place().map(|place| unsafe { &mut *place })
    }

    /// The same right, for a callee.
    #[inline(always)]
    pub fn lend(&mut self) -> ScratchRef<'_, F> {
        ScratchRef(PhantomData)
    }
}

/// The memory of a run.
///
/// # Safety
///
/// To be called once in each run of a program.
#[inline(always)]
pub unsafe fn begin<F: Memory>() -> Option<(&'static mut Packet<F>, ScratchRef<'static, F>)> {
    // SAFETY: as for `ScratchRef::get`; it is the only call of this run, so there is no other reference.
    let packet = F::packet_place().map(|place| unsafe { &mut *place })?;
    // SAFETY: the caller says that this is the first right of the run.
    Some((packet, unsafe { ScratchRef::assume() }))
}
