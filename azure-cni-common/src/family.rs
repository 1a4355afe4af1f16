//! The two address families as two instances of one description, and integers that keep their byte order in the type.

/// A 16-bit integer as it stands in the packet (network byte order).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// Whether no single host is meant: multicast, broadcast, unspecified.
    fn is_group(self) -> bool;
}

/// An IPv4 address: the four octets as they stand in the packet, read as one native word.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    fn is_group(self) -> bool {
        let host = u32::from_be(self.0);
        // 224.0.0.0/4 (RFC 5771), 255.255.255.255 (RFC 919), 0.0.0.0 (RFC 1122 section 3.2.1.3).
        host >> 28 == 0xe || host == u32::MAX || host == 0
    }
}

/// What differs between IPv4 and IPv6 in type; what differs in header layout is beside the code that reads and writes it.
pub trait Family {
    type Address: Address;
    /// EtherType (IEEE 802 numbers; include/uapi/linux/if_ether.h).
    const ETHERTYPE: Be16;
    /// Protocol number of the family's ICMP (IANA protocol numbers).
    const ICMP: u8;
}

/// RFC 791.
pub struct V4;

impl Family for V4 {
    type Address = Ipv4;
    const ETHERTYPE: Be16 = Be16::from_host(0x0800);
    const ICMP: u8 = 1;
}

/// IANA protocol numbers of the transports with ports.
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;

    #[test]
    fn addresses_keep_their_octets() {
        let address = Ipv4Addr::new(10, 240, 0, 4);
        assert_eq!(Ipv4Addr::from(Ipv4::from(address)), address);
        assert_eq!(Ipv4::new(10, 240, 0, 4), Ipv4::from(address));
    }

    #[test]
    fn group_addresses_are_told_from_hosts() {
        for group in [[224, 0, 0, 1], [239, 255, 255, 255], [255, 255, 255, 255], [0, 0, 0, 0]] {
            assert!(Ipv4::from(Ipv4Addr::from(group)).is_group(), "{group:?}");
        }
        for host in [[10, 0, 0, 255], [223, 255, 255, 255], [240, 0, 0, 1], [1, 0, 0, 0]] {
            assert!(!Ipv4::from(Ipv4Addr::from(host)).is_group(), "{host:?}");
        }
    }
}
