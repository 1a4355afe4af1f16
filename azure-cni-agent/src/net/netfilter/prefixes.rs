//! Prefixes out of what rules compare: bits of an address, or a range of addresses.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv4Subnets, Ipv6Net, Ipv6Subnets};

/// An address of either family, IPv4 in the first four bytes.
pub type AddressBytes = [u8; 16];

pub const fn length_of(is_v6: bool) -> usize {
    if is_v6 { 16 } else { 4 }
}

/// The narrowest prefix that holds all addresses with these bits. The mask may have holes.
pub fn with_bits(is_v6: bool, value: &AddressBytes, mask: &AddressBytes) -> IpNet {
    let ones = u128::from_be_bytes(*mask).leading_ones().min(8 * length_of(is_v6) as u32) as u8;
    if is_v6 {
        let address = Ipv6Addr::from(*value);
        IpNet::V6(Ipv6Net::new(address, ones).map(|net| net.trunc()).unwrap_or_default())
    } else {
        let address = Ipv4Addr::new(value[0], value[1], value[2], value[3]);
        IpNet::V4(Ipv4Net::new(address, ones).map(|net| net.trunc()).unwrap_or_default())
    }
}

/// Prefixes that hold all addresses with these bits. One of no length only if nothing is asked of them: a mask that begins with a hole
/// makes two halves.
pub fn matched(is_v6: bool, value: &AddressBytes, mask: &AddressBytes) -> Vec<IpNet> {
    let prefix = with_bits(is_v6, value, mask);
    let is_asked = mask.iter().any(|byte| *byte != 0);
    match prefix.subnets(1) {
        Ok(halves) if prefix.prefix_len() == 0 && is_asked => halves.collect(),
        _ => vec![prefix],
    }
}

/// The prefixes of a range, both ends included.
pub fn of_range(is_v6: bool, first: &AddressBytes, last: &AddressBytes) -> Vec<IpNet> {
    if is_v6 {
        Ipv6Subnets::new((*first).into(), (*last).into(), 0).map(IpNet::V6).collect()
    } else {
        let v4 = |bytes: &AddressBytes| Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]);
        Ipv4Subnets::new(v4(first), v4(last), 0).map(IpNet::V4).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(a: u8, b: u8, c: u8, d: u8) -> AddressBytes {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&[a, b, c, d]);
        bytes
    }

    #[test]
    fn a_mask_with_holes_makes_a_wider_prefix() {
        for (mask, prefix) in [
            (v4(255, 255, 255, 255), "10.1.2.3/32"),
            (v4(255, 255, 0, 255), "10.1.0.0/16"),
            (v4(0, 255, 0, 0), "0.0.0.0/0"),
        ] {
            assert_eq!(with_bits(false, &v4(10, 1, 2, 3), &mask).to_string(), prefix);
        }
        for (mask, prefixes) in [
            (v4(255, 255, 0, 255), &["10.1.0.0/16"][..]),
            (v4(0, 255, 0, 0), &["0.0.0.0/1", "128.0.0.0/1"]),
            (v4(0, 0, 0, 0), &["0.0.0.0/0"]),
        ] {
            let matched = matched(false, &v4(10, 1, 2, 3), &mask);
            assert_eq!(matched.iter().map(ToString::to_string).collect::<Vec<_>>(), prefixes);
        }
        let v6: Ipv6Addr = "fd00::5".parse().unwrap();
        assert_eq!(with_bits(true, &v6.octets(), &[255; 16]).to_string(), "fd00::5/128");
    }

    #[test]
    fn a_range_is_covered_exactly() {
        let of = |first, last| of_range(false, &first, &last).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(of(v4(10, 0, 0, 1), v4(10, 0, 0, 4)), ["10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/32"]);
        assert_eq!(of(v4(0, 0, 0, 0), v4(255, 255, 255, 255)), ["0.0.0.0/0"]);
        assert_eq!(of(v4(10, 0, 0, 2), v4(10, 0, 0, 1)), [""; 0]);
    }
}
