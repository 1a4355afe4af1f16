//! Arithmetic of the Internet checksum (RFC 1071) and its incremental update (RFC 1624, equation 3).
//!
//! Values are raw words of the packet: the sum does not depend on byte order as long as all words have the same.

/// The checksum after one 16-bit word of what it covers changed from `old` to `new`.
pub fn update(checksum: u16, old: u16, new: u16) -> u16 {
    // HC' = ~(~HC + ~m + m')
    let sum = u32::from(!checksum) + u32::from(!old) + u32::from(new);
    !fold(sum)
}

/// Same for one less in the first byte of a word: the hop limit of IPv4.
pub fn update_decremented(checksum: u16) -> u16 {
    // Whatever the word was, the difference is the same: a constant, where the words would take a dozen instructions.
    update(checksum, u16::from_ne_bytes([1, 0]), 0)
}

/// Same for words of 32 bits, which may be summed too (RFC 1071 section 2, parallel summation).
pub fn update_words<const N: usize>(checksum: u16, old: [u32; N], new: [u32; N]) -> u16 {
    let sum =
        old.into_iter().zip(new).fold(u64::from(!checksum), |sum, (old, new)| sum + u64::from(!old) + u64::from(new));
    !fold_wide(sum)
}

/// The sum of a pseudo header (RFC 9293 section 3.1, RFC 8200 section 8.1), not inverted: what the kernel leaves in a packet whose
/// checksum the device is to complete (include/linux/skbuff.h, CHECKSUM_PARTIAL). Addresses are words of the packet, of IPv4 the
/// first; `length` is of all behind the IP header.
pub fn pseudo_header(source: [u32; 4], destination: [u32; 4], protocol: u8, length: u32) -> u16 {
    let addresses = source.into_iter().chain(destination);
    let sum = addresses.chain([u32::from(protocol).to_be(), length.to_be()]).fold(0, |sum, word| sum + u64::from(word));
    fold_wide(sum)
}

/// Of less than 2^48.
fn fold_wide(sum: u64) -> u16 {
    fold(((sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32)) as u32)
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
        fn pseudo_header_is_the_sum_of_its_words(source: [u16; 8], destination: [u16; 8], protocol: u8, length: u16) {
            let rest = [u16::from(protocol).to_be(), length.to_be()];
            let words = |halves: [u16; 8]| [0, 2, 4, 6].map(|at| u32::from(halves[at]) | u32::from(halves[at + 1]) << 16);
            let v6 = [&source[..], &destination, &rest].concat();
            prop_assert_eq!(pseudo_header(words(source), words(destination), protocol, length.into()), !full(&v6));
            let v4 = [&source[..2], &destination[..2], &rest].concat();
            let first = |halves| [words(halves)[0], 0, 0, 0];
            prop_assert_eq!(pseudo_header(first(source), first(destination), protocol, length.into()), !full(&v4));
        }

        #[test]
        fn update_equals_computing_it_again(mut words in prop::collection::vec(any::<u16>(), 4..20), new: [u32; 2]) {
            // An IP header is never all zeros, the one case in which RFC 1624 has two zeros to choose from.
            words.push(0x4500);
            let before = full(&words);
            let wide = |words: &[u16]| [0, 2].map(|at| u32::from(words[at]) | u32::from(words[at + 1]) << 16);
            let old = wide(&words);
            (words[0], words[1]) = (new[0] as u16, (new[0] >> 16) as u16);
            prop_assert_eq!(update_words(before, [old[0]], [new[0]]), full(&words));
            (words[2], words[3]) = (new[1] as u16, (new[1] >> 16) as u16);
            prop_assert_eq!(update_words(before, old, new), full(&words));
            let decremented = [words[0].to_ne_bytes()[0].saturating_sub(1), words[0].to_ne_bytes()[1]];
            if u16::from_ne_bytes(decremented) != words[0] {
                let before = full(&words);
                words[0] = u16::from_ne_bytes(decremented);
                prop_assert_eq!(update_decremented(before), full(&words));
            }
        }

        #[test]
        fn reversing_a_change_restores_the_checksum(checksum in 0u16..0xffff, old: u16, new: u16) {
            prop_assert_eq!(update(update(checksum, old, new), new, old), checksum);
        }
    }
}
