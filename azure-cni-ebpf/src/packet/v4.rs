//! The header of IPv4 (RFC 791): how it is read, and how it is written.

use aya_ebpf::{bindings::BPF_F_PSEUDO_HDR, programs::TcContext};
use azure_cni_common::checksum;
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::family::{Family, Ipv4, V4};

use super::parse::{ETH_LEN, Headers, Packet, Part, QuotedHeader, Unparsed, read, read_words, skb};
use super::rewrite::{End, Rewrite, store, store_head, update_checksum};

impl Headers for V4 {
    /// Echo, timestamp, information (RFC 792), address mask (RFC 950), extended echo (RFC 8335).
    fn is_query(icmp_type: u8) -> bool {
        matches!(icmp_type, 8 | 13 | 15 | 17 | 42)
    }

    fn is_query_reply(icmp_type: u8) -> bool {
        matches!(icmp_type, 0 | 14 | 16 | 18 | 43)
    }

    /// Destination unreachable, time exceeded, parameter problem (RFC 792). Redirects are for the link alone.
    fn is_icmp_error(icmp_type: u8) -> bool {
        matches!(icmp_type, 3 | 11 | 12)
    }

    #[inline(always)]
    fn icmp_type(ctx: &TcContext) -> Option<u8> {
        let [_, protocol, _, _] = read::<u32>(ctx, ETH_LEN + 8)?.to_ne_bytes();
        if protocol != V4::ICMP {
            return None;
        }
        // A later fragment begins with anything.
        let [_, _, high, low] = read::<u32>(ctx, ETH_LEN + 4)?.to_ne_bytes();
        if u16::from_be_bytes([high, low]) & 0x1fff != 0 {
            return None;
        }
        let [version_ihl, _]: [u8; 2] = read(ctx, ETH_LEN)?;
        let [icmp_type, _]: [u8; 2] = read(ctx, ETH_LEN + u32::from(version_ihl & 0x0f) * 4)?;
        Some(icmp_type)
    }

    /// RFC 791 section 3.1.
    #[inline(always)]
    fn parse(ctx: &TcContext, packet: &mut Packet<V4>) -> Result<(), Unparsed> {
        let words: [u32; 5] = read_words(ctx, ETH_LEN).ok_or(Unparsed::Malformed)?;
        let [version_ihl, _, length_high, length_low] = words[0].to_ne_bytes();
        let [id_high, id_low, fragment_high, fragment_low] = words[1].to_ne_bytes();
        let [hop_limit, protocol, sum_first, sum_second] = words[2].to_ne_bytes();

        let header_length = u32::from(version_ihl & 0x0f) * 4;
        let on_the_frame = skb(ctx).len - ETH_LEN;
        let length = match u32::from(u16::from_be_bytes([length_high, length_low])) {
            // Longer than 65,535 bytes in one buffer (Documentation/networking, BIG TCP).
            0 if skb(ctx).gso_size != 0 => on_the_frame,
            length => length,
        };
        if version_ihl >> 4 != 4 || header_length < 20 || length < header_length || length > on_the_frame {
            return Err(Unparsed::Malformed);
        }
        let fragment = u16::from_be_bytes([fragment_high, fragment_low]);
        let part = Part::of(fragment & 0x1fff != 0, fragment & 0x2000 != 0);
        let transport_offset = ETH_LEN + header_length;
        (packet.tuple.source, packet.tuple.destination) = (Ipv4(words[3]), Ipv4(words[4]));
        packet.tuple.protocol = protocol;
        packet.part = part;
        packet.hop_limit = hop_limit;
        packet.identification = u32::from(u16::from_ne_bytes([id_high, id_low]));
        packet.transport_offset = transport_offset as u16;
        packet.length = length;
        packet.ifindex = skb(ctx).ifindex;
        packet.header_checksum = u16::from_ne_bytes([sum_first, sum_second]);
        (packet.head.ip[0], packet.head.ip[1]) = (words[0], words[1]);
        packet.parse_transport(ctx, transport_offset, protocol, length - header_length, part);
        Ok(())
    }

    #[inline(always)]
    fn parse_quoted(ctx: &TcContext, offset: u32) -> Option<QuotedHeader<V4>> {
        let words: [u32; 5] = read(ctx, offset)?;
        let [version_ihl, _, _, _] = words[0].to_ne_bytes();
        let [_, _, fragment_high, fragment_low] = words[1].to_ne_bytes();
        let [_, protocol, sum_first, sum_second] = words[2].to_ne_bytes();
        let header_length = u32::from(version_ihl & 0x0f) * 4;
        let is_later = u16::from_be_bytes([fragment_high, fragment_low]) & 0x1fff != 0;
        (version_ihl >> 4 == 4 && header_length >= 20 && !is_later).then_some(QuotedHeader {
            source: Ipv4(words[3]),
            destination: Ipv4(words[4]),
            protocol,
            source_offset: offset + 12,
            checksum: (offset + 10, u16::from_ne_bytes([sum_first, sum_second])),
            transport_offset: offset + header_length,
        })
    }
}

impl Rewrite for V4 {
    const ICMP_HAS_PSEUDO_HEADER: bool = false;

    /// Bytes 8 to 19 of RFC 791 section 3.1: time to live, protocol, checksum, source, destination.
    #[inline(always)]
    fn write_address(
        ctx: &TcContext,
        packet: &mut Packet<V4>,
        hops: u8,
        end: End,
        address: Ipv4,
    ) -> Result<(), DropReason> {
        let place = match end {
            End::Source => &mut packet.tuple.source,
            End::Destination => &mut packet.tuple.destination,
        };
        let (old, gone) = (place.0, u32::from_ne_bytes([hops, 0, 0, 0]));
        *place = address;
        packet.hop_limit -= hops;
        packet.header_checksum = checksum::update_words(packet.header_checksum, [gone, old], [0, address.0]);
        let third = third_word(packet.hop_limit, packet.tuple.protocol, packet.header_checksum);
        store(ctx, ETH_LEN + 8, &[third, packet.tuple.source.0, packet.tuple.destination.0])
    }

    /// Bytes 8 to 11.
    #[inline(always)]
    fn decrement_hop_limit(ctx: &TcContext, packet: &Packet<V4>) -> Result<(), DropReason> {
        store(ctx, ETH_LEN + 8, &decremented(packet))
    }

    /// Ethernet and IP header up to the checksum, in one go.
    #[inline(always)]
    fn write_head(ctx: &TcContext, packet: &mut Packet<V4>) -> Result<(), DropReason> {
        packet.head.ip[2] = decremented(packet);
        store_head(ctx, &packet.head, ETH_LEN + 12)
    }

    fn update_pseudo_header(
        ctx: &TcContext,
        checksum_offset: u32,
        flags: u64,
        old: &Ipv4,
        new: &Ipv4,
    ) -> Result<(), DropReason> {
        let flags = flags | u64::from(BPF_F_PSEUDO_HDR) | size_of::<Ipv4>() as u64;
        update_checksum(ctx, checksum_offset, u64::from(old.0), u64::from(new.0), flags)
    }

    fn change_quoted_address(
        ctx: &TcContext,
        checksum_offset: u32,
        offset: u32,
        old: Ipv4,
        new: Ipv4,
    ) -> Result<(), DropReason> {
        let size = size_of::<Ipv4>() as u64;
        update_checksum(ctx, checksum_offset, u64::from(old.0), u64::from(new.0), size)?;
        store(ctx, offset, &new)
    }
}

/// Time to live, protocol, checksum.
#[inline(always)]
fn third_word(hop_limit: u8, protocol: u8, checksum: u16) -> u32 {
    let [first, second] = checksum.to_ne_bytes();
    u32::from_ne_bytes([hop_limit, protocol, first, second])
}

/// The third word with one hop less.
#[inline(always)]
fn decremented(packet: &Packet<V4>) -> u32 {
    third_word(packet.hop_limit - 1, packet.tuple.protocol, checksum::update_decremented(packet.header_checksum))
}
