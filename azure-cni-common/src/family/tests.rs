use core::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

#[test]
fn addresses_keep_their_octets() {
    let address = Ipv4Addr::new(10, 240, 0, 4);
    assert_eq!(Ipv4Addr::from(Ipv4::from(address)), address);
    assert_eq!(Ipv4::new(10, 240, 0, 4), Ipv4::from(address));
}

#[test]
fn ipv6_addresses_keep_their_octets_and_are_ordered() {
    let address: Ipv6Addr = "fd00:10:240:1::8:9".parse().unwrap();
    assert_eq!(Ipv6Addr::from(Ipv6::from(address)), address);
    let others = ["fd00:10:240:1::8:a", "fd00:10:240:1::", "::", "1d00:10:240:1::8:9"];
    for other in others.map(|text| Ipv6::from(text.parse::<Ipv6Addr>().unwrap())) {
        let address = Ipv6::from(address);
        assert_ne!(other, address);
        assert_eq!(other < address, address > other);
        assert_ne!(other.fold(), address.fold());
    }
}

#[test]
fn addresses_that_stay_on_the_link_are_told_from_routed_ones() {
    for group in [[224, 0, 0, 1], [239, 255, 255, 255], [255, 255, 255, 255], [0, 0, 0, 0]] {
        assert!(Ipv4::from(Ipv4Addr::from(group)).stays_on_link(), "{group:?}");
    }
    for host in [[10, 0, 0, 255], [223, 255, 255, 255], [240, 0, 0, 1], [1, 0, 0, 0], [169, 254, 169, 254]] {
        assert!(!Ipv4::from(Ipv4Addr::from(host)).stays_on_link(), "{host:?}");
    }
    for (text, stays, is_source) in [
        ("ff02::1", true, false),
        ("ff0e::1", true, false),
        ("fe80::1234:5678:9abc", true, true),
        ("febf::1", true, true),
        ("::", true, true),
        ("::1", false, false),
        ("fec0::1", false, false),
        ("fd00::1", false, false),
        ("2001:db8::1", false, false),
    ] {
        let address = Ipv6::from(text.parse::<Ipv6Addr>().unwrap());
        assert_eq!((address.stays_on_link(), address.is_link_source()), (stays, is_source), "{text}");
        assert_eq!(address.is_prober_on_link(), text == "fe80::1234:5678:9abc", "{text}");
    }
}

#[test]
fn sources_that_no_other_machine_has_are_martian() {
    let v4 = |text: &str| Ipv4::from(text.parse::<Ipv4Addr>().unwrap()).is_martian();
    for text in ["0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.255", "224.0.0.1", "239.1.1.1", "240.0.0.1"] {
        assert!(v4(text), "{text}");
    }
    assert!(v4("255.255.255.255"));
    for text in ["1.0.0.0", "10.240.0.4", "126.255.255.255", "128.0.0.1", "168.63.129.16", "169.254.169.254"] {
        assert!(!v4(text), "{text}");
    }
    assert!(!v4("223.255.255.255"));
    let v6 = |text: &str| Ipv6::from(text.parse::<Ipv6Addr>().unwrap()).is_martian();
    for text in ["::", "::1", "::10.0.0.1", "::ffff:10.0.0.1", "ff02::1", "ff0e::1"] {
        assert!(v6(text), "{text}");
    }
    for text in ["fe80::1234:5678:9abc", "fd00::1", "2001:db8::1", "64:ff9b::a00:1", "::1:0:0:1", "0:1::1", "fe00::"] {
        assert!(!v6(text), "{text}");
    }
}

/// The standard library's idea of each range, over all addresses.
mod martians {
    use std::vec;

    use super::*;

    proptest! {
        #[test]
        fn of_ipv4(address: u32, first in prop::sample::select(vec![0_u8, 1, 126, 127, 128, 223, 224, 239, 240, 255])) {
            for address in [Ipv4Addr::from(address), Ipv4Addr::from(address & 0x00ff_ffff | u32::from(first) << 24)] {
                let expected = address.octets()[0] == 0
                    || address.is_loopback()
                    || address.is_multicast()
                    || address.octets()[0] >= 240;
                prop_assert_eq!(Ipv4::from(address).is_martian(), expected, "{}", address);
            }
        }

        #[test]
        fn of_ipv6(address: u128, low: u64) {
            let mapped = Ipv4Addr::from(low as u32).to_ipv6_mapped();
            for address in [Ipv6Addr::from(address), Ipv6Addr::from(u128::from(low)), mapped] {
                let expected = address.is_multicast()
                    || address.to_ipv4_mapped().is_some()
                    || address.octets()[..12] == [0; 12];
                prop_assert_eq!(Ipv6::from(address).is_martian(), expected, "{}", address);
            }
        }
    }
}

/// The sum of all words (RFC 1071).
fn full(words: &[u16]) -> u16 {
    let mut sum: u64 = words.iter().map(|word| u64::from(*word)).sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

proptest! {
    #[test]
    fn changing_an_address_equals_computing_the_sum_again(
        mut words in prop::collection::vec(any::<u16>(), 8..20),
        new in any::<[u32; 4]>(),
        protocol in 1u16..256,
    ) {
        // A pseudo-header has a protocol: not all zeros, as above.
        words.push(protocol);
        let before = full(&words);
        let put = |words: &mut [u16], address: &[u32]| {
            for (pair, word) in words.chunks_mut(2).zip(address) {
                (pair[0], pair[1]) = (*word as u16, (*word >> 16) as u16);
            }
        };
        let old: [u32; 4] =
            core::array::from_fn(|n| u32::from(words[2 * n]) | u32::from(words[2 * n + 1]) << 16);
        let mut changed = words.clone();
        put(&mut changed, &new[..1]);
        prop_assert_eq!(Ipv4::update_checksum(before, Ipv4(old[0]), Ipv4(new[0])), full(&changed));
        put(&mut changed, &new);
        prop_assert_eq!(Ipv6::update_checksum(before, Ipv6(old), Ipv6(new)), full(&changed));
    }
}
