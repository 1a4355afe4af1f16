//! Words that all CPUs write at the same time.
//!
//! The compiler's target for eBPF says that it has one thread and no such instruction. The kernel has had it since 5.12
//! (Documentation/bpf/standardization/instruction-set.rst, atomic operations), so here it is written out.

use core::arch::asm;

/// Adds to the word.
///
/// # Safety
///
/// As for [`compare_exchange`].
#[inline(always)]
pub unsafe fn add(place: *mut u64, number: u64) {
    // SAFETY: the instruction reads and writes the word.
    unsafe {
        asm!(
            "lock *(u64 *)({place} + 0) += {number}",
            place = in(reg) place,
            number = in(reg) number,
            options(nostack),
        );
    }
}

/// Writes `new` if the word is `old`. Returns what the word was.
///
/// # Safety
///
/// The place is a word in the value of a map.
#[inline(always)]
pub unsafe fn compare_exchange(place: *mut u64, old: u64, new: u64) -> u64 {
    let found: u64;
    // SAFETY: the instruction reads and writes the word and r0.
    unsafe {
        asm!(
            "r0 = cmpxchg_64({place} + 0, r0, {new})",
            place = in(reg) place,
            new = in(reg) new,
            inlateout("r0") old => found,
            options(nostack),
        );
    }
    found
}
