//! The only file that writes packets, checksums included.
//!
//! All writes go through the kernel's helpers: they make a shared buffer private, and they know which checksums the device
//! still has to complete (CHECKSUM_PARTIAL) and which it has summed up already (CHECKSUM_COMPLETE).

use aya_ebpf::{bindings::BPF_F_MARK_MANGLED_0, programs::TcContext};
use azure_cni_common::checksum;
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::family::{Address, Be16, TCP, UDP};

use super::parse::{Headers, Packet, Part};
use super::quoted::Quoted;

/// The end of the flow whose address and port are replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    Source,
    Destination,
}

/// What one end of a packet becomes.
#[derive(Clone, Copy)]
pub struct Replacement<A> {
    pub address: A,
    pub port: Be16,
    /// What is taken from the hop limit, which the caller knows to be more.
    pub hops: u8,
}

impl<A> Replacement<A> {
    /// The hop limit stays.
    pub const fn new(address: A, port: Be16) -> Self {
        Self { address, port, hops: 0 }
    }
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

    /// Updates a transport checksum for a change of an address of its pseudo header.
    fn update_pseudo_header(
        ctx: &TcContext,
        checksum_offset: u32,
        flags: u64,
        old: Self::Address,
        new: Self::Address,
    ) -> Result<(), DropReason>;

    /// Changes an address that a checksum covers as data.
    fn change_quoted_address(
        ctx: &TcContext,
        checksum_offset: u32,
        offset: u32,
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
#[inline(never)]
pub fn replace<F: Rewrite>(
    ctx: &TcContext,
    packet: &mut Packet<F>,
    end: End,
    new: &Replacement<F::Address>,
) -> Result<(), DropReason> {
    let Replacement { address, port, hops } = *new;
    let tuple = packet.tuple;
    let (old_address, old_port) = match end {
        End::Source => (tuple.source, tuple.source_port),
        End::Destination => (tuple.destination, tuple.destination_port),
    };
    let (source, destination) = match end {
        End::Source => (address, tuple.destination),
        End::Destination => (tuple.source, address),
    };
    if let Some(transport) = TransportFields::of(packet, end) {
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
    F::write_header(ctx, packet, packet.hop_limit - hops, source, destination)
}

/// Where a transport keeps the port of one end, and how its checksum is changed.
struct TransportFields {
    port_offset: u32,
    checksum_offset: u32,
    has_pseudo_header: bool,
    /// Flags of `bpf_l4_csum_replace`.
    flags: u64,
}

impl TransportFields {
    fn of<F: Rewrite>(packet: &Packet<F>, end: End) -> Option<Self> {
        // A later fragment has no header, and the checksum in the first one's is of the whole packet.
        if packet.part == Part::Later {
            return None;
        }
        let start = packet.transport_offset();
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
        update_checksum(ctx, self.checksum_offset, u64::from(old.0), u64::from(new.0), self.flags | 2)?;
        store(ctx, self.port_offset, &new)
    }
}

/// Replaces address and port of one end of the packet that an ICMP error quotes, its checksums included. The message's own
/// checksum covers all of it.
#[inline(always)]
pub fn replace_quoted<F: Rewrite>(
    ctx: &TcContext,
    message: &Packet<F>,
    quoted: &Quoted<F>,
    end: End,
    address: F::Address,
    port: Be16,
) -> Result<(), DropReason> {
    let sum_offset = message.transport_offset() + 2;
    let tuple = &quoted.tuple;
    let (old_address, old_port, behind, port_offset) = match end {
        End::Source => (tuple.source, tuple.source_port, 0, quoted.port_offsets[0]),
        End::Destination => {
            (tuple.destination, tuple.destination_port, size_of::<F::Address>() as u32, quoted.port_offsets[1])
        }
    };
    let (offset, old) = quoted.header_checksum;
    if offset != 0 {
        let new = F::Address::update_checksum(old, old_address, address);
        change_word(ctx, sum_offset, offset, old, new)?;
    }
    let (offset, old) = quoted.checksum;
    if offset != 0 {
        let has_pseudo_header = tuple.protocol != F::ICMP || F::ICMP_HAS_PSEUDO_HEADER;
        let with_address = if has_pseudo_header { F::Address::update_checksum(old, old_address, address) } else { old };
        let new = match checksum::update(with_address, old_port.0, port.0) {
            // RFC 768: "no checksum" is not what is meant.
            0 if tuple.protocol == UDP => 0xffff,
            new => new,
        };
        change_word(ctx, sum_offset, offset, old, new)?;
    }
    if port_offset != 0 {
        change_word(ctx, sum_offset, port_offset, old_port.0, port.0)?;
    }
    F::change_quoted_address(ctx, sum_offset, quoted.source_offset + behind, old_address, address)
}

/// Two bytes that a checksum covers.
fn change_word(ctx: &TcContext, sum_offset: u32, offset: u32, old: u16, new: u16) -> Result<(), DropReason> {
    update_checksum(ctx, sum_offset, u64::from(old), u64::from(new), 2)?;
    store(ctx, offset, &new)
}

/// Updates a transport's checksum for a change (include/uapi/linux/bpf.h, bpf_l4_csum_replace).
#[inline(always)]
pub(super) fn update_checksum(ctx: &TcContext, offset: u32, old: u64, new: u64, flags: u64) -> Result<(), DropReason> {
    ctx.l4_csum_replace(offset as usize, old, new, flags).map_err(|_| DropReason::RewriteFailed)
}

pub(super) fn store<T>(ctx: &TcContext, offset: u32, value: &T) -> Result<(), DropReason> {
    store_with(ctx, offset, value, 0)
}

pub(super) fn store_with<T>(ctx: &TcContext, offset: u32, value: &T, flags: u64) -> Result<(), DropReason> {
    ctx.store(offset as usize, value, flags).map_err(|_| DropReason::RewriteFailed)
}
