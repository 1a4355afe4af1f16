//! The TC programs: routing between pods, wire and host, and source NAT.
//!
//! Read in this order: `hooks/` (one file per program, the steps of a packet's way in one screen each), then the steps
//! (`endpoint`, `fragments`, `conntrack`, `nat`, `icmp`), then the two files that touch packets (`packet` reads, `rewrite` writes).
#![no_std]
#![no_main]
#![allow(
    clippy::needless_borrows_for_generic_args,
    reason = "map keys and values go by reference: by value they are copied once more, on a stack of 512 bytes"
)]

mod conntrack;
mod endpoint;
mod events;
mod fragments;
mod hooks;
mod icmp;
mod maps;
mod nat;
mod packet;
mod rewrite;
mod verdict;

/// The license the kernel's helpers ask for (include/linux/license.h).
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// A panic that can be reached is an endless loop, which the verifier refuses: so none can be reached.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
