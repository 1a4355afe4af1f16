//! The TC programs: routing between pods, wire and host, and source NAT.
//!
//! Read in this order: `hooks/` (one file per program, the steps of a packet's way in one screen each), then the steps
//! (`bandwidth`, `fragments`, `conntrack`, `nat`, `icmp`), which do not call each other, then what the steps stand on: `packet` and `tables`.
#![no_std]
#![no_main]
// For instructions that the target has and the compiler does not know of.
#![feature(asm_experimental_arch)]
#![allow(
    clippy::needless_borrows_for_generic_args,
    reason = "map keys and values go by reference: by value they are copied once more, on a stack of 512 bytes"
)]

mod hooks;

mod bandwidth;
mod conntrack;
mod fragments;
mod icmp;
mod nat;

mod events;
mod verdict;

mod packet;
mod scratch;
mod tables;

mod atomic;
mod globals;
mod maps;
mod uses;

/// The license the kernel's helpers ask for (include/linux/license.h).
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// A panic that can be reached is an endless loop, which the verifier refuses: so none can be reached.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
