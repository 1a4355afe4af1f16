use std::collections::BTreeSet;

use proptest::prelude::*;

use super::share::{BLOCKS, blocks_of};
use super::*;
use crate::family::{Ipv4, Ipv6};

fn ranges() -> impl Strategy<Value = PortRange> {
    (1u16..=u16::MAX, 1u16..=u16::MAX).prop_map(|(a, b)| PortRange { first: a.min(b), last: a.max(b) })
}

fn keys() -> impl Strategy<Value = SearchKeys> {
    any::<(u32, u32)>().prop_map(|(pod, start)| SearchKeys { pod, start })
}

proptest! {
    #[test]
    fn candidates_cover_the_pods_share_and_nothing_else(
        range in ranges(), percent in 1u32..=100, preferred: u16, keys in keys()
    ) {
        let share = PortShare::new(range, blocks_of(percent), keys.pod);
        let candidates = Candidates::new(range, blocks_of(percent), TCP, 1, Be16::from_host(preferred), keys);
        let ports: BTreeSet<u16> = (0..).map_while(|n| candidates.port(n)).map(Be16::to_host).collect();
        prop_assert_eq!(ports.len() as u32, share.size());
        prop_assert!(ports.iter().all(|port| share.contains(Be16::from_host(*port))));
    }

    #[test]
    fn own_port_comes_first_if_the_pod_may_hold_it(
        range in ranges(), percent in 1u32..=100, preferred: u16, keys in keys()
    ) {
        let preferred = Be16::from_host(preferred);
        let candidates = Candidates::new(range, blocks_of(percent), UDP, 1, preferred, keys);
        if PortShare::new(range, blocks_of(percent), keys.pod).contains(preferred) {
            prop_assert_eq!(candidates.port(0), Some(preferred));
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
        let start_of = |tuple: &Tuple<Ipv6>| SearchKeys::of(seed, tuple).start;
        let start = start_of(&flow(address, address, port, port));
        prop_assert_eq!(start, start_of(&flow(address, address, port, port)), "the same for the same flow");
        let flipped = port ^ 1 << (bit % 16);
        let moved = [
            flow(other, address, port, port),
            flow(address, other, port, port),
            flow(address, address, flipped, port),
            flow(address, address, port, flipped),
        ];
        // Chance may let one of them begin at the same place, not most.
        prop_assert!(moved.iter().filter(|tuple| start_of(tuple) != start).count() >= 3);
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
        SearchKeys::of(seed, &tuple).start
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
    let candidates = Candidates::new(range, BLOCKS, TCP, 1, Be16(0), SearchKeys { pod: 3, start: 5 });
    let ports: BTreeSet<_> = (0..).map_while(|n| candidates.port(n)).map(Be16::to_host).collect();
    assert_eq!(ports.len(), 7919);
}

#[test]
fn protocol_without_ports_has_one_holder_per_destination() {
    const ESP: u8 = 50;
    let candidates = Candidates::new(PortRange::DEFAULT, 64, ESP, 1, Be16(0), SearchKeys { pod: 3, start: 7 });
    assert_eq!(candidates.port(0), Some(Be16(0)));
    assert_eq!(candidates.port(1), None);
}

#[test]
fn claim_is_fresh_for_a_moment_and_no_longer() {
    const MS: u64 = 1_000_000;
    for start_ns in [0, 12_345_678_901_234, u64::from(u16::MAX) << 27] {
        let holder = NatHolder::new(Ipv4::new(10, 240, 1, 1), Be16(1), start_ns);
        assert!(holder.is_claiming(start_ns) && holder.is_claiming(start_ns + 100 * MS));
        assert!(holder.is_claiming(start_ns.saturating_sub(10 * MS)), "another CPU's clock");
        assert!(!holder.is_claiming(start_ns + 500 * MS));
        assert!(!holder.is_claiming(start_ns + 3_600_000 * MS));
    }
}
