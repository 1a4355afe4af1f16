//! Frames in words. Headers and checksums are written by etherparse; what it would refuse to write is edited in.

use std::net::Ipv4Addr;

use etherparse::{IcmpEchoHeader, Icmpv4Type, PacketBuilder};

/// An Ethernet frame with an IPv4 packet of a known kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub bytes: Vec<u8>,
}

const HOP_LIMIT: u8 = 64;
const PAYLOAD: &[u8] = b"payload of odd length";
const SOURCE_MAC: [u8; 6] = [2; 6];
/// Stands for the MAC of whatever device the frame will arrive at.
const ANY_MAC: [u8; 6] = [0; 6];
const ETH_LEN: usize = 14;

impl Frame {
    /// A segment whose flags are letters: "S", "SA", "A", "FA", "R".
    pub fn tcp(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16), flags: &str) -> Self {
        let mut builder = PacketBuilder::ethernet2(SOURCE_MAC, ANY_MAC)
            .ipv4(source.0.octets(), destination.0.octets(), HOP_LIMIT)
            .tcp(source.1, destination.1, 1000, 64_000);
        for letter in flags.chars() {
            builder = match letter {
                'S' => builder.syn(),
                'A' => builder.ack(77),
                'F' => builder.fin(),
                'R' => builder.rst(),
                other => panic!("no TCP flag is written {other}"),
            };
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
        PacketBuilder::ethernet2(SOURCE_MAC, ANY_MAC)
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
        PacketBuilder::ethernet2(SOURCE_MAC, ANY_MAC)
            .ipv4(source.octets(), destination.octets(), HOP_LIMIT)
            .icmpv4(message)
            .write(&mut bytes, PAYLOAD)
            .expect("a vector takes all");
        Self { bytes }
    }

    /// A packet of a protocol without ports.
    pub fn portless(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8) -> Self {
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2(SOURCE_MAC, ANY_MAC)
            .ipv4(source.octets(), destination.octets(), HOP_LIMIT)
            .write(&mut bytes, protocol.into(), PAYLOAD)
            .expect("a vector takes all");
        Self { bytes }
    }

    pub fn with_hop_limit(self, hop_limit: u8) -> Self {
        self.with_header_bytes(8, &[hop_limit])
    }

    /// What a router makes of the packet: one hop less.
    pub fn one_hop_on(self) -> Self {
        let hop_limit = self.packet()[8] - 1;
        self.with_hop_limit(hop_limit)
    }

    /// The same packet as a fragment: offset in units of eight bytes.
    pub fn fragment(self, more: bool, offset: u16) -> Self {
        let field = offset | if more { 0x2000 } else { 0 };
        self.with_header_bytes(6, &field.to_be_bytes())
    }

    /// The same packet with these bytes of IP options, a multiple of four.
    pub fn with_ip_options(mut self, options: &[u8]) -> Self {
        assert!(options.len().is_multiple_of(4));
        self.bytes.splice(ETH_LEN + 20..ETH_LEN + 20, options.iter().copied());
        let length = (self.bytes.len() - ETH_LEN) as u16;
        self.with_header_bytes(0, &[0x40 | (5 + options.len() / 4) as u8]).with_header_bytes(2, &length.to_be_bytes())
    }

    /// The same UDP packet without a checksum (RFC 768).
    pub fn without_udp_checksum(self) -> Self {
        self.with_raw_bytes(26, &[0, 0])
    }

    /// Bytes of the IP header replaced, from an offset of the packet, and its checksum made right again.
    pub fn with_header_bytes(self, offset: usize, bytes: &[u8]) -> Self {
        let mut changed = self.with_raw_bytes(offset, bytes);
        let length = usize::from(changed.bytes[ETH_LEN] & 0x0f) * 4;
        changed.fix_header_checksum(length);
        changed
    }

    /// Bytes replaced, from an offset of the packet, and nothing else.
    pub fn with_raw_bytes(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.bytes[ETH_LEN + offset..][..bytes.len()].copy_from_slice(bytes);
        self
    }

    /// The frame without its end: `length` bytes of the packet stay.
    pub fn cut_to(mut self, length: usize) -> Self {
        self.bytes.truncate(ETH_LEN + length);
        self
    }

    /// The packet itself ends after `length` bytes, and says so.
    pub fn shortened_to(self, length: usize) -> Self {
        self.with_header_bytes(2, &(length as u16).to_be_bytes()).cut_to(length)
    }

    /// The frame with bytes behind the packet, as short frames have them.
    pub fn padded(mut self, padding: usize) -> Self {
        self.bytes.extend(std::iter::repeat_n(0xee, padding));
        self
    }

    /// The frame with an 802.1Q tag.
    pub fn tagged(mut self, vlan: u16) -> Self {
        let [high, low] = vlan.to_be_bytes();
        self.bytes.splice(12..12, [0x81, 0x00, high, low]);
        self
    }

    pub fn with_ethertype(mut self, ethertype: u16) -> Self {
        self.bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
        self
    }

    /// To this MAC instead of the device's own.
    pub fn to_mac(mut self, mac: [u8; 6]) -> Self {
        self.bytes[..6].copy_from_slice(&mac);
        self
    }

    /// As the frame arrives at a device with this MAC.
    pub fn arriving_at(&self, mac: [u8; 6]) -> Vec<u8> {
        if self.bytes[..6] == ANY_MAC { self.clone().to_mac(mac).bytes } else { self.bytes.clone() }
    }

    /// Everything behind the Ethernet header.
    pub fn packet(&self) -> &[u8] {
        &self.bytes[ETH_LEN..]
    }

    /// Source address and port, or identifier of an echo request.
    pub fn source(&self) -> (Ipv4Addr, u16) {
        let packet = self.packet();
        let header_length = usize::from(packet[0] & 0x0f) * 4;
        let port_offset = header_length + if packet[9] == 1 { 4 } else { 0 };
        let address: [u8; 4] = packet[12..16].try_into().expect("four bytes");
        (address.into(), u16::from_be_bytes([packet[port_offset], packet[port_offset + 1]]))
    }

    fn fix_header_checksum(&mut self, length: usize) {
        self.bytes[ETH_LEN + 10..ETH_LEN + 12].copy_from_slice(&[0, 0]);
        let words = self.bytes[ETH_LEN..ETH_LEN + length].chunks(2);
        let mut sum: u32 = words.map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        self.bytes[ETH_LEN + 10..ETH_LEN + 12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    }
}
