//! ARP (RFC 826), as far as a pod's frames are checked.

use aya_ebpf::programs::TcContext;
use azure_cni_common::family::{Be16, Ipv4};

use super::parse::{read, skb};

/// include/uapi/linux/if_ether.h: ETH_P_ARP.
const ETHERTYPE: Be16 = Be16::from_host(0x0806);

pub fn is_arp(ctx: &TcContext) -> bool {
    skb(ctx).protocol == u32::from(ETHERTYPE.0)
}

/// The address that an ARP packet says its sender has; `None` if that is said of another MAC than its frame's, or not of IPv4
/// on Ethernet.
#[inline(always)]
pub fn arp_sender(ctx: &TcContext) -> Option<Ipv4> {
    /// From the frame's source to the sender's address.
    const START: u32 = 6;
    /// Ethernet, IPv4, addresses of six and four bytes.
    const KIND: [u16; 3] = [1_u16.to_be(), 0x0800_u16.to_be(), 0x0604_u16.to_be()];
    let [a, b, c, _, hardware, protocol, lengths, _, d, e, f, high, low]: [u16; 13] = read(ctx, START)?;
    if [hardware, protocol, lengths] != KIND || [a, b, c] != [d, e, f] {
        return None;
    }
    let ([h0, h1], [l0, l1]) = (high.to_ne_bytes(), low.to_ne_bytes());
    Some(Ipv4::new(h0, h1, l0, l1))
}
