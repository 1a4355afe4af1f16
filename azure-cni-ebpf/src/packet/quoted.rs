//! The packet that an ICMP error quotes.

use aya_ebpf::programs::TcContext;
use azure_cni_common::conntrack::EventKind;
use azure_cni_common::family::{Family, TCP, UDP, UDP_LITE};
use azure_cni_common::flow::Tuple;

use super::parse::{Headers, Kind, Packet, QuotedHeader, TransportHeader, icmp, read};

/// The packet that an ICMP error speaks of, as far as it is quoted: eight bytes behind its IP header are certain (RFC 792,
/// RFC 4443 section 2.4 has more). Offsets are from the start of the frame.
pub struct Quoted<F: Family> {
    /// In the quoted packet's own direction.
    pub tuple: Tuple<F::Address>,
    /// Of the source address; the destination comes right behind.
    pub source_offset: u32,
    /// Where the IP header's checksum is, and what it is; at 0 there is none.
    pub header_checksum: (u32, u16),
    /// Where the port of the source is, and of the destination; 0 if it has none.
    pub port_offsets: [u32; 2],
    /// Where the transport's checksum is, and what it is; at 0 it was cut off, or says that there is none.
    pub checksum: (u32, u16),
}

impl<F: Headers> Quoted<F> {
    /// `None` if the message quotes nothing that belongs to a flow.
    #[inline(always)]
    pub fn parse(&mut self, ctx: &TcContext, packet: &Packet<F>) -> Option<()> {
        let header = F::parse_quoted(ctx, packet.transport_offset() + ICMP_HEADER)?;
        let start = header.transport_offset;
        let words: [u32; 2] = read(ctx, start)?;
        let [icmp_type, _, icmp_sum_first, icmp_sum_second] = words[0].to_ne_bytes();
        let [_, _, udp_sum_first, udp_sum_second] = words[1].to_ne_bytes();
        let udp_sum = u16::from_ne_bytes([udp_sum_first, udp_sum_second]);
        let icmp_sum = u16::from_ne_bytes([icmp_sum_first, icmp_sum_second]);
        let (transport, port_offsets, checksum) = match header.protocol {
            TCP => {
                let checksum = match read::<u16>(ctx, start + 16) {
                    Some(sum) => (start + 16, sum),
                    None => (0, 0),
                };
                (TransportHeader::with_ports(words[0], EventKind::Fragment), [start, start + 2], checksum)
            }
            UDP | UDP_LITE => {
                let checksum = if udp_sum != 0 { (start + 6, udp_sum) } else { (0, 0) };
                (TransportHeader::with_ports(words[0], EventKind::Fragment), [start, start + 2], checksum)
            }
            icmp_protocol if icmp_protocol == F::ICMP => {
                let offsets = match icmp_type {
                    request if F::is_query(request) => [start + 4, 0],
                    reply if F::is_query_reply(reply) => [0, start + 4],
                    _ => return None,
                };
                (icmp::<F>(icmp_type, words[1]), offsets, (start + 2, icmp_sum))
            }
            _ => (TransportHeader::none(Kind::Opaque), [0, 0], (0, 0)),
        };
        let tuple = transport.between(header.source, header.destination, header.protocol);
        let QuotedHeader { source_offset, checksum: header_checksum, .. } = header;
        *self = Self { tuple, source_offset, header_checksum, port_offsets, checksum };
        Some(())
    }
}

/// RFC 792, RFC 4443 section 2.1: type, code, checksum, four bytes that depend on the type.
const ICMP_HEADER: u32 = 8;
