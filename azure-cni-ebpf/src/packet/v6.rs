//! The header of IPv6 and its extension headers (RFC 8200): how they are read, and how the header is written.

use aya_ebpf::{
    bindings::{BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM},
    helpers::generated::bpf_csum_diff,
    programs::TcContext,
};
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::family::{Family, Ipv6, V6};

use super::parse::{
    ETH_LEN, Headers, Kind, Packet, Part, QuotedHeader, TransportHeader, Unparsed, read, read_words, skb,
};
use super::rewrite::{End, Rewrite, store, store_head, store_with, update_checksum};

impl Headers for V6 {
    /// Echo (RFC 4443 section 4), extended echo (RFC 8335).
    fn is_query(icmp_type: u8) -> bool {
        matches!(icmp_type, 128 | 160)
    }

    fn is_query_reply(icmp_type: u8) -> bool {
        matches!(icmp_type, 129 | 161)
    }

    /// RFC 4443 section 2.1: error messages have the high bit clear. The four that are defined.
    fn is_icmp_error(icmp_type: u8) -> bool {
        matches!(icmp_type, 1..=4)
    }

    #[inline(always)]
    fn icmp_type(ctx: &TcContext) -> Option<u8> {
        let [next_header, _]: [u8; 2] = read(ctx, ETH_LEN + 6)?;
        if next_header != V6::ICMP {
            return None;
        }
        let [icmp_type, _]: [u8; 2] = read(ctx, ETH_LEN + V6_HEADER)?;
        Some(icmp_type)
    }

    /// RFC 8200 section 3.
    #[inline(always)]
    fn parse(ctx: &TcContext, packet: &mut Packet<V6>) -> Result<(), Unparsed> {
        let words: [u32; 10] = read_words(ctx, ETH_LEN).ok_or(Unparsed::Malformed)?;
        let [version, _, _, _] = words[0].to_ne_bytes();
        let [length_high, length_low, next_header, hop_limit] = words[1].to_ne_bytes();
        let on_the_frame = skb(ctx).len - ETH_LEN;
        let length = match u32::from(u16::from_be_bytes([length_high, length_low])) {
            // A jumbo payload (RFC 2675), which exists here only until the device cuts it.
            0 if skb(ctx).gso_size != 0 => on_the_frame,
            length => length + V6_HEADER,
        };
        if version >> 4 != 6 || length > on_the_frame {
            return Err(Unparsed::Malformed);
        }
        packet.tuple.source = Ipv6([words[2], words[3], words[4], words[5]]);
        packet.tuple.destination = Ipv6([words[6], words[7], words[8], words[9]]);
        let inner = behind_extensions(ctx, ETH_LEN + V6_HEADER, next_header).ok_or(Unparsed::Malformed)?;
        packet.tuple.protocol = inner.protocol;
        packet.part = inner.part;
        packet.hop_limit = hop_limit;
        packet.identification = inner.identification;
        packet.transport_offset = inner.offset as u16;
        packet.length = length;
        packet.ifindex = skb(ctx).ifindex;
        packet.header_checksum = 0;
        let headers = inner.offset - ETH_LEN;
        if inner.is_hidden {
            packet.enter(TransportHeader::none(Kind::Opaque));
        } else if headers > length {
            packet.enter(TransportHeader::none(Kind::Malformed));
        } else {
            packet.parse_transport(ctx, inner.offset, inner.protocol, length - headers, inner.part);
        }
        Ok(())
    }

    #[inline(always)]
    fn parse_quoted(ctx: &TcContext, offset: u32) -> Option<QuotedHeader<V6>> {
        let words: [u32; 10] = read(ctx, offset)?;
        let [version, _, _, _] = words[0].to_ne_bytes();
        let [_, _, next_header, _] = words[1].to_ne_bytes();
        let inner = behind_extensions(ctx, offset + V6_HEADER, next_header)?;
        (version >> 4 == 6 && !inner.is_hidden && inner.part != Part::Later).then_some(QuotedHeader {
            source: Ipv6([words[2], words[3], words[4], words[5]]),
            destination: Ipv6([words[6], words[7], words[8], words[9]]),
            protocol: inner.protocol,
            source_offset: offset + 8,
            checksum: (0, 0),
            transport_offset: inner.offset,
        })
    }
}

/// Length of the IPv6 header without extensions.
const V6_HEADER: u32 = 40;

/// What is behind IPv6 extension headers.
#[derive(Clone, Copy)]
struct Inner {
    protocol: u8,
    part: Part,
    /// More headers than are looked behind.
    is_hidden: bool,
    identification: u32,
    offset: u32,
}

/// Extension headers that are looked behind. Real packets have one or two.
const MOST_EXTENSIONS: u32 = 4;

/// RFC 8200 section 4: hop-by-hop options, routing, fragment, destination options. All else is taken for the transport.
#[inline(always)]
fn behind_extensions(ctx: &TcContext, offset: u32, next_header: u8) -> Option<Inner> {
    let mut inner = Inner { protocol: next_header, part: Part::Whole, is_hidden: false, identification: 0, offset };
    for _ in 0..MOST_EXTENSIONS {
        if !is_extension(inner.protocol) || inner.part == Part::Later {
            return Some(inner);
        }
        let words: [u32; 2] = read(ctx, inner.offset)?;
        let [next, length, fragment_high, fragment_low] = words[0].to_ne_bytes();
        if inner.protocol == FRAGMENT {
            let fragment = u16::from_be_bytes([fragment_high, fragment_low]);
            inner.part = Part::of(fragment & 0xfff8 != 0, fragment & 1 != 0);
            inner.identification = words[1];
            inner.offset += 8;
        } else {
            inner.offset += (u32::from(length) + 1) * 8;
        }
        inner.protocol = next;
    }
    inner.is_hidden = is_extension(inner.protocol);
    Some(inner)
}

/// IANA protocol number of the fragment header.
const FRAGMENT: u8 = 44;

fn is_extension(protocol: u8) -> bool {
    matches!(protocol, 0 | 43 | FRAGMENT | 60)
}

impl Rewrite for V6 {
    const ICMP_HAS_PSEUDO_HEADER: bool = true;

    /// Bytes 7 to 39 of RFC 8200 section 3: hop limit, source, destination. No checksum in the header makes up for a
    /// change of it, so what the device has summed up already (CHECKSUM_COMPLETE) has to learn of each.
    #[inline(always)]
    fn write_address(
        ctx: &TcContext,
        packet: &mut Packet<V6>,
        hops: u8,
        end: End,
        address: Ipv6,
    ) -> Result<(), DropReason> {
        if hops != 0 {
            packet.hop_limit -= hops;
            write_hop_limit(ctx, packet.hop_limit)?;
        }
        let (place, offset) = match end {
            End::Source => (&mut packet.tuple.source, 8),
            End::Destination => (&mut packet.tuple.destination, 24),
        };
        *place = address;
        store_with(ctx, ETH_LEN + offset, place, u64::from(BPF_F_RECOMPUTE_CSUM))
    }

    #[inline(always)]
    fn decrement_hop_limit(ctx: &TcContext, packet: &Packet<V6>) -> Result<(), DropReason> {
        write_hop_limit(ctx, packet.hop_limit - 1)
    }

    /// The Ethernet header apart: what the device has summed up already does not cover it.
    #[inline(always)]
    fn write_head(ctx: &TcContext, packet: &mut Packet<V6>) -> Result<(), DropReason> {
        store_head(ctx, &packet.head, ETH_LEN)?;
        write_hop_limit(ctx, packet.hop_limit - 1)
    }

    fn update_pseudo_header(
        ctx: &TcContext,
        checksum_offset: u32,
        flags: u64,
        old: &Ipv6,
        new: &Ipv6,
    ) -> Result<(), DropReason> {
        let flags = flags | u64::from(BPF_F_PSEUDO_HDR);
        replace_by_difference(ctx, checksum_offset, flags, old, new)
    }

    fn change_quoted_address(
        ctx: &TcContext,
        checksum_offset: u32,
        offset: u32,
        old: Ipv6,
        new: Ipv6,
    ) -> Result<(), DropReason> {
        replace_by_difference(ctx, checksum_offset, 0, &old, &new)?;
        store(ctx, offset, &new)
    }
}

#[inline(always)]
fn write_hop_limit(ctx: &TcContext, hop_limit: u8) -> Result<(), DropReason> {
    store_with(ctx, ETH_LEN + 7, &hop_limit, u64::from(BPF_F_RECOMPUTE_CSUM))
}

/// Tells a checksum of a change that is longer than the kernel's helper takes: by the sum of the difference.
fn replace_by_difference(
    ctx: &TcContext,
    checksum_offset: u32,
    flags: u64,
    old: &Ipv6,
    new: &Ipv6,
) -> Result<(), DropReason> {
    let size = size_of::<Ipv6>() as u32;
    let (old, new) = (old.0.as_ptr().cast_mut(), new.0.as_ptr().cast_mut());
    // SAFETY: both pointers are to as many bytes as the sizes say, which the helper reads.
    let difference = unsafe { bpf_csum_diff(old, size, new, size, 0) };
    if difference < 0 {
        return Err(DropReason::RewriteFailed);
    }
    update_checksum(ctx, checksum_offset, 0, difference as u64, flags)
}
