//! The two address families as two instances of one description, and integers that keep their byte order in the type.

#[cfg(test)]
mod tests;

use core::cmp::Ordering;
use core::hash::{Hash, Hasher};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::checksum;

/// A 16-bit integer as it stands in the packet (network byte order).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable)]
pub struct Be16(pub u16);

impl Be16 {
    pub const fn from_host(value: u16) -> Self {
        Self(value.to_be())
    }

    pub const fn to_host(self) -> u16 {
        u16::from_be(self.0)
    }
}

/// An address of a family. The order is that of the raw words: total and stable, without further meaning.
pub trait Address: Copy + Eq + Ord + 'static {
    /// All zeros.
    const UNSPECIFIED: Self;

    /// Whether no router forwards to it: no single host is meant, or one that is reached on the link alone.
    fn stays_on_link(self) -> bool;

    /// Whether it is on the link, and the platform's load balancers probe pods from it.
    fn is_prober_on_link(self) -> bool;

    /// Whether a host may send from it before it has an address, or besides the one it was given: never to be forwarded.
    fn is_link_source(self) -> bool;

    /// Whether no packet from another machine has it as its source: it names no single host, or one that is never outside.
    fn is_martian(self) -> bool;

    /// A checksum that covers the address, after it has changed from `old` to `new`.
    fn update_checksum(checksum: u16, old: Self, new: Self) -> u16;

    /// The address in the words of a log record: IPv4 in the first.
    fn to_words(self) -> [u32; 4];

    /// All bits of the address, mixed into one word with a multiplier's help; for choosing a place to start a search.
    fn fold(self) -> u32;
}

/// An IPv4 address: the four octets as they stand in the packet, read as one native word.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable)]
pub struct Ipv4(pub u32);

impl Ipv4 {
    pub const fn new(a: u8, b: u8, c: u8, d: u8) -> Self {
        Self(u32::from_ne_bytes([a, b, c, d]))
    }

    pub const fn octets(self) -> [u8; 4] {
        self.0.to_ne_bytes()
    }
}

impl From<core::net::Ipv4Addr> for Ipv4 {
    fn from(address: core::net::Ipv4Addr) -> Self {
        Self(u32::from_ne_bytes(address.octets()))
    }
}

impl From<Ipv4> for core::net::Ipv4Addr {
    fn from(address: Ipv4) -> Self {
        address.octets().into()
    }
}

impl Address for Ipv4 {
    const UNSPECIFIED: Self = Self(0);

    /// Multicast, broadcast, unspecified. Link-local is not among them: the platform routes 169.254.169.254.
    fn stays_on_link(self) -> bool {
        let host = u32::from_be(self.0);
        // 224.0.0.0/4 (RFC 5771), 255.255.255.255 (RFC 919), 0.0.0.0 (RFC 1122 section 3.2.1.3).
        host >> 28 == 0xe || host == u32::MAX || host == 0
    }

    /// Probes by IPv4 come from 168.63.129.16, which the platform routes.
    fn is_prober_on_link(self) -> bool {
        false
    }

    fn is_link_source(self) -> bool {
        false
    }

    /// 0.0.0.0/8, 127.0.0.0/8, 224.0.0.0/4, 240.0.0.0/4 (RFC 6890 section 2.2.2, RFC 5771).
    fn is_martian(self) -> bool {
        let [first, _, _, _] = self.octets();
        first == 0 || first == 127 || first >= 224
    }

    #[inline(always)]
    fn update_checksum(checksum: u16, old: Self, new: Self) -> u16 {
        checksum::update_words(checksum, [old.0], [new.0])
    }

    fn to_words(self) -> [u32; 4] {
        [self.0, 0, 0, 0]
    }

    fn fold(self) -> u32 {
        self.0
    }
}

/// An IPv6 address: the sixteen octets as they stand in the packet, read as four native words.
///
/// Four words of 32 bits and not two of 64: keys made of it have no padding behind a port.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
pub struct Ipv6(pub [u32; 4]);

impl Ipv6 {
    pub const fn from_octets(octets: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = octets;
        Self([
            u32::from_ne_bytes([a, b, c, d]),
            u32::from_ne_bytes([e, f, g, h]),
            u32::from_ne_bytes([i, j, k, l]),
            u32::from_ne_bytes([m, n, o, p]),
        ])
    }

    pub const fn octets(self) -> [u8; 16] {
        let [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]] =
            [self.0[0].to_ne_bytes(), self.0[1].to_ne_bytes(), self.0[2].to_ne_bytes(), self.0[3].to_ne_bytes()];
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    /// Two comparisons instead of four, and no call of `memcmp`.
    const fn halves(self) -> (u64, u64) {
        let [a, b, c, d] = self.0;
        (a as u64 | (b as u64) << 32, c as u64 | (d as u64) << 32)
    }
}

impl PartialEq for Ipv6 {
    fn eq(&self, other: &Self) -> bool {
        let ((a, b), (c, d)) = (self.halves(), other.halves());
        a == c && b == d
    }
}

impl Eq for Ipv6 {}

impl PartialOrd for Ipv6 {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ipv6 {
    fn cmp(&self, other: &Self) -> Ordering {
        self.halves().cmp(&other.halves())
    }
}

impl Hash for Ipv6 {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.halves().hash(state);
    }
}

impl From<core::net::Ipv6Addr> for Ipv6 {
    fn from(address: core::net::Ipv6Addr) -> Self {
        Self::from_octets(address.octets())
    }
}

impl From<Ipv6> for core::net::Ipv6Addr {
    fn from(address: Ipv6) -> Self {
        address.octets().into()
    }
}

impl Address for Ipv6 {
    const UNSPECIFIED: Self = Self([0; 4]);

    /// Multicast, link-local, unspecified (RFC 4291 section 2.4).
    fn stays_on_link(self) -> bool {
        u32::from_be(self.0[0]) >> 24 == 0xff || self.is_link_source()
    }

    /// fe80::1234:5678:9abc, the platform's gateway too.
    fn is_prober_on_link(self) -> bool {
        self.0 == [0xfe80_0000_u32.to_be(), 0, 0x1234_u32.to_be(), 0x5678_9abc_u32.to_be()]
    }

    /// fe80::/10, and :: (RFC 4291 sections 2.5.6 and 2.5.2).
    fn is_link_source(self) -> bool {
        u32::from_be(self.0[0]) >> 22 == 0xfe80 >> 6 || self.halves() == (0, 0)
    }

    /// Multicast; `::/96`, which has `::` and `::1`; and IPv4 in an IPv6 header (RFC 4291 sections 2.5 and 2.7).
    fn is_martian(self) -> bool {
        let [a, b, c, _] = self.0;
        u32::from_be(a) >> 24 == 0xff || (a | b == 0 && (c == 0 || c == 0xffff_u32.to_be()))
    }

    #[inline(always)]
    fn update_checksum(checksum: u16, old: Self, new: Self) -> u16 {
        checksum::update_words(checksum, old.0, new.0)
    }

    fn to_words(self) -> [u32; 4] {
        self.0
    }

    fn fold(self) -> u32 {
        let (a, b) = self.halves();
        let mixed = (a.wrapping_mul(MIX) ^ b).wrapping_mul(MIX);
        (mixed >> 32) as u32
    }
}

/// An odd number whose bits look random: 2^64 divided by the golden ratio.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

/// What differs between IPv4 and IPv6 in type; what differs in header layout is beside the code that reads and writes it.
pub trait Family: 'static {
    type Address: Address;
    /// EtherType (IEEE 802 numbers; include/uapi/linux/if_ether.h).
    const ETHERTYPE: Be16;
    /// The kernel's number of the family (include/linux/socket.h).
    const AF: u32;
    /// Protocol number of the family's ICMP (IANA protocol numbers).
    const ICMP: u8;
    /// 4 or 6.
    const VERSION: u8;
}

/// RFC 791.
pub struct V4;

impl Family for V4 {
    type Address = Ipv4;
    const ETHERTYPE: Be16 = Be16::from_host(0x0800);
    const AF: u32 = 2;
    const ICMP: u8 = 1;
    const VERSION: u8 = 4;
}

/// RFC 8200.
pub struct V6;

impl Family for V6 {
    type Address = Ipv6;
    const ETHERTYPE: Be16 = Be16::from_host(0x86dd);
    const AF: u32 = 10;
    const ICMP: u8 = 58;
    const VERSION: u8 = 6;
}

/// IANA protocol numbers of the transports with ports.
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
/// RFC 3828: ports and checksum are where UDP has them.
pub const UDP_LITE: u8 = 136;
