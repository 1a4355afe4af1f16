//! Gives back to the kernel what the agent needed for a moment.

/// The object of the programs takes 20 MiB while it is loaded, on a thread whose pool glibc keeps for good (malloc_trim(3)).
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointers, and the allocator's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
