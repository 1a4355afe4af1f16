//! Which port of the node a translated flow gets.
//!
//! Ports are per destination (address, port, protocol): the table of translations is keyed by the whole wire tuple, so
//! two destinations never compete. The flow's own port is tried first, then the range from a start that is random to
//! everybody who does not know the node's seed (RFC 6056 section 3.3.3), and the same for the same flow: a flow whose
//! memory was lost finds the port it had.

use crate::family::{Address, Be16, TCP, UDP};
use crate::flow::Tuple;

/// Ports that translated flows may use, both ends included. Host byte order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
}

impl PortRange {
    /// Below the NodePorts of Kubernetes (30000–32767) and the kernel's ephemeral ports (32768–60999,
    /// net.ipv4.ip_local_port_range), above the privileged ones: a flow of the host and one of a pod never meet.
    pub const DEFAULT: Self = Self { first: 1024, last: 29_999 };

    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// At least 1.
    pub const fn size(self) -> u32 {
        self.last.saturating_sub(self.first) as u32 + 1
    }
}

/// How many ports are tried for a new flow. At 90 % fill of one destination a flow is refused once in 10^3 times, at
/// 80 % once in 10^6.
pub const MAX_TRIES: u32 = 64;

/// How many of the same ports are then looked at for a holder whose flow is over.
pub const MAX_TAKE_OVERS: u32 = 8;

/// Where the search for a flow's port begins: all of the tuple and the node's seed, mixed.
pub fn search_start<A: Address>(seed: u32, tuple: &Tuple<A>) -> u32 {
    let ports = u32::from(tuple.source_port.0) << 16 | u32::from(tuple.destination_port.0);
    let mut mixed = u64::from(seed) ^ u64::from(tuple.protocol) << 32;
    for word in [tuple.source.fold(), tuple.destination.fold(), ports] {
        mixed = (mixed ^ u64::from(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^= mixed >> 29;
    }
    (mixed >> 32) as u32
}

/// The candidates for one flow.
#[derive(Clone, Copy, Debug)]
pub struct Candidates {
    range: PortRange,
    preferred: Be16,
    start: u32,
    has_ports: bool,
}

impl Candidates {
    /// `start` is any 32 bits, see [`search_start`].
    pub fn new(range: PortRange, protocol: u8, icmp: u8, preferred: Be16, start: u32) -> Self {
        let has_ports = protocol == TCP || protocol == UDP || protocol == icmp;
        Self { range, preferred, start: start % range.size(), has_ports }
    }

    /// The `try_number`th port to try, counted from 0; none when there is nothing more to try.
    ///
    /// Try 0 is the flow's own port if it lies in the range. The following ones walk the range in steps that share no
    /// divisor with its size: every port comes once in `size` steps, and a run of ports in use costs no more than as
    /// many scattered ones. A protocol without ports has one candidate, 0: one holder per destination.
    pub fn port(&self, try_number: u32) -> Option<Be16> {
        if !self.has_ports {
            return if try_number == 0 { Some(Be16(0)) } else { None };
        }
        let size = self.range.size();
        if try_number > size {
            return None;
        }
        if try_number == 0 && self.range.contains(self.preferred.to_host()) {
            return Some(self.preferred);
        }
        // At most 2^16 * 7919: no overflow.
        let offset = (self.start + try_number * stride(size)) % size;
        Some(Be16::from_host(self.range.first + offset as u16))
    }
}

/// A prime that does not divide `size`.
fn stride(size: u32) -> u32 {
    if size.is_multiple_of(7919) { 7907 } else { 7919 }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::family::{Ipv4, Ipv6};

    fn ranges() -> impl Strategy<Value = PortRange> {
        (1u16..=u16::MAX, 1u16..=u16::MAX).prop_map(|(a, b)| PortRange { first: a.min(b), last: a.max(b) })
    }

    proptest! {
        #[test]
        fn candidates_cover_the_range_and_nothing_else(range in ranges(), preferred: u16, random: u32) {
            let candidates = Candidates::new(range, TCP, 1, Be16::from_host(preferred), random);
            let ports: BTreeSet<u16> = (0..).map_while(|n| candidates.port(n)).map(Be16::to_host).collect();
            prop_assert_eq!(ports.len() as u32, range.size());
            prop_assert!(ports.iter().all(|port| range.contains(*port)));
        }

        #[test]
        fn own_port_comes_first_if_it_lies_in_the_range(range in ranges(), preferred: u16, random: u32) {
            let candidates = Candidates::new(range, UDP, 1, Be16::from_host(preferred), random);
            if range.contains(preferred) {
                prop_assert_eq!(candidates.port(0).unwrap().to_host(), preferred);
            }
        }

        #[test]
        fn any_part_of_a_flow_moves_the_start_of_its_search(address: [u8; 16], seed: u32, port: u16, bit in 0usize..128) {
            let mut other = address;
            other[bit / 8] ^= 1 << (bit % 8);
            let flow = |source, destination, source_port, destination_port| Tuple {
                source: Ipv6::from_octets(source),
                destination: Ipv6::from_octets(destination),
                source_port: Be16(source_port),
                destination_port: Be16(destination_port),
                protocol: UDP,
            };
            let start = search_start(seed, &flow(address, address, port, port));
            prop_assert_eq!(start, search_start(seed, &flow(address, address, port, port)), "the same for the same flow");
            let flipped = port ^ 1 << (bit % 16);
            let moved = [
                flow(other, address, port, port),
                flow(address, other, port, port),
                flow(address, address, flipped, port),
                flow(address, address, port, flipped),
            ];
            // Chance may let one of them begin at the same place, not most.
            prop_assert!(moved.iter().filter(|tuple| search_start(seed, tuple) != start).count() >= 3);
        }
    }

    #[test]
    fn flows_begin_their_search_all_over_the_range() {
        let start = |source_port, seed| {
            let tuple = Tuple {
                source: Ipv4::new(10, 240, 1, 1),
                destination: Ipv4::new(198, 51, 100, 10),
                source_port: Be16::from_host(source_port),
                destination_port: Be16::from_host(443),
                protocol: TCP,
            };
            search_start(seed, &tuple)
        };
        assert_eq!(start(40_000, 7), start(40_000, 7), "the same for the same flow");
        assert_ne!(start(40_000, 7), start(40_000, 8), "another for another node");
        let size = PortRange::DEFAULT.size();
        let starts: BTreeSet<u32> = (0..4096).map(|port| start(32_768 + port, 7) % size).collect();
        // So many balls into so many boxes: 0.932 of them are alone or first there.
        assert!(starts.len() > 4096 * 9 / 10, "{}", starts.len());
        let in_first_half = starts.iter().filter(|start| **start < size / 2).count();
        assert!((starts.len() * 2 / 5..starts.len() * 3 / 5).contains(&in_first_half), "{in_first_half}");
    }

    #[test]
    fn range_whose_size_is_a_multiple_of_the_stride_is_covered() {
        let range = PortRange { first: 1, last: 7919 };
        let candidates = Candidates::new(range, TCP, 1, Be16(0), 5);
        let ports: BTreeSet<_> = (0..).map_while(|n| candidates.port(n)).map(Be16::to_host).collect();
        assert_eq!(ports.len(), 7919);
    }

    #[test]
    fn protocol_without_ports_has_one_holder_per_destination() {
        const ESP: u8 = 50;
        let candidates = Candidates::new(PortRange::DEFAULT, ESP, 1, Be16(0), 7);
        assert_eq!(candidates.port(0), Some(Be16(0)));
        assert_eq!(candidates.port(1), None);
    }
}
