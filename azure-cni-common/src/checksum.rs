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

/// The sum of a pseudo header (RFC 9293 section 3.1, RFC 8200 section 8.1), not inverted: what the kernel leaves in a packet whose
/// checksum the device is to complete (include/linux/skbuff.h, CHECKSUM_PARTIAL). Addresses are words of the packet, of IPv4 the
/// first; `length` is of all behind the IP header.
pub fn pseudo_header(source: [u32; 4], destination: [u32; 4], protocol: u8, length: u32) -> u16 {
    let addresses = source.into_iter().chain(destination);
    let sum = addresses.chain([u32::from(protocol).to_be(), length.to_be()]).fold(0, |sum, word| sum + u64::from(word));
    let once = (sum & 0xffff_ffff) + (sum >> 32);
    let halves = ((once & 0xffff) + (once >> 16 & 0xffff) + (once >> 32)) as u32;
    fold(halves)
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
