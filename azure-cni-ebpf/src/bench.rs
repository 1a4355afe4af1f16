//! For the benchmark alone; the agent never loads it: the least that any eBPF data path does on the hops that ours takes.
//!
//! The programs know one pod by constants, look up nothing and track nothing. What they cost beyond a bare veth pair, no program
//! can save.
#![no_std]
#![no_main]

use aya_ebpf::{
    Global,
    bindings::{
        BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, TC_ACT_SHOT, TC_ACT_UNSPEC, bpf_redir_neigh,
        bpf_redir_neigh__bindgen_ty_1,
    },
    helpers::generated::{bpf_l4_csum_replace, bpf_redirect_neigh, bpf_redirect_peer},
    macros::classifier,
    programs::TcContext,
};

/// Interfaces by their numbers.
#[unsafe(no_mangle)]
static UPLINK: Global<u32> = Global::new(0);
/// The pod that packets from the wire are for, and the one that this VM's other pod sends to: addresses in network byte order.
#[unsafe(no_mangle)]
static POD: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static POD_IFINDEX: Global<u32> = Global::new(0);
/// The VM's own address in network byte order if the pod's packets leave with it, else 0; and then the router they go to.
#[unsafe(no_mangle)]
static NODE: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static GATEWAY: Global<u32> = Global::new(0);

/// TC ingress of a pod's host veth.
#[classifier]
fn redir_from_pod(ctx: TcContext) -> i32 {
    let Some(Ipv4Header { source, destination, .. }) = header(&ctx) else { return TC_ACT_UNSPEC };
    if destination == POD.load() {
        // SAFETY: helper without pointers.
        return unsafe { bpf_redirect_peer(POD_IFINDEX.load(), 0) as i32 };
    }
    if NODE.load() == 0 {
        // SAFETY: a null pointer of length 0 asks for a route look-up (include/uapi/linux/bpf.h).
        return unsafe { bpf_redirect_neigh(UPLINK.load(), core::ptr::null_mut(), 0, 0) as i32 };
    }
    if !replace(&ctx, Which::Source, source, NODE.load()) {
        return TC_ACT_SHOT;
    }
    let mut next_hop =
        bpf_redir_neigh { nh_family: 2, __bindgen_anon_1: bpf_redir_neigh__bindgen_ty_1 { ipv4_nh: GATEWAY.load() } };
    // SAFETY: a pointer to a whole `bpf_redir_neigh`, of the size said.
    unsafe { bpf_redirect_neigh(UPLINK.load(), &raw mut next_hop, size_of::<bpf_redir_neigh>() as i32, 0) as i32 }
}

/// TC ingress of the uplink.
#[classifier]
fn redir_from_wire(ctx: TcContext) -> i32 {
    let Some(Ipv4Header { destination, .. }) = header(&ctx) else { return TC_ACT_UNSPEC };
    if NODE.load() != 0 && destination == NODE.load() {
        if !replace(&ctx, Which::Destination, destination, POD.load()) {
            return TC_ACT_SHOT;
        }
    } else if destination != POD.load() {
        return TC_ACT_UNSPEC;
    }
    // SAFETY: helper without pointers.
    unsafe { bpf_redirect_peer(POD_IFINDEX.load(), 0) as i32 }
}

/// RFC 791 section 3.1, without options.
#[repr(C, packed)]
struct Ipv4Header {
    before: [u8; 9],
    protocol: u8,
    checksum: u16,
    source: u32,
    destination: u32,
}

const ETHERNET: usize = 14;
const ETHERTYPE_IPV4: u16 = 0x0800;
const TCP: u8 = 6;
const UDP: u8 = 17;

enum Which {
    Source,
    Destination,
}

/// Where the frame's IP header is, all of it within the packet.
#[inline(always)]
fn place(ctx: &TcContext) -> Option<*mut Ipv4Header> {
    let start = ctx.data() + ETHERNET;
    (start + size_of::<Ipv4Header>() <= ctx.data_end()).then_some(start as *mut Ipv4Header)
}

/// The IPv4 header of a TCP segment or a UDP datagram.
#[inline(always)]
fn header(ctx: &TcContext) -> Option<Ipv4Header> {
    let place = place(ctx)?;
    // SAFETY: the context that the kernel hands to the program lives as long as the program runs.
    let protocol = unsafe { (*ctx.skb.skb).protocol };
    // SAFETY: within the packet, as `place` has seen; the structure is packed.
    let header = unsafe { place.read() };
    let is_ours = protocol == u32::from(ETHERTYPE_IPV4.to_be()) && (header.protocol == TCP || header.protocol == UDP);
    is_ours.then_some(header)
}

/// Puts another address in the place of one, both in network byte order, checksums included.
#[inline(always)]
fn replace(ctx: &TcContext, which: Which, old: u32, new: u32) -> bool {
    let Some(mut changed) = header(ctx) else { return false };
    let (at, manglable) = if changed.protocol == TCP { (16, 0) } else { (6, BPF_F_MARK_MANGLED_0) };
    let at = (ETHERNET + size_of::<Ipv4Header>() + at) as u32;
    let flags = u64::from(BPF_F_PSEUDO_HDR | manglable) | 4;
    // SAFETY: the context is a whole one.
    if unsafe { bpf_l4_csum_replace(ctx.skb.skb, at, old.into(), new.into(), flags) } != 0 {
        return false;
    }
    changed.checksum = updated(changed.checksum, old, new);
    match which {
        Which::Source => changed.source = new,
        Which::Destination => changed.destination = new,
    }
    // The helper may have moved the packet.
    let Some(place) = place(ctx) else { return false };
    // SAFETY: within the packet, as `place` has seen; the structure is packed.
    unsafe { place.write(changed) };
    true
}

/// RFC 1624 section 3, equation 3.
#[inline(always)]
fn updated(checksum: u16, old: u32, new: u32) -> u16 {
    let halves = |word: u32| (word & 0xffff) + (word >> 16);
    let sum = u32::from(!checksum) + halves(!old) + halves(new);
    let sum = halves(sum);
    !(halves(sum) as u16)
}

/// The license the kernel's helpers ask for (include/linux/license.h).
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// A panic that can be reached is an endless loop, which the verifier refuses: so none can be reached.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
