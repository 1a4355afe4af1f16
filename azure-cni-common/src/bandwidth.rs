//! How fast a pod may send and receive: a token bucket for each direction.
//!
//! A bucket is one word, the time until which all that has passed is paid for (the generic cell rate algorithm, ITU-T I.371 annex A).
//! The rule: what finds the bucket not empty passes as a whole, and may leave a debt. So a packet that is longer than the burst passes
//! too, and in any time no more passes than the burst, what the rate adds, and one packet.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::lifetime::NS_PER_SEC;

/// The limits of a pod. Map `BANDWIDTH`: host veth → limits.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct Limits {
    /// Of what reaches the pod.
    pub ingress: Limit,
    /// Of what leaves it.
    pub egress: Limit,
}

impl Limits {
    pub const NONE: Self = Self { ingress: Limit::NONE, egress: Limit::NONE };

    /// Whether both say the same, however full their buckets are.
    pub fn limits_like(&self, other: &Self) -> bool {
        let terms = |limit: &Limit| (limit.rate_bits, limit.burst_bits);
        (terms(&self.ingress), terms(&self.egress)) == (terms(&other.ingress), terms(&other.egress))
    }
}

/// The limit of one direction, with its bucket.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct Limit {
    /// A second, as the runtime gave it; 0: there is no limit.
    pub rate_bits: u64,
    pub burst_bits: u64,
    /// What a byte costs, in nanoseconds times 2^[`FRACTION_BITS`]. The programs cannot divide by the rate for each packet.
    pub byte_cost: u64,
    /// What a full bucket pays for.
    pub burst_ns: u64,
    /// The bucket: written by all CPUs, by compare and exchange.
    pub paid_until_ns: u64,
}

/// The most that a byte costs is 2^23 ns, at [`RATE_MIN`]; a packet has less than 2^21 bytes. Their product is below 2^64.
const FRACTION_BITS: u32 = 20;

/// The rates that Kubernetes takes for reasonable, in bits a second (k8s.io/kubernetes/pkg/util/bandwidth, `validateBandwidthIsReasonable`).
pub const RATE_MIN: u64 = 1_000;
pub const RATE_MAX: u64 = 1_000_000_000_000_000;

/// What a burst may be, in bits: a packet of Ethernet's usual size, and what the fastest rate sends in a second.
pub const BURST_MIN: u64 = 1_500 * 8;
pub const BURST_MAX: u64 = RATE_MAX;

/// A burst that nobody has chosen is what the rate sends in this time. TCP that has lost all it sent waits for 200 ms or more
/// (Linux, `TCP_RTO_MIN`); what a pod may not send meanwhile, it must be able to save up. docs/adr/0016 has what was measured.
const DEFAULT_BURST_MS: u64 = 400;

/// And no less than this many bits: four packets of the size that offloads build (64 KiB).
const DEFAULT_BURST_MIN: u64 = 4 * 65_536 * 8;

/// How often a CPU tries to write a bucket that others write too.
pub const ATTEMPTS: u32 = 8;

impl Limit {
    pub const NONE: Self = Self { rate_bits: 0, burst_bits: 0, byte_cost: 0, burst_ns: 0, paid_until_ns: 0 };

    /// With a full bucket. The rate is within [`RATE_MIN`] and [`RATE_MAX`]; others are taken for the nearest of these.
    pub fn new(rate_bits: u64, burst_bits: Option<u64>) -> Self {
        let rate = rate_bits.clamp(RATE_MIN, RATE_MAX);
        let burst = burst_bits.unwrap_or_else(|| default_burst(rate)).clamp(BURST_MIN, BURST_MAX);
        let cost = (u128::from(8 * NS_PER_SEC) << FRACTION_BITS) / u128::from(rate);
        let burst_ns = u128::from(burst) * u128::from(NS_PER_SEC) / u128::from(rate);
        Self {
            rate_bits: rate,
            burst_bits: burst,
            byte_cost: saturated(cost).max(1),
            burst_ns: saturated(burst_ns),
            paid_until_ns: 0,
        }
    }

    pub const fn is_none(&self) -> bool {
        self.byte_cost == 0
    }
}

/// Bits.
fn default_burst(rate_bits: u64) -> u64 {
    (rate_bits / 1000 * DEFAULT_BURST_MS).max(DEFAULT_BURST_MIN)
}

/// Far from where additions of times would overflow.
fn saturated(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX).min(u64::MAX / 4)
}

/// A bucket after `bytes` more, unless it is empty.
#[inline(always)]
pub fn spend(paid_until_ns: u64, burst_ns: u64, cost_ns: u64, now_ns: u64) -> Option<u64> {
    let start = paid_until_ns.max(now_ns);
    if start - now_ns >= burst_ns { None } else { Some(start + cost_ns) }
}

/// What so many bytes cost, to the nearest nanosecond.
#[inline(always)]
pub fn cost_ns(byte_cost: u64, bytes: u32) -> u64 {
    byte_cost.wrapping_mul(u64::from(bytes)).wrapping_add(1 << (FRACTION_BITS - 1)) >> FRACTION_BITS
}

/// The bytes of IP packets that a packet is on the wire: those of all segments that it will be cut into. `segment`: bytes of payload
/// of each, 0 for a packet that stays whole. `headers`: bytes of headers of each.
#[inline(always)]
pub fn wire_bytes(length: u32, segment: u32, headers: u32) -> u32 {
    if segment == 0 {
        return length;
    }
    let payload = length.saturating_sub(headers);
    let further = payload.saturating_sub(1) / segment;
    // No packet has more bytes than this; the verifier needs no proof of it, the arithmetic does.
    length.saturating_add(further.saturating_mul(headers)).min(MOST_BYTES)
}

/// include/net/tcp.h and include/linux/netdevice.h: GSO_MAX_SIZE is 8 × 65,535 bytes; with headers for each of its segments it
/// stays below this.
const MOST_BYTES: u32 = (1 << 21) - 1;

const _: () = assert!(size_of::<Limits>() == 80);

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const START: u64 = 77 * NS_PER_SEC;

    /// Sends packets of these bytes one after the other, each after its gap; returns the bytes that passed.
    fn passed(limit: &mut Limit, packets: impl IntoIterator<Item = (u64, u32)>) -> u64 {
        let (mut now, mut bytes) = (START, 0);
        for (gap, length) in packets {
            now += gap;
            if let Some(after) = spend(limit.paid_until_ns, limit.burst_ns, cost_ns(limit.byte_cost, length), now) {
                limit.paid_until_ns = after;
                bytes += u64::from(length);
            }
        }
        bytes
    }

    #[test]
    fn what_is_sent_too_fast_passes_at_the_rate_to_a_thousandth() {
        for rate in [1_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000, 10_000_000_000, 100_000_000_000_u64] {
            for length in [60_u32, 1500, 65_000, 500_000] {
                let mut limit = Limit::new(rate, Some(BURST_MIN));
                // Twice as fast as the rate, and long enough that the burst does not count.
                let gap = u64::from(length) * 8 * NS_PER_SEC / rate / 2;
                let count = 40_000_u64.max(20_000 * BURST_MIN / 8 / u64::from(length));
                let bytes = passed(&mut limit, (0..count).map(|_| (gap, length)));
                let wanted = u128::from(rate) * u128::from(gap * count) / u128::from(8 * NS_PER_SEC);
                let ratio = bytes as f64 / wanted as f64;
                // A packet's cost is whole nanoseconds; those of 60 bytes at 100 Gbit/s cost 4.8.
                let tolerance = 0.001 + rate as f64 / 16e9 / f64::from(length);
                assert!((ratio - 1.0).abs() <= tolerance, "{rate} bit/s, {length} bytes: {ratio}");
            }
        }
    }

    #[test]
    fn slower_than_the_rate_nothing_is_held_back() {
        let mut limit = Limit::new(10_000_000, Some(BURST_MIN));
        let gap = 1500 * 8 * NS_PER_SEC / 10_000_000 + 1;
        assert_eq!(passed(&mut limit, (0..10_000).map(|_| (gap, 1500))), 10_000 * 1500);
    }

    #[test]
    fn packet_that_is_longer_than_the_burst_passes_and_leaves_a_debt() {
        let mut limit = Limit::new(1_000_000, Some(BURST_MIN));
        assert_eq!(passed(&mut limit, [(0, 65_000), (0, 60), (400_000_000, 60), (109_000_000, 60)]), 65_060);
    }

    #[test]
    fn burst_that_nobody_chose_lasts_for_400_ms_and_holds_offloaded_packets() {
        assert_eq!(Limit::new(1_000_000_000, None).burst_ns, 400_000_000);
        assert_eq!(Limit::new(1_000, None).burst_bits, DEFAULT_BURST_MIN);
    }

    #[test]
    fn extremes_do_not_overflow() {
        for rate in [0, RATE_MIN, RATE_MAX, u64::MAX] {
            for burst in [None, Some(0), Some(u64::MAX)] {
                let limit = Limit::new(rate, burst);
                assert!(!limit.is_none());
                let dearest = cost_ns(limit.byte_cost, MOST_BYTES);
                let exact = (u128::from(limit.byte_cost) * u128::from(MOST_BYTES)) >> FRACTION_BITS;
                assert!(exact.abs_diff(u128::from(dearest)) <= 1, "{exact} {dearest}");
                let mut until = 0;
                for _ in 0..3 {
                    until = spend(until, limit.burst_ns, dearest, u64::MAX / 4).unwrap_or(until);
                }
                assert!(until < u64::MAX / 2 + u64::MAX / 4, "{until}");
            }
        }
        assert!(Limit::NONE.is_none());
    }

    #[test]
    fn segments_count_with_their_headers() {
        for (length, segment, headers, expected) in [
            (1500, 0, 52, 1500),
            (1500, 1448, 52, 1500),
            (52 + 2 * 1448, 1448, 52, 2 * 1500),
            (52 + 2 * 1448 + 1, 1448, 52, 2 * 1500 + 53),
            (28 + 3 * 100, 100, 28, 3 * 128),
            (52, 1448, 52, 52),
            (10, 1448, 52, 10),
            (u32::MAX, 1, u32::MAX / 2, MOST_BYTES),
        ] {
            assert_eq!(wire_bytes(length, segment, headers), expected, "{length} {segment} {headers}");
        }
    }

    #[test]
    fn limits_are_alike_whatever_is_in_their_buckets() {
        let one = Limits { ingress: Limit::new(5_000, None), egress: Limit::NONE };
        let used = Limits { ingress: Limit { paid_until_ns: 7, ..one.ingress }, ..one };
        assert!(one.limits_like(&used) && one != used);
        let others = [
            Limits::NONE,
            Limits { egress: one.ingress, ingress: Limit::NONE },
            Limits { ingress: Limit::new(5_000, Some(BURST_MIN)), ..one },
            Limits { ingress: Limit::new(5_001, None), ..one },
        ];
        assert!(others.iter().all(|other| !one.limits_like(other)));
    }

    proptest! {
        /// However packets are spread and whatever their lengths: in any time no more passes than the burst, what the rate adds,
        /// and one packet.
        #[test]
        fn no_more_than_burst_rate_and_one_packet(
            rate in RATE_MIN..1_000_000_000,
            burst in BURST_MIN..10_000_000,
            packets in prop::collection::vec((0_u64..50_000_000, 60_u32..65_536), 1..400),
            skipped in 0_usize..200,
        ) {
            let mut limit = Limit::new(rate, Some(burst));
            let (before, measured) = packets.split_at(skipped.min(packets.len() - 1));
            let mut before: Vec<_> = before.to_vec();
            before.push((0, 60));
            passed(&mut limit, before.iter().copied());
            let elapsed = before.iter().map(|(gap, _)| gap).sum::<u64>();
            let mut late = measured.to_vec();
            late[0].0 += elapsed;
            let bytes = passed(&mut limit, late.iter().copied());
            let time: u64 = measured[1..].iter().map(|(gap, _)| gap).sum();
            let longest = u64::from(measured.iter().map(|(_, length)| *length).max().unwrap_or(0));
            let by_rate = u128::from(rate) * u128::from(time) / u128::from(8 * NS_PER_SEC);
            let rounding = measured.len() as u64 * (1 + rate / 8 / NS_PER_SEC);
            prop_assert!(u128::from(bytes) <= by_rate + u128::from(burst / 8 + longest + rounding));
        }
    }
}
