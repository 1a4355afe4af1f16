//! Frames in words. Headers and checksums are written by etherparse; what it would refuse to write is edited in.

use std::net::{IpAddr, Ipv4Addr};

use etherparse::icmpv4::{DestUnreachableHeader, TimeExceededCode};
use etherparse::{
    IcmpEchoHeader, Icmpv4Type, Icmpv6Type, IpHeaders, IpNumber, PacketBuilder, PacketBuilderStep, icmpv6,
};

/// An Ethernet frame with an IP packet of a known kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub bytes: Vec<u8>,
}

/// An ICMP error, as both families know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IcmpError {
    PortUnreachable,
    TimeExceeded,
    /// IPv4 calls it "fragmentation needed", IPv6 "packet too big". Says that this many bytes fit.
    TooLong(u16),
}

impl IcmpError {
    pub const ALL: [Self; 3] = [Self::PortUnreachable, Self::TimeExceeded, Self::TooLong(1400)];
}

const HOP_LIMIT: u8 = 64;
const PAYLOAD: &[u8] = b"payload of odd length";
const SOURCE_MAC: [u8; 6] = [2; 6];
/// Stands for the MAC of whatever device the frame will arrive at.
pub(crate) const ANY_MAC: [u8; 6] = [0; 6];
pub(crate) const ETH_LEN: usize = 14;

impl Frame {
    /// A segment whose flags are letters: "S", "SA", "A", "FA", "R". Its numbers are the same in both directions, and near enough
    /// to each other for either end's.
    pub fn tcp<A: Into<IpAddr>>(source: (A, u16), destination: (A, u16), flags: &str) -> Self {
        Self::tcp_with_numbers(source, destination, flags, 1000, 77)
    }

    /// A segment in mid-stream.
    pub fn tcp_with_payload<A: Into<IpAddr>>(source: (A, u16), destination: (A, u16), payload: &[u8]) -> Self {
        let builder = between(source.0, destination.0).tcp(source.1, destination.1, 1000, 64_000).ack(77);
        written(|bytes| builder.write(bytes, payload))
    }

    /// The same with these sequence and acknowledgement numbers.
    pub fn tcp_with_numbers<A: Into<IpAddr>>(
        source: (A, u16),
        destination: (A, u16),
        flags: &str,
        sequence: u32,
        acknowledgement: u32,
    ) -> Self {
        let mut builder = between(source.0, destination.0).tcp(source.1, destination.1, sequence, 64_000);
        for letter in flags.chars() {
            builder = match letter {
                'S' => builder.syn(),
                'A' => builder.ack(acknowledgement),
                'F' => builder.fin(),
                'R' => builder.rst(),
                other => panic!("no TCP flag is written {other}"),
            };
        }
        written(|bytes| builder.write(bytes, PAYLOAD))
    }

    pub fn udp<A: Into<IpAddr>>(source: (A, u16), destination: (A, u16)) -> Self {
        Self::udp_with_payload(source, destination, PAYLOAD)
    }

    pub fn udp_with_payload<A: Into<IpAddr>>(source: (A, u16), destination: (A, u16), payload: &[u8]) -> Self {
        let builder = between(source.0, destination.0).udp(source.1, destination.1);
        written(|bytes| builder.write(bytes, payload))
    }

    pub fn echo_request<A: Into<IpAddr>>(source: A, destination: A, id: u16) -> Self {
        let echo = IcmpEchoHeader { id, seq: 1 };
        Self::message(source, destination, Icmpv4Type::EchoRequest(echo), Icmpv6Type::EchoRequest(echo), PAYLOAD)
    }

    pub fn echo_reply<A: Into<IpAddr>>(source: A, destination: A, id: u16) -> Self {
        let echo = IcmpEchoHeader { id, seq: 1 };
        Self::message(source, destination, Icmpv4Type::EchoReply(echo), Icmpv6Type::EchoReply(echo), PAYLOAD)
    }

    /// An ICMP error about a packet, quoted as far as it is given.
    pub fn icmp_error<A: Into<IpAddr>>(source: A, destination: A, error: IcmpError, quoted: &[u8]) -> Self {
        use icmpv6::{DestUnreachableCode, TimeExceededCode as TimeExceededCode6};
        let (v4, v6) = match error {
            IcmpError::PortUnreachable => (
                Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Port),
                Icmpv6Type::DestinationUnreachable(DestUnreachableCode::Port),
            ),
            IcmpError::TimeExceeded => (
                Icmpv4Type::TimeExceeded(TimeExceededCode::TtlExceededInTransit),
                Icmpv6Type::TimeExceeded(TimeExceededCode6::HopLimitExceeded),
            ),
            IcmpError::TooLong(mtu) => (
                Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: mtu }),
                Icmpv6Type::PacketTooBig { mtu: mtu.into() },
            ),
        };
        Self::message(source, destination, v4, v6, quoted)
    }

    /// A message that is neither echo nor error, type and code in the family's own numbers.
    pub fn icmp_other<A: Into<IpAddr>>(source: A, destination: A, type_u8: u8) -> Self {
        let (code_u8, bytes5to8) = (0, [0; 4]);
        let v4 = Icmpv4Type::Unknown { type_u8, code_u8, bytes5to8 };
        let v6 = Icmpv6Type::Unknown { type_u8, code_u8, bytes5to8 };
        Self::message(source, destination, v4, v6, PAYLOAD)
    }

    /// A question that has an identifier, or its answer, type in the family's own numbers.
    pub fn icmp_query<A: Into<IpAddr>>(source: A, destination: A, type_u8: u8, id: u16) -> Self {
        let [high, low] = id.to_be_bytes();
        let (code_u8, bytes5to8) = (0, [high, low, 0, 1]);
        let v4 = Icmpv4Type::Unknown { type_u8, code_u8, bytes5to8 };
        let v6 = Icmpv6Type::Unknown { type_u8, code_u8, bytes5to8 };
        // A timestamp has three times behind it (RFC 792); others do not mind.
        Self::message(source, destination, v4, v6, &[3; 12])
    }

    /// ARP, from the MAC `of_frame` to all, in which the sender says that it has an address and a MAC.
    pub fn arp(operation: u16, of_frame: [u8; 6], sender: ([u8; 6], Ipv4Addr), target: Ipv4Addr) -> Self {
        let mut bytes = [&[0xff; 6][..], &of_frame, &[0x08, 0x06, 0, 1, 0x08, 0, 6, 4]].concat();
        bytes.extend(operation.to_be_bytes());
        bytes.extend([&sender.0[..], &sender.1.octets(), &[0; 6], &target.octets()].concat());
        Self { bytes }
    }

    /// UDP-Lite that covers all of itself (RFC 3828): UDP, but for the protocol's number.
    pub fn udp_lite<A: Into<IpAddr>>(source: (A, u16), destination: (A, u16), payload: &[u8]) -> Self {
        Self::udp_with_payload(source, destination, payload).into_udp_lite()
    }

    fn message<A: Into<IpAddr>>(source: A, destination: A, v4: Icmpv4Type, v6: Icmpv6Type, payload: &[u8]) -> Self {
        let (source, destination) = (source.into(), destination.into());
        let builder = between(source, destination);
        match source {
            IpAddr::V4(_) => written(|bytes| builder.icmpv4(v4).write(bytes, payload)),
            IpAddr::V6(_) => written(|bytes| builder.icmpv6(v6).write(bytes, payload)),
        }
    }

    /// A packet of a protocol without ports.
    pub fn portless<A: Into<IpAddr>>(source: A, destination: A, protocol: u8) -> Self {
        let builder = between(source, destination);
        written(|bytes| builder.write(bytes, IpNumber(protocol), PAYLOAD))
    }
}

fn between<A: Into<IpAddr>>(source: A, destination: A) -> PacketBuilderStep<IpHeaders> {
    let ethernet = PacketBuilder::ethernet2(SOURCE_MAC, ANY_MAC);
    match (source.into(), destination.into()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            ethernet.ipv4(source.octets(), destination.octets(), HOP_LIMIT)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            ethernet.ipv6(source.octets(), destination.octets(), HOP_LIMIT)
        }
        (source, destination) => panic!("{source} and {destination} are of two families"),
    }
}

fn written<E: std::fmt::Debug>(write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Frame {
    let mut bytes = Vec::new();
    write(&mut bytes).expect("a vector takes all");
    Frame { bytes }
}
