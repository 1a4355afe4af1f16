//! How often a packet has the programs use a table: what the benchmark counts.
//!
//! Only a build with the feature `count-uses` counts. The programs that users load have neither the map nor the code.

/// What is used. Arrays are not counted: a look-up in one is an addition.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Table {
    Hash = 0,
    Prefixes = 1,
}

/// To be called by the accessor that every use of a table begins with.
#[cfg(not(feature = "count-uses"))]
#[inline(always)]
pub fn count(_: Table) {}

#[cfg(feature = "count-uses")]
pub use counting::count;

#[cfg(feature = "count-uses")]
mod counting {
    use aya_ebpf::{macros::map, maps::PerCpuArray};

    use super::Table;

    /// Uses, by the number of the [`Table`].
    #[map]
    static USES: PerCpuArray<u64> = PerCpuArray::pinned(2, 0);

    #[inline(always)]
    pub fn count(table: Table) {
        if let Some(uses) = USES.get_ptr_mut(table as u32) {
            // SAFETY: this CPU's own slot, and a program is not interrupted by itself on one CPU.
            unsafe { *uses += 1 };
        }
    }
}
