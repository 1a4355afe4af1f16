//! What is read of a TCP segment, and what its numbers prove of a sender whose address may be forged.
//!
//! The numbers of the node side are remembered: what a pod of this node, or a socket of the host, has sent and acknowledged. A
//! sender who does not see that side's packets has to guess them. Each test here accepts 2^16 of 2^32 numbers, or 2^24 of each
//! of two: it takes a guess for right once in 2^16 times, at most.

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The flags byte of a TCP header (RFC 9293 section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const ACK: u8 = 0x10;

    pub fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }

    /// The first packet of a connection: SYN without ACK.
    pub fn opens(self) -> bool {
        self.0 & (Self::SYN | Self::ACK | Self::RST) == Self::SYN
    }
}

/// A segment, its numbers in host byte order. They wrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub flags: TcpFlags,
    pub sequence: u32,
    pub acknowledgement: u32,
    /// Bytes of payload.
    pub length: u32,
}

impl Segment {
    /// Without payload, all numbers 0.
    pub const fn bare(flags: u8) -> Self {
        Self { flags: TcpFlags(flags), sequence: 0, acknowledgement: 0, length: 0 }
    }

    /// The sequence number after the segment. SYN and FIN count as one byte each (RFC 9293 section 3.4).
    fn end(&self) -> u32 {
        let (syn, fin) = (u32::from(self.flags.0 >> 1) & 1, u32::from(self.flags.0) & 1);
        self.sequence.wrapping_add(self.length).wrapping_add(syn).wrapping_add(fin)
    }
}

/// The numbers of a flow's node side. They may lag behind by [`LAG`], so that a busy flow is not written for every packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct NodeNumbers {
    /// The sequence number after the last byte that it has sent.
    pub sent_end: u32,
    /// The last acknowledgement number that it has sent.
    pub acked: u32,
}

/// Numbers that have moved on by so much are written.
pub const LAG: u32 = 1 << 15;

/// Of 2^32 numbers. A handshake's last segment acknowledges a SYN, and what was sent with it or right behind (RFC 7413).
const CLOSE: u32 = 1 << 16;

/// Of 2^32 numbers, twice. In flight, and so between the numbers of the two ends, are at most as many bytes as a receiver's window
/// has, which by default grows to 6 MiB (net.ipv4.tcp_rmem).
const IN_FLIGHT: u32 = 1 << 24;

impl NodeNumbers {
    /// After the first segment of the node side that was seen.
    pub fn first_of(segment: &Segment) -> Self {
        Self { sent_end: segment.end(), acked: segment.acknowledgement }
    }

    /// After a segment of the node side. What is repeated moves nothing back; a SYN begins with numbers of its own, unless they
    /// are close by.
    pub fn after(self, segment: &Segment, has_acked: bool) -> Self {
        let begins = segment.flags.has(TcpFlags::SYN);
        let moved = segment.end().wrapping_sub(self.sent_end);
        let sent_end =
            if (moved as i32) > 0 || (begins && moved.wrapping_neg() >= CLOSE) { segment.end() } else { self.sent_end };
        let acknowledges = segment.flags.has(TcpFlags::ACK);
        let moved = segment.acknowledgement.wrapping_sub(self.acked);
        let acked = if acknowledges && ((moved as i32) > 0 || begins || !has_acked) {
            segment.acknowledgement
        } else {
            self.acked
        };
        Self { sent_end, acked }
    }

    /// Whether the difference to what was remembered before is worth writing.
    pub fn has_moved_on_from(self, before: Self) -> bool {
        self.sent_end.wrapping_sub(before.sent_end) >= LAG || self.acked.wrapping_sub(before.acked) >= LAG
    }

    /// Whether the segment acknowledges what the node side sent last: its sender received that. Needs `sent_end` to the byte.
    pub fn is_received_by(self, segment: &Segment) -> bool {
        segment.flags.has(TcpFlags::ACK) && self.sent_end.wrapping_sub(segment.acknowledgement) < CLOSE
    }

    /// Whether both numbers of the segment are of this connection: a FIN, or a reset that acknowledges.
    pub fn fit(self, segment: &Segment) -> bool {
        let ahead = segment.sequence.wrapping_sub(self.acked.wrapping_sub(CLOSE));
        let behind = self.sent_end.wrapping_add(LAG).wrapping_sub(segment.acknowledgement);
        segment.flags.has(TcpFlags::ACK) && ahead < IN_FLIGHT && behind < IN_FLIGHT
    }

    /// Whether a reset without acknowledgement is where the node side waits for the next byte. RFC 5961 section 3.2 wants exactly
    /// that number; what is remembered may lag behind.
    pub fn are_next_of(self, reset: &Segment) -> bool {
        reset.sequence.wrapping_sub(self.acked.wrapping_sub(CLOSE / 2)) < CLOSE
    }

    /// Whether a reset of the node side itself has a number that it has sent, and not one that a forged segment has asked
    /// for: the reply to a segment of no connection takes that segment's acknowledgement number (RFC 9293 section 3.10.7.1).
    pub fn are_own_of(self, reset: &Segment) -> bool {
        self.sent_end.wrapping_add(LAG).wrapping_sub(reset.sequence) < CLOSE
    }
}

// RFC 5961 section 3 and 5 leave a blind sender 2^-32 (a reset) or window / 2^32; each test here leaves 2^-16.
const _: () = assert!(CLOSE as u64 * (1 << 16) <= 1 << 32);
const _: () = assert!(IN_FLIGHT as u64 * IN_FLIGHT as u64 <= 1 << 48);
const _: () = assert!(LAG <= CLOSE / 2);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIN_ACK: u8 = TcpFlags::FIN | TcpFlags::ACK;
    const RST_ACK: u8 = TcpFlags::RST | TcpFlags::ACK;

    fn segment(flags: u8, sequence: u32, acknowledgement: u32) -> Segment {
        Segment { flags: TcpFlags(flags), sequence, acknowledgement, length: 0 }
    }

    proptest! {
        #[test]
        fn windows_are_where_they_are_said_to_be(sent_end: u32, acked: u32) {
            let numbers = NodeNumbers { sent_end, acked };
            let ack = |n: i64| segment(TcpFlags::ACK, 0, sent_end.wrapping_add(n as u32));
            for (n, is_in) in [(0, true), (1, false), (-65_535, true), (-65_536, false), (1 << 31, false)] {
                prop_assert_eq!(numbers.is_received_by(&ack(n)), is_in, "acknowledges {}", n);
            }
            prop_assert!(!numbers.is_received_by(&segment(TcpFlags::RST, 0, sent_end)), "says that it acknowledges");

            let reset = |n: i64| segment(TcpFlags::RST, acked.wrapping_add(n as u32), 0);
            for (n, is_in) in [(0, true), (32_767, true), (32_768, false), (-32_768, true), (-32_769, false)] {
                prop_assert_eq!(numbers.are_next_of(&reset(n)), is_in, "reset at {}", n);
            }
            let own = |n: i64| segment(TcpFlags::RST, sent_end.wrapping_add(n as u32), 0);
            for (n, is_in) in [(0, true), (32_768, true), (32_769, false), (-32_767, true), (-32_768, false)] {
                prop_assert_eq!(numbers.are_own_of(&own(n)), is_in, "own reset at {}", n);
            }

            for flags in [FIN_ACK, RST_ACK] {
                let fits = |s: i64, a: i64| {
                    numbers.fit(&segment(flags, acked.wrapping_add(s as u32), sent_end.wrapping_add(a as u32)))
                };
                let (first, last) = (-65_536, (1 << 24) - 65_537);
                let (lowest, highest) = (32_769 - (1 << 24), 32_768);
                for (s, a, is_in) in [
                    (0, 0, true),
                    (first, 0, true), (first - 1, 0, false), (last, 0, true), (last + 1, 0, false),
                    (0, lowest, true), (0, lowest - 1, false), (0, highest, true), (0, highest + 1, false),
                ] {
                    prop_assert_eq!(fits(s, a), is_in, "{} and {}", s, a);
                }
            }
        }

        /// In any order: sent again, with or without what came behind it, or overtaken.
        #[test]
        fn numbers_go_with_the_furthest_segment(start: u32, lengths in prop::collection::vec(0u32..70_000, 1..20), again in any::<prop::sample::Index>()) {
            let mut numbers = NodeNumbers::first_of(&segment(TcpFlags::SYN, start, 0));
            prop_assert_eq!(numbers.sent_end, start.wrapping_add(1));
            let mut sent = std::vec::Vec::new();
            for length in lengths {
                let next = Segment { length, ..segment(TcpFlags::ACK, numbers.sent_end, start) };
                sent.push(next);
                numbers = numbers.after(&next, true);
                prop_assert_eq!(numbers.sent_end, next.end());
            }
            prop_assert_eq!(numbers.after(again.get(&sent), true), numbers);
        }

        #[test]
        fn new_connection_has_its_own_numbers(sent_end: u32, acked: u32, start: u32, theirs: u32) {
            let before = NodeNumbers { sent_end, acked };
            let syn_ack = segment(TcpFlags::SYN | TcpFlags::ACK, start, theirs);
            let after = before.after(&syn_ack, true);
            prop_assert_eq!(after.acked, theirs);
            prop_assert!(after.is_received_by(&segment(TcpFlags::ACK, theirs, start.wrapping_add(1))));
        }

        /// How often guesses are taken for right: counted where the windows begin and end.
        #[test]
        fn a_guess_is_right_once_in_65_536_times(sent_end: u32, acked: u32, guesses in prop::collection::vec(any::<(u32, u32)>(), 64)) {
            let numbers = NodeNumbers { sent_end, acked };
            for (sequence, acknowledgement) in guesses {
                let ack = segment(TcpFlags::ACK, sequence, acknowledgement);
                let behind = sent_end.wrapping_sub(acknowledgement);
                prop_assert_eq!(numbers.is_received_by(&ack), u64::from(behind) < 1 << 16);
                let far = acked.wrapping_sub(sequence) as i32;
                prop_assert_eq!(numbers.are_next_of(&segment(TcpFlags::RST, sequence, 0)), (-32_767..=32_768).contains(&far));
            }
        }
    }
}
