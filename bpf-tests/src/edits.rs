//! What is made of a frame: the next hop's, a fragment's, a damaged one. Of IPv4 headers the checksum is made right again
//! wherever it is not said otherwise.

use std::net::{Ipv4Addr, Ipv6Addr};

use azure_cni_common::checksum;

use crate::frame::{ANY_MAC, ETH_LEN, Frame};
use crate::node::AZV_MAC;
use crate::rig::Rig;

/// IANA protocol numbers of IPv6 extension headers (RFC 8200 section 4).
pub const HOP_BY_HOP: u8 = 0;
pub const ROUTING: u8 = 43;
pub const FRAGMENT: u8 = 44;
pub const DESTINATION_OPTIONS: u8 = 60;

const V6_HEADER: usize = 40;

impl Frame {
    pub fn with_hop_limit(self, hop_limit: u8) -> Self {
        if self.is_ipv6() { self.with_raw_bytes(7, &[hop_limit]) } else { self.with_header_bytes(8, &[hop_limit]) }
    }

    /// What a router makes of the packet: one hop less.
    pub fn one_hop_on(self) -> Self {
        let hop_limit = self.packet()[if self.is_ipv6() { 7 } else { 8 }] - 1;
        self.with_hop_limit(hop_limit)
    }

    /// The same IPv4 packet as a fragment: offset in units of eight bytes.
    pub fn fragment(self, more: bool, offset: u16) -> Self {
        let field = offset | if more { 0x2000 } else { 0 };
        self.with_header_bytes(6, &field.to_be_bytes())
    }

    /// The packet in two fragments, the first with `length` bytes behind the IP header.
    pub fn in_two(&self, length: usize, identification: u16) -> [Self; 2] {
        assert!(length.is_multiple_of(8));
        let piece = |from: usize, to: usize, more: bool| {
            let mut piece = self.clone();
            let start = ETH_LEN + self.ip_header_length();
            piece.bytes.truncate(start + to);
            piece.bytes.drain(start..start + from);
            let field = from as u16 | u16::from(more);
            if self.is_ipv6() {
                let mut header = [0; 8];
                header[2..4].copy_from_slice(&field.to_be_bytes());
                header[6..].copy_from_slice(&identification.to_be_bytes());
                return piece.with_length_of_frame().with_extensions(&[(FRAGMENT, &header)]);
            }
            let length = (piece.bytes.len() - ETH_LEN) as u16;
            piece
                .with_header_bytes(2, &length.to_be_bytes())
                .with_header_bytes(4, &identification.to_be_bytes())
                .fragment(more, (from / 8) as u16)
        };
        let end = self.packet().len() - self.ip_header_length();
        [piece(0, length, true), piece(length, end, false)]
    }

    /// The same packet with these bytes of IP options, a multiple of four.
    pub fn with_ip_options(mut self, options: &[u8]) -> Self {
        assert!(options.len().is_multiple_of(4));
        self.bytes.splice(ETH_LEN + 20..ETH_LEN + 20, options.iter().copied());
        let length = (self.bytes.len() - ETH_LEN) as u16;
        self.with_header_bytes(0, &[0x40 | (5 + options.len() / 4) as u8]).with_header_bytes(2, &length.to_be_bytes())
    }

    /// The same IPv6 packet with these extension headers, protocol number and bytes, right behind the IPv6 header. The
    /// first byte of each is overwritten with what comes next.
    pub fn with_extensions(mut self, extensions: &[(u8, &[u8])]) -> Self {
        assert!(self.is_ipv6());
        let mut offset = ETH_LEN + V6_HEADER;
        let mut next_at = ETH_LEN + 6;
        for (protocol, header) in extensions {
            assert!(header.len().is_multiple_of(8));
            self.bytes.splice(offset..offset, header.iter().copied());
            self.bytes[offset] = std::mem::replace(&mut self.bytes[next_at], *protocol);
            next_at = offset;
            offset += header.len();
        }
        self.with_length_of_frame()
    }

    /// The length that an IPv6 header says becomes that of the frame.
    fn with_length_of_frame(self) -> Self {
        let length = (self.bytes.len() - ETH_LEN - V6_HEADER) as u16;
        self.with_raw_bytes(4, &length.to_be_bytes())
    }

    pub(crate) fn into_udp_lite(self) -> Self {
        const UDP_LITE: u8 = 136;
        let offset = self.ip_header_length() + 6;
        let [high, low] = [self.packet()[offset], self.packet()[offset + 1]];
        // The protocol's number is part of the pseudo header (RFC 3828 section 3.1).
        let sum = checksum::update(u16::from_be_bytes([high, low]), 17, u16::from(UDP_LITE));
        let sum = if sum == 0 { 0xffff } else { sum };
        let summed = self.with_raw_bytes(offset, &sum.to_be_bytes());
        if summed.is_ipv6() { summed.with_raw_bytes(6, &[UDP_LITE]) } else { summed.with_header_bytes(9, &[UDP_LITE]) }
    }

    /// The same UDP packet without a checksum (RFC 768).
    pub fn without_udp_checksum(self) -> Self {
        let offset = self.ip_header_length() + 6;
        self.with_raw_bytes(offset, &[0, 0])
    }

    /// Bytes of the IPv4 header replaced, from an offset of the packet, and its checksum made right again.
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
        let cut = self.cut_to(length);
        if cut.is_ipv6() {
            cut.with_length_of_frame()
        } else {
            cut.with_header_bytes(2, &(length as u16).to_be_bytes())
        }
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

    /// As it is delivered to the pod that has the packet's destination.
    pub(crate) fn for_its_pod(&self) -> Self {
        let mac = if self.is_ipv6() {
            let address: [u8; 16] = self.packet()[24..40].try_into().expect("sixteen bytes");
            Rig::pod_mac(Ipv6Addr::from(address))
        } else {
            let address: [u8; 4] = self.packet()[16..20].try_into().expect("four bytes");
            Rig::pod_mac(Ipv4Addr::from(address))
        };
        let mut frame = self.clone().to_mac(mac);
        frame.bytes[6..12].copy_from_slice(&AZV_MAC);
        frame
    }

    /// As the frame arrives at a device with this MAC.
    pub fn arriving_at(&self, mac: [u8; 6]) -> Vec<u8> {
        if self.bytes[..6] == ANY_MAC { self.clone().to_mac(mac).bytes } else { self.bytes.clone() }
    }

    /// Everything behind the Ethernet header.
    pub fn packet(&self) -> &[u8] {
        &self.bytes[ETH_LEN..]
    }

    /// Source address and port of an IPv4 packet, or identifier of an echo request.
    pub fn source(&self) -> (Ipv4Addr, u16) {
        let address: [u8; 4] = self.packet()[12..16].try_into().expect("four bytes");
        (address.into(), self.source_port(self.packet()[9] == 1))
    }

    /// Same, of an IPv6 packet without extension headers.
    pub fn source6(&self) -> (Ipv6Addr, u16) {
        let address: [u8; 16] = self.packet()[8..24].try_into().expect("sixteen bytes");
        (address.into(), self.source_port(self.packet()[6] == 58))
    }

    fn source_port(&self, is_echo: bool) -> u16 {
        let offset = self.ip_header_length() + if is_echo { 4 } else { 0 };
        u16::from_be_bytes([self.packet()[offset], self.packet()[offset + 1]])
    }

    fn is_ipv6(&self) -> bool {
        self.bytes[12..14] == [0x86, 0xdd]
    }

    fn ip_header_length(&self) -> usize {
        if self.is_ipv6() { V6_HEADER } else { usize::from(self.packet()[0] & 0x0f) * 4 }
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
