//! The only file that writes packets, checksums included.
//!
//! All writes go through the kernel's helpers: they make a shared buffer private, and they know which checksums the device
//! still has to complete (CHECKSUM_PARTIAL) and which it has summed up already (CHECKSUM_COMPLETE).

use aya_ebpf::{
    bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR},
    programs::TcContext,
};
use azure_cni_common::checksum;
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::family::{Be16, Ipv4, TCP, UDP, V4};

use crate::packet::{ETH_LEN, Headers, Packet};

/// The end of the flow whose address and port are replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    Source,
    Destination,
}

/// How a family's header is written.
pub trait Rewrite: Headers {
    /// What the family's pseudo header (RFC 9293 section 3.1, RFC 8200 section 8.1) adds to an ICMP checksum.
    const ICMP_HAS_PSEUDO_HEADER: bool;

    /// Changes hop limit and addresses in the header, and in `packet`.
    fn write_header(
        ctx: &TcContext,
        packet: &mut Packet<Self>,
        hop_limit: u8,
        source: Self::Address,
        destination: Self::Address,
    ) -> Result<(), DropReason>;

    /// Tells a transport checksum that an address of its pseudo header changed.
    fn update_pseudo_header(
        ctx: &TcContext,
        checksum_offset: u32,
        flags: u64,
        old: Self::Address,
        new: Self::Address,
    ) -> Result<(), DropReason>;
}

/// Takes one from the hop limit, which the caller knows to be more than 1.
#[inline(always)]
pub fn decrement_hop_limit<F: Rewrite>(ctx: &TcContext, packet: &mut Packet<F>) -> Result<(), DropReason> {
    let (source, destination) = (packet.tuple.source, packet.tuple.destination);
    F::write_header(ctx, packet, packet.hop_limit - 1, source, destination)
}

/// Replaces address and port of one end, in the packet and in `packet`.
#[inline(always)]
pub fn replace<F: Rewrite>(
    ctx: &TcContext,
    packet: &mut Packet<F>,
    end: End,
    address: F::Address,
    port: Be16,
) -> Result<(), DropReason> {
    let tuple = packet.tuple;
    let (old_address, old_port) = match end {
        End::Source => (tuple.source, tuple.source_port),
        End::Destination => (tuple.destination, tuple.destination_port),
    };
    let (source, destination) = match end {
        End::Source => (address, tuple.destination),
        End::Destination => (tuple.source, address),
    };
    if let Some(transport) = Transport::of(packet, end) {
        if transport.has_pseudo_header {
            F::update_pseudo_header(ctx, transport.checksum_offset, transport.flags, old_address, address)?;
        }
        if port != old_port {
            transport.write_port(ctx, old_port, port)?;
        }
    }
    match end {
        End::Source => packet.tuple.source_port = port,
        End::Destination => packet.tuple.destination_port = port,
    }
    F::write_header(ctx, packet, packet.hop_limit, source, destination)
}

/// Where a transport keeps the port of one end, and how its checksum is changed.
struct Transport {
    port_offset: u32,
    checksum_offset: u32,
    has_pseudo_header: bool,
    /// Flags of `bpf_l4_csum_replace`.
    flags: u64,
}

impl Transport {
    fn of<F: Rewrite>(packet: &Packet<F>, end: End) -> Option<Self> {
        let start = packet.transport_offset;
        let port_offset = start + if end == End::Source { 0 } else { 2 };
        match packet.tuple.protocol {
            TCP => Some(Self { port_offset, checksum_offset: start + 16, has_pseudo_header: true, flags: 0 }),
            // RFC 768: zero means "no checksum" and stays; a sum that comes out as zero is sent as all ones.
            UDP => Some(Self {
                port_offset,
                checksum_offset: start + 6,
                has_pseudo_header: true,
                flags: u64::from(BPF_F_MARK_MANGLED_0),
            }),
            // The identifier of an echo stands for the port, whichever end asks (RFC 792, RFC 4443 section 4).
            protocol if protocol == F::ICMP => Some(Self {
                port_offset: start + 4,
                checksum_offset: start + 2,
                has_pseudo_header: F::ICMP_HAS_PSEUDO_HEADER,
                flags: 0,
            }),
            _ => None,
        }
    }

    fn write_port(&self, ctx: &TcContext, old: Be16, new: Be16) -> Result<(), DropReason> {
        ctx.l4_csum_replace(self.checksum_offset as usize, u64::from(old.0), u64::from(new.0), self.flags | 2)
            .map_err(|_| DropReason::RewriteFailed)?;
        store(ctx, self.port_offset, &new)
    }
}

impl Rewrite for V4 {
    const ICMP_HAS_PSEUDO_HEADER: bool = false;

    /// Bytes 8 to 19 of RFC 791 section 3.1: time to live, protocol, checksum, source, destination.
    #[inline(always)]
    fn write_header(
        ctx: &TcContext,
        packet: &mut Packet<V4>,
        hop_limit: u8,
        source: Ipv4,
        destination: Ipv4,
    ) -> Result<(), DropReason> {
        let first_word = |hop_limit| u16::from_ne_bytes([hop_limit, packet.tuple.protocol]);
        let mut sum = checksum::update(packet.header_checksum, first_word(packet.hop_limit), first_word(hop_limit));
        sum = checksum::update32(sum, packet.tuple.source.0, source.0);
        sum = checksum::update32(sum, packet.tuple.destination.0, destination.0);

        let [sum_first, sum_second] = sum.to_ne_bytes();
        let words =
            [u32::from_ne_bytes([hop_limit, packet.tuple.protocol, sum_first, sum_second]), source.0, destination.0];
        store(ctx, ETH_LEN + 8, &words)?;
        packet.hop_limit = hop_limit;
        packet.header_checksum = sum;
        packet.tuple.source = source;
        packet.tuple.destination = destination;
        Ok(())
    }

    fn update_pseudo_header(
        ctx: &TcContext,
        checksum_offset: u32,
        flags: u64,
        old: Ipv4,
        new: Ipv4,
    ) -> Result<(), DropReason> {
        let flags = flags | u64::from(BPF_F_PSEUDO_HDR) | size_of::<Ipv4>() as u64;
        ctx.l4_csum_replace(checksum_offset as usize, u64::from(old.0), u64::from(new.0), flags)
            .map_err(|_| DropReason::RewriteFailed)
    }
}

fn store<T>(ctx: &TcContext, offset: u32, value: &T) -> Result<(), DropReason> {
    ctx.store(offset as usize, value, 0).map_err(|_| DropReason::RewriteFailed)
}
