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
        fn update_equals_computing_it_again(mut words in prop::collection::vec(any::<u16>(), 2..20), new: u32) {
            // An IP header is never all zeros, the one case in which RFC 1624 has two zeros to choose from.
            words.push(0x4500);
            let before = full(&words);
            let old = u32::from(words[0]) | u32::from(words[1]) << 16;
            words[0] = new as u16;
            words[1] = (new >> 16) as u16;
            prop_assert_eq!(update32(before, old, new), full(&words));
        }

        #[test]
        fn reversing_a_change_restores_the_checksum(checksum in 0u16..0xffff, old: u16, new: u16) {
            prop_assert_eq!(update(update(checksum, old, new), new, old), checksum);
        }
    }
}
