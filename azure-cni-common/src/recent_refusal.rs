//! What was refused a moment ago, so that the next packets like it cost little: they are searched for a port less, and reported
//! together.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::drop_reason::DropReason;
use crate::family::Address;
use crate::flow::Tuple;
use crate::nat::mix;

/// Which packets are alike: one sender, destination with its port, protocol and reason. 64 bits that stand for them; chance
/// makes two kinds alike once in 2^64 times, and then one is reported as the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusalKey(u64);

impl RefusalKey {
    pub fn of<A: Address>(seed: u32, tuple: &Tuple<A>, reason: DropReason) -> Self {
        let kind = reason.number() << 24 | u32::from(tuple.protocol) << 16 | u32::from(tuple.destination_port.0);
        let key = mix(mix(mix(u64::from(seed), tuple.source.fold()), tuple.destination.fold()), kind);
        // Zero is of no packet: it is what an empty place has.
        Self(key | 1)
    }

    /// Where it is remembered.
    pub const fn place(self) -> u32 {
        (self.0 >> 32) as u32 % PLACES
    }
}

/// Entries of the map `REFUSALS`, for each CPU.
pub const PLACES: u32 = 256;

/// A kind of packets that was refused. Map `REFUSALS`: [`RefusalKey::place`] → the last kind there, for each CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct RecentRefusal {
    /// See [`RefusalKey`]; zero: none.
    pub key: u64,
    /// CLOCK_MONOTONIC, nanoseconds: how long it counts as recent.
    pub until_ns: u64,
    /// Refusals that were not reported yet.
    pub waiting: u64,
}

impl RecentRefusal {
    /// A fifteenth of a second.
    const MOMENT_NS: u64 = 1 << 26;

    /// Whether packets of this kind were refused a moment ago.
    pub fn is_of(&self, key: RefusalKey, now_ns: u64) -> bool {
        self.key == key.0 && now_ns < self.until_ns
    }

    /// One more is refused. Returns how many to report: none while one of this kind was reported a moment ago. Those are reported
    /// with the next one, unless another kind takes the place before.
    #[must_use]
    pub fn add(&mut self, key: RefusalKey, now_ns: u64) -> u32 {
        if self.is_of(key, now_ns) {
            self.waiting += 1;
            return 0;
        }
        let waiting = if self.key == key.0 { self.waiting } else { 0 };
        *self = Self { key: key.0, until_ns: now_ns + Self::MOMENT_NS, waiting: 0 };
        (waiting + 1).min(u64::from(u32::MAX)) as u32
    }

    /// A packet of this kind was not refused.
    pub fn forget(&mut self, key: RefusalKey) {
        if self.key == key.0 {
            self.until_ns = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::{Be16, Ipv4, UDP};

    fn tuple(source: u8, source_port: u16, destination_port: u16) -> Tuple<Ipv4> {
        Tuple {
            source: Ipv4::new(10, 240, 1, source),
            destination: Ipv4::new(168, 63, 129, 16),
            source_port: Be16::from_host(source_port),
            destination_port: Be16::from_host(destination_port),
            protocol: UDP,
        }
    }

    const FULL: DropReason = DropReason::NatPortsExhausted;

    #[test]
    fn kinds_differ_by_all_but_the_senders_port() {
        let key = |tuple, reason| RefusalKey::of(7, &tuple, reason);
        let one = key(tuple(1, 1000, 53), FULL);
        assert_eq!(one, key(tuple(1, 2000, 53), FULL));
        let to_another = Tuple { destination: Ipv4::new(168, 63, 129, 17), ..tuple(1, 1000, 53) };
        let by_tcp = Tuple { protocol: 6, ..tuple(1, 1000, 53) };
        for (tuple, reason) in [
            (tuple(2, 1000, 53), FULL),
            (tuple(1, 1000, 54), FULL),
            (to_another, FULL),
            (by_tcp, FULL),
            (tuple(1, 1000, 53), DropReason::NatTableFull),
        ] {
            assert_ne!(one, key(tuple, reason), "{tuple:?} {reason:?}");
        }
        assert_ne!(one, RefusalKey::of(8, &tuple(1, 1000, 53), FULL), "nobody can choose what shares a place");
    }

    #[test]
    fn refusals_of_a_moment_are_reported_with_the_next_one() {
        let [one, other] = [1, 2].map(|source| RefusalKey::of(7, &tuple(source, 1000, 53), FULL));
        let mut place = RecentRefusal::default();
        assert!(!place.is_of(one, 0));
        assert_eq!((place.add(one, 1000), place.add(one, 1000), place.add(one, 2000)), (1, 0, 0));
        assert!(place.is_of(one, 2000) && !place.is_of(other, 2000));
        let later = 1000 + RecentRefusal::MOMENT_NS;
        assert!(!place.is_of(one, later));
        assert_eq!((place.add(one, later), place.add(one, later)), (3, 0));
        assert_eq!(place.add(other, later), 1, "the place is another's");
        assert_eq!(place.add(one, later), 1);
    }

    #[test]
    fn kind_that_is_not_refused_any_more_is_forgotten_and_its_reports_are_not() {
        let [one, other] = [1, 2].map(|source| RefusalKey::of(7, &tuple(source, 1000, 53), FULL));
        let mut place = RecentRefusal::default();
        assert_eq!((place.add(one, 1000), place.add(one, 1000)), (1, 0));
        place.forget(other);
        assert!(place.is_of(one, 1000));
        place.forget(one);
        assert!(!place.is_of(one, 1000));
        assert_eq!(place.add(one, 1000), 2);
    }
}
