//! What is behind the IP header: ports, flags, or the identifier of an echo.

use aya_ebpf::programs::TcContext;
use azure_cni_common::conntrack::TcpFlags;
use azure_cni_common::family::{Be16, TCP, UDP};
use azure_cni_common::flow::Tuple;

use super::{EventKind, Headers, Kind, Part, read};

pub(super) struct TransportHeader {
    pub(super) kind: Kind,
    pub(super) said: EventKind,
    pub(super) flags: TcpFlags,
    source_port: Be16,
    destination_port: Be16,
}

impl TransportHeader {
    pub(super) const fn none(kind: Kind) -> Self {
        Self { kind, said: EventKind::Datagram, flags: TcpFlags(0), source_port: Be16(0), destination_port: Be16(0) }
    }

    /// The two ports as one word of the packet.
    pub(super) const fn with_ports(word: u32, said: EventKind, flags: TcpFlags) -> Self {
        let [source_first, source_second, destination_first, destination_second] = word.to_ne_bytes();
        Self {
            kind: Kind::Flow,
            said,
            flags,
            source_port: Be16(u16::from_ne_bytes([source_first, source_second])),
            destination_port: Be16(u16::from_ne_bytes([destination_first, destination_second])),
        }
    }

    pub(super) fn between<A>(&self, source: A, destination: A, protocol: u8) -> Tuple<A> {
        let Self { source_port, destination_port, .. } = *self;
        Tuple { source, destination, source_port, destination_port, protocol }
    }
}

#[inline(always)]
pub(super) fn transport<F: Headers>(
    ctx: &TcContext,
    offset: u32,
    protocol: u8,
    length: u32,
    part: Part,
) -> TransportHeader {
    if part == Part::Later {
        return TransportHeader::none(Kind::StrayFragment);
    }
    match protocol {
        TCP if length >= 20 => match read::<[u32; 4]>(ctx, offset) {
            // Ports, sequence, acknowledgement, then offset and flags (RFC 9293 section 3.1).
            Some([ports, _, _, word]) => {
                let [_, flags, _, _] = word.to_ne_bytes();
                TransportHeader::with_ports(ports, EventKind::Segment, TcpFlags(flags))
            }
            None => TransportHeader::none(Kind::Malformed),
        },
        UDP if length >= 8 => match read::<u32>(ctx, offset) {
            Some(ports) => TransportHeader::with_ports(ports, EventKind::Datagram, TcpFlags(0)),
            None => TransportHeader::none(Kind::Malformed),
        },
        protocol if protocol == F::ICMP && length >= 8 => match read::<[u32; 2]>(ctx, offset) {
            Some([first, second]) => {
                let [icmp_type, _, _, _] = first.to_ne_bytes();
                icmp::<F>(icmp_type, second)
            }
            None => TransportHeader::none(Kind::Malformed),
        },
        TCP | UDP => TransportHeader::none(Kind::Malformed),
        protocol if protocol == F::ICMP => TransportHeader::none(Kind::Malformed),
        _ => TransportHeader::none(Kind::Flow),
    }
}

/// The identifier of an echo is the port of the side that asks.
#[inline(always)]
pub(super) fn icmp<F: Headers>(icmp_type: u8, second_word: u32) -> TransportHeader {
    let [id_first, id_second, _, _] = second_word.to_ne_bytes();
    let identifier = Be16(u16::from_ne_bytes([id_first, id_second]));
    if icmp_type == F::ECHO {
        TransportHeader { source_port: identifier, ..TransportHeader::none(Kind::Flow) }
    } else if icmp_type == F::ECHO_REPLY {
        TransportHeader { destination_port: identifier, said: EventKind::Reply, ..TransportHeader::none(Kind::Flow) }
    } else {
        TransportHeader::none(if F::is_icmp_error(icmp_type) { Kind::IcmpError } else { Kind::Opaque })
    }
}
