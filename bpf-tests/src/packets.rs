//! Packets in words, and checksums computed by somebody else (etherparse).

use std::net::Ipv4Addr;

use etherparse::{IcmpEchoHeader, Icmpv4Type, NetSlice, PacketBuilder, SlicedPacket, TransportSlice};

/// An Ethernet frame with an IPv4 packet of a known kind.
#[derive(Debug, Clone)]
pub struct Frame {
    pub bytes: Vec<u8>,
}

const HOP_LIMIT: u8 = 64;
const PAYLOAD: &[u8] = b"payload of odd length";

/// Flags of a TCP segment, as letters: "S", "SA", "A", "FA", "R".
fn tcp_flags(letters: &str) -> impl Fn(char) -> bool + '_ {
    move |letter| letters.contains(letter)
}

impl Frame {
    pub fn tcp(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16), flags: &str) -> Self {
        Self::tcp_with_hop_limit(source, destination, flags, HOP_LIMIT)
    }

    pub fn tcp_with_hop_limit(
        source: (Ipv4Addr, u16),
        destination: (Ipv4Addr, u16),
        flags: &str,
        hop_limit: u8,
    ) -> Self {
        let has = tcp_flags(flags);
        let mut builder = PacketBuilder::ethernet2([2; 6], [0; 6])
            .ipv4(source.0.octets(), destination.0.octets(), hop_limit)
            .tcp(source.1, destination.1, 1000, 64_000);
        if has('S') {
            builder = builder.syn();
        }
        if has('A') {
            builder = builder.ack(77);
        }
        if has('F') {
            builder = builder.fin();
        }
        if has('R') {
            builder = builder.rst();
        }
        let mut bytes = Vec::new();
        builder.write(&mut bytes, PAYLOAD).expect("a vector takes all");
        Self { bytes }
    }

    pub fn udp(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16)) -> Self {
        Self::udp_with_payload(source, destination, PAYLOAD)
    }

    pub fn udp_with_payload(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16), payload: &[u8]) -> Self {
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2([2; 6], [0; 6])
            .ipv4(source.0.octets(), destination.0.octets(), HOP_LIMIT)
            .udp(source.1, destination.1)
            .write(&mut bytes, payload)
            .expect("a vector takes all");
        Self { bytes }
    }

    pub fn echo_request(source: Ipv4Addr, destination: Ipv4Addr, id: u16) -> Self {
        Self::icmp(source, destination, Icmpv4Type::EchoRequest(IcmpEchoHeader { id, seq: 1 }))
    }

    pub fn echo_reply(source: Ipv4Addr, destination: Ipv4Addr, id: u16) -> Self {
        Self::icmp(source, destination, Icmpv4Type::EchoReply(IcmpEchoHeader { id, seq: 1 }))
    }

    pub fn icmp(source: Ipv4Addr, destination: Ipv4Addr, message: Icmpv4Type) -> Self {
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2([2; 6], [0; 6])
            .ipv4(source.octets(), destination.octets(), HOP_LIMIT)
            .icmpv4(message)
            .write(&mut bytes, PAYLOAD)
            .expect("a vector takes all");
        Self { bytes }
    }

    /// A packet of a protocol without ports.
    pub fn portless(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8) -> Self {
        let mut frame = Self::udp((source, 0), (destination, 0));
        frame.bytes[23] = protocol;
        frame.fix_header_checksum();
        frame
    }

    /// The same packet with these bytes of IP options, a multiple of four.
    pub fn with_ip_options(mut self, options: &[u8]) -> Self {
        assert!(options.len().is_multiple_of(4));
        self.bytes.splice(34..34, options.iter().copied());
        self.bytes[14] = 0x40 | (5 + options.len() / 4) as u8;
        let length = (self.bytes.len() - 14) as u16;
        self.bytes[16..18].copy_from_slice(&length.to_be_bytes());
        self.fix_header_checksum();
        self
    }

    /// The same packet as a fragment: offset in units of eight bytes.
    pub fn fragment(mut self, more: bool, offset: u16) -> Self {
        let field = offset | if more { 0x2000 } else { 0 };
        self.bytes[20..22].copy_from_slice(&field.to_be_bytes());
        self.fix_header_checksum();
        self
    }

    /// The same UDP packet without a checksum (RFC 768).
    pub fn without_udp_checksum(mut self) -> Self {
        self.bytes[40..42].copy_from_slice(&[0, 0]);
        self
    }

    /// The frame with an 802.1Q tag.
    pub fn tagged(mut self) -> Self {
        self.bytes.splice(12..12, [0x81, 0x00, 0x00, 0x05]);
        self
    }

    pub fn truncated(mut self, length: usize) -> Self {
        self.bytes.truncate(length);
        self
    }

    /// What a router makes of the packet: one hop less.
    pub fn one_hop_on(mut self) -> Self {
        self.bytes[22] -= 1;
        self.fix_header_checksum();
        self
    }

    pub fn addressed_to(&self, mac: [u8; 6]) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes[..6].copy_from_slice(&mac);
        bytes
    }

    /// Everything behind the Ethernet header.
    pub fn packet(&self) -> &[u8] {
        &self.bytes[14..]
    }

    fn fix_header_checksum(&mut self) {
        let length = usize::from(self.bytes[14] & 0x0f) * 4;
        self.bytes[24..26].copy_from_slice(&[0, 0]);
        let mut sum: u32 =
            self.bytes[14..14 + length].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        self.bytes[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    }
}

/// Whether IP header and transport checksums of a frame are what they should be.
pub fn checksums_are_right(frame: &[u8]) -> Result<(), String> {
    let sliced = SlicedPacket::from_ethernet(frame).map_err(|error| error.to_string())?;
    let Some(NetSlice::Ipv4(ip)) = &sliced.net else { return Err("not IPv4".into()) };
    let header = ip.header().to_header();
    if header.header_checksum != header.calc_header_checksum() {
        return Err(format!("IP header: {:04x}, not {:04x}", header.header_checksum, header.calc_header_checksum()));
    }
    let (found, right) = match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let right = tcp.to_header().calc_checksum_ipv4(&header, tcp.payload()).map_err(|e| e.to_string())?;
            (tcp.checksum(), right)
        }
        Some(TransportSlice::Udp(udp)) if udp.checksum() == 0 => (0, 0),
        Some(TransportSlice::Udp(udp)) => {
            let right = udp.to_header().calc_checksum_ipv4(&header, udp.payload()).map_err(|e| e.to_string())?;
            (udp.checksum(), right)
        }
        Some(TransportSlice::Icmpv4(icmp)) => (icmp.checksum(), icmp.icmp_type().calc_checksum(icmp.payload())),
        _ => (0, 0),
    };
    if found == right { Ok(()) } else { Err(format!("transport: {found:04x}, not {right:04x}")) }
}
