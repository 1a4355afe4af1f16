//! Arithmetic of the Internet checksum (RFC 1071) and its incremental update (RFC 1624, equation 3).
//!
//! Values are raw words of the packet: the sum does not depend on byte order as long as all words have the same.

/// The checksum after one 16-bit word of what it covers changed from `old` to `new`.
pub fn update(checksum: u16, old: u16, new: u16) -> u16 {
    // HC' = ~(~HC + ~m + m')
    let sum = u32::from(!checksum) + u32::from(!old) + u32::from(new);
    !fold(sum)
}

/// Same for a 32-bit word.
pub fn update32(checksum: u16, old: u32, new: u32) -> u16 {
    let halves = |word: u32| (word as u16, (word >> 16) as u16);
    let ((old_a, old_b), (new_a, new_b)) = (halves(old), halves(new));
    update(update(checksum, old_a, new_a), old_b, new_b)
}

fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::family::{Address, Ipv4, Ipv6};

    fn full(words: &[u16]) -> u16 {
        let mut sum = 0u64;
        for word in words {
            sum += u64::from(*word);
        }
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    proptest! {
        #[test]
        fn update_equals_computing_it_anew(mut words in prop::collection::vec(any::<u16>(), 2..20), new: u32) {
            // An IP header is never all zeros, the one case in which RFC 1624 has two zeros to choose from.
            words.push(0x4500);
            let before = full(&words);
            let old = u32::from(words[0]) | u32::from(words[1]) << 16;
            words[0] = new as u16;
            words[1] = (new >> 16) as u16;
            prop_assert_eq!(update32(before, old, new), full(&words));
        }

        #[test]
        fn undoing_a_change_restores_the_checksum(checksum in 0u16..0xffff, old: u16, new: u16) {
            prop_assert_eq!(update(update(checksum, old, new), new, old), checksum);
        }

        #[test]
        fn changing_an_address_equals_computing_it_anew(
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
}
