//! What is remembered of a packet's first fragment, so that its later ones find their ports.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::family::{Be16, Ipv4, Ipv6};
use crate::lifetime::NS_PER_SEC;

/// What the fragments of one packet have in common (RFC 791 section 3.2, RFC 8200 section 4.5). Maps `FRAGMENTS4`, 6.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, Immutable)]
pub struct FragmentKey<A> {
    pub source: A,
    pub destination: A,
    /// As it stands in the packet.
    pub identification: u32,
    pub protocol: u32,
}

/// What only the first fragment has; until it comes, how often its later ones were put back.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct FragmentPorts {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub expires_ns: u64,
    pub source_port: Be16,
    pub destination_port: Be16,
    /// How often later fragments were put back for want of the ports; [`Self::KNOWN`] if they are there.
    pub waits: u32,
}

/// Fragments of one packet are sent in one go; identifications come round again (RFC 6864 section 4).
const LIFETIME_NS: u64 = 2 * NS_PER_SEC;

impl FragmentPorts {
    /// [`Self::waits`] of ports that are known.
    pub const KNOWN: u32 = u32::MAX;

    /// How often the fragments of one packet are put back, all together. Each is eight times at most, and 65,535 bytes come in
    /// no more than 64 of them where the MTU is 1,280 or more.
    pub const MOST_WAITS: u32 = 8 * 64;

    pub fn known(source_port: Be16, destination_port: Be16, now_ns: u64) -> Self {
        Self { expires_ns: now_ns + LIFETIME_NS, source_port, destination_port, waits: Self::KNOWN }
    }

    /// Of a packet whose first fragment has not come, with one of its later ones put back.
    pub fn awaited(now_ns: u64) -> Self {
        Self { waits: 1, ..Self::known(Be16(0), Be16(0), now_ns) }
    }

    pub fn are_known(&self, now_ns: u64) -> bool {
        self.waits == Self::KNOWN && now_ns < self.expires_ns
    }

    /// After one more look at a fragment that is put back, unless that was too often. What circles is looked at all the time, so
    /// the count does not expire while it does.
    pub fn wait(self, now_ns: u64) -> Option<Self> {
        if self.are_known(now_ns) {
            // It has just come: the next look finds it.
            Some(self)
        } else if self.waits == Self::KNOWN || now_ns >= self.expires_ns {
            Some(Self::awaited(now_ns))
        } else if self.waits < Self::MOST_WAITS {
            Some(Self { waits: self.waits + 1, expires_ns: now_ns + LIFETIME_NS, ..self })
        } else {
            None
        }
    }
}

const _: () = assert!(size_of::<FragmentKey<Ipv4>>() == 16 && size_of::<FragmentKey<Ipv6>>() == 40);
const _: () = assert!(size_of::<FragmentPorts>() == 16);

#[cfg(test)]
mod tests {
    use super::*;

    /// However slowly it circles, within the time that its count is remembered.
    #[test]
    fn fragments_of_a_packet_are_put_back_a_bounded_number_of_times() {
        for pause_ns in [0, NS_PER_SEC, LIFETIME_NS - 1] {
            let (mut now_ns, mut waits) = (7 * NS_PER_SEC, 1);
            let mut ports = FragmentPorts::awaited(now_ns);
            while let Some(next) = ports.wait(now_ns) {
                (ports, now_ns, waits) = (next, now_ns + pause_ns, waits + 1);
                assert!(!ports.are_known(now_ns), "nobody has told the ports");
            }
            assert_eq!(waits, FragmentPorts::MOST_WAITS);
            assert_eq!(ports.wait(now_ns - pause_ns), None, "and no more");
            assert!(ports.wait(now_ns + LIFETIME_NS).is_some(), "another packet has this identification by then");
        }
    }

    #[test]
    fn ports_are_known_for_a_moment() {
        let ports = FragmentPorts::known(Be16(1), Be16(2), NS_PER_SEC);
        assert!(ports.are_known(NS_PER_SEC) && ports.are_known(NS_PER_SEC + LIFETIME_NS - 1));
        assert!(!ports.are_known(NS_PER_SEC + LIFETIME_NS));
        assert_eq!(ports.wait(NS_PER_SEC), Some(ports));
    }
}
