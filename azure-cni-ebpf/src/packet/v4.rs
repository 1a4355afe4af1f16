//! The header of IPv4 (RFC 791).

use aya_ebpf::programs::TcContext;
use azure_cni_common::family::{Family, Ipv4, V4};

use super::quoted::QuotedHeader;
use super::transport::transport;
use super::{ETH_LEN, Headers, Packet, Part, Unparsed, read, skb};

impl Headers for V4 {
    /// RFC 792.
    const ECHO: u8 = 8;
    const ECHO_REPLY: u8 = 0;

    /// Destination unreachable, time exceeded, parameter problem (RFC 792). Redirects are for the link alone.
    fn is_icmp_error(icmp_type: u8) -> bool {
        matches!(icmp_type, 3 | 11 | 12)
    }

    #[inline(always)]
    fn icmp_type(ctx: &TcContext) -> Option<u8> {
        let [fragment, second]: [u32; 2] = read(ctx, ETH_LEN + 4)?;
        let ([_, _, high, low], [_, protocol, _, _]) = (fragment.to_ne_bytes(), second.to_ne_bytes());
        // A later fragment begins with anything.
        if protocol != V4::ICMP || u16::from_be_bytes([high, low]) & 0x1fff != 0 {
            return None;
        }
        let [version_ihl, _]: [u8; 2] = read(ctx, ETH_LEN)?;
        let [icmp_type, _]: [u8; 2] = read(ctx, ETH_LEN + u32::from(version_ihl & 0x0f) * 4)?;
        Some(icmp_type)
    }

    /// RFC 791 section 3.1.
    #[inline(always)]
    fn parse(ctx: &TcContext, packet: &mut Packet<V4>) -> Result<(), Unparsed> {
        let words: [u32; 5] = read(ctx, ETH_LEN).ok_or(Unparsed::Malformed)?;
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
        let transport = transport::<V4>(ctx, transport_offset, protocol, length - header_length, part);
        *packet = Packet {
            tuple: transport.between(Ipv4(words[3]), Ipv4(words[4]), protocol),
            kind: transport.kind,
            said: transport.said,
            flags: transport.flags,
            part,
            hop_limit,
            identification: u32::from(u16::from_ne_bytes([id_high, id_low])),
            transport_offset: transport_offset as u16,
            length,
            ifindex: skb(ctx).ifindex,
            header_checksum: u16::from_ne_bytes([sum_first, sum_second]),
        };
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
