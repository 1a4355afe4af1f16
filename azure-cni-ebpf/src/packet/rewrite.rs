//! The only file that writes packets, checksums included.
//!
//! All writes go through the kernel's helpers: they make a shared buffer private, and they know which checksums the device
//! still has to complete (CHECKSUM_PARTIAL) and which it has summed up already (CHECKSUM_COMPLETE).

use aya_ebpf::{
    bindings::{BPF_F_MARK_MANGLED_0, BPF_F_RECOMPUTE_CSUM},
    helpers::generated::bpf_skb_store_bytes,
    programs::TcContext,
};
use azure_cni_common::checksum;
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::endpoint::EndpointEntry;
use azure_cni_common::family::{Address, Be16, TCP, UDP, UDP_LITE};

use super::parse::{ETH_LEN, Head, Headers, Packet, Part, read};
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

    /// Changes the address of one end in the header, and in `packet`, and takes `hops` from the hop limit.
    fn write_address(
        ctx: &TcContext,
        packet: &mut Packet<Self>,
        hops: u8,
        end: End,
        address: Self::Address,
    ) -> Result<(), DropReason>;

    /// Takes one from the hop limit. To be called last: `packet` does not learn of it.
    fn decrement_hop_limit(ctx: &TcContext, packet: &Packet<Self>) -> Result<(), DropReason>;

    /// Writes `packet.head`, and takes one from the hop limit. To be called last: `packet` does not learn of it.
    fn write_head(ctx: &TcContext, packet: &mut Packet<Self>) -> Result<(), DropReason>;

    /// Updates a transport checksum for a change of an address of its pseudo header.
    fn update_pseudo_header(
        ctx: &TcContext,
        checksum_offset: u32,
        flags: u64,
        old: &Self::Address,
        new: &Self::Address,
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
pub fn decrement_hop_limit<F: Rewrite>(ctx: &TcContext, packet: &Packet<F>) -> Result<(), DropReason> {
    F::decrement_hop_limit(ctx, packet)
}

/// Makes the frame one for the pod's interface, and takes one from the hop limit, which the caller knows to
/// be more than 1. A guest behind the interface takes in no other frame.
#[inline(always)]
pub fn deliver<F: Rewrite>(ctx: &TcContext, packet: &mut Packet<F>, pod: &EndpointEntry) -> Result<(), DropReason> {
    packet.head.address::<F>(pod);
    F::write_head(ctx, packet)
}

/// Replaces address and port of one end, in the packet and in `packet`.
#[inline(never)]
pub fn replace<F: Rewrite>(
    ctx: &TcContext,
    packet: &mut Packet<F>,
    end: End,
    new: &Replacement<F::Address>,
) -> Result<(), DropReason> {
    let Replacement { address, port, hops } = new;
    let (port, hops) = (*port, *hops);
    let (old_address, old_port) = match end {
        End::Source => (&packet.tuple.source, packet.tuple.source_port),
        End::Destination => (&packet.tuple.destination, packet.tuple.destination_port),
    };
    if let Some(header) = finished_udp(ctx, packet) {
        write_udp(ctx, packet, header, end, F::Address::update_checksum(header[3], *old_address, *address), port)?;
    } else if let Some(transport) = TransportFields::of(packet, end) {
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
    F::write_address(ctx, packet, hops, end, *address)
}

/// A UDP header whose checksum is finished: ports, length, checksum. `None` of other packets, and where the device is to complete
/// the checksum: there it is the sum of the pseudo header.
///
/// The kernel's helper takes every checksum for one to be completed while the device has any to complete in the packet. That may be
/// one further inside: the outer header of an encapsulated packet is finished (Documentation/networking/checksum-offloads.rst, LCO).
#[inline(always)]
fn finished_udp<F: Rewrite>(ctx: &TcContext, packet: &Packet<F>) -> Option<[u16; 4]> {
    if packet.tuple.protocol != UDP || packet.part == Part::Later {
        return None;
    }
    let start = packet.transport_offset();
    let header: [u16; 4] = read(ctx, start)?;
    let length = packet.length - (start - ETH_LEN);
    let (source, destination) = (packet.tuple.source.to_words(), packet.tuple.destination.to_words());
    let to_complete = checksum::pseudo_header(source, destination, UDP, length);
    if header[3] == to_complete { None } else { Some(header) }
}

/// Writes port and checksum of one end. RFC 768: a checksum of zero means that there is none, and stays; one that comes out as zero
/// is sent as all ones.
#[inline(always)]
fn write_udp<F: Rewrite>(
    ctx: &TcContext,
    packet: &Packet<F>,
    header: [u16; 4],
    end: End,
    with_address: u16,
    port: Be16,
) -> Result<(), DropReason> {
    let [source, destination, length, old] = header;
    let (old_port, ports) = match end {
        End::Source => (source, [port.0, destination]),
        End::Destination => (destination, [source, port.0]),
    };
    let sum = match checksum::update(with_address, old_port, port.0) {
        _ if old == 0 => 0,
        0 => 0xffff,
        sum => sum,
    };
    // What the device has summed up already (CHECKSUM_COMPLETE) learns of the change.
    let written = [ports[0], ports[1], length, sum];
    store_with(ctx, packet.transport_offset(), &written, u64::from(BPF_F_RECOMPUTE_CSUM))
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
            // RFC 768: zero means "no checksum" and stays; a sum that comes out as zero is sent as all ones. In UDP-Lite zero is
            // an error (RFC 3828 section 3.1), which stays one.
            UDP | UDP_LITE => Some(Self {
                port_offset,
                checksum_offset: start + 6,
                has_pseudo_header: true,
                flags: u64::from(BPF_F_MARK_MANGLED_0),
            }),
            // The identifier of a query stands for the port, whichever end asks (RFC 792, RFC 4443 section 4).
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
            0 if matches!(tuple.protocol, UDP | UDP_LITE) => 0xffff,
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

/// Writes a frame's first `length` bytes.
pub(super) fn store_head(ctx: &TcContext, head: &Head, length: u32) -> Result<(), DropReason> {
    debug_assert!(length as usize + HEAD_PAD <= size_of::<Head>());
    // SAFETY: the bytes are within `head`; the kernel reads them, and writes the packet behind bounds of its own.
    let result = unsafe {
        let bytes = (&raw const *head).wrapping_byte_add(HEAD_PAD);
        bpf_skb_store_bytes(ctx.skb.skb.cast(), 0, bytes.cast(), length, 0)
    };
    if result == 0 { Ok(()) } else { Err(DropReason::RewriteFailed) }
}

/// Of [`Head`].
const HEAD_PAD: usize = 2;

pub(super) fn store<T>(ctx: &TcContext, offset: u32, value: &T) -> Result<(), DropReason> {
    store_with(ctx, offset, value, 0)
}

pub(super) fn store_with<T>(ctx: &TcContext, offset: u32, value: &T, flags: u64) -> Result<(), DropReason> {
    ctx.store(offset as usize, value, flags).map_err(|_| DropReason::RewriteFailed)
}
