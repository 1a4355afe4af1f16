//! Which ports of the NAT range a pod may hold: its share. No pod can take all ports towards a destination from the others.
//!
//! The range is cut into [`BLOCKS`] blocks, each of every 256th port. A pod has as many of them as its share says, chosen by its
//! address and the node's seed. So nothing is counted, and no sequence of packets gives a pod more. The blocks of two pods
//! overlap by chance only: a pod whose neighbour has taken all it can still has most of its own ports.

use crate::family::Be16;

use super::port_range::PortRange;

/// How many blocks the range is cut into.
pub const BLOCKS: u32 = 256;

const BLOCK: u32 = BLOCKS - 1;

/// The blocks of a percentage of the range: at least one, at most all.
pub const fn blocks_of(percent: u32) -> u32 {
    let blocks = (percent * BLOCKS).div_ceil(100);
    if blocks < BLOCKS { blocks } else { BLOCKS }
}

/// The ports that one pod may hold.
#[derive(Clone, Copy, Debug)]
pub struct PortShare {
    range: PortRange,
    /// At least 1; [`BLOCKS`]: the range is not divided.
    blocks: u32,
    /// Which ones: any bits that belong to the pod.
    key: u32,
}

impl PortShare {
    /// A range with fewer ports than there are blocks is not divided.
    pub fn new(range: PortRange, blocks: u32, key: u32) -> Self {
        let is_divided = range.size() >= BLOCKS && blocks != 0;
        Self { range, blocks: if is_divided { blocks.min(BLOCKS) } else { BLOCKS }, key }
    }

    fn is_whole(&self) -> bool {
        self.blocks == BLOCKS
    }

    /// How many ports it has, at least 1.
    pub fn size(&self) -> u32 {
        if self.is_whole() { self.range.size() } else { self.blocks * (self.range.size() / BLOCKS) }
    }

    /// The `index`th port of the share, counted from 0; smaller than its size.
    pub fn port(&self, index: u32) -> Be16 {
        let offset = if self.is_whole() {
            index
        } else {
            // `blocks` is never 0; the compiler can't know.
            let blocks = self.blocks.max(1);
            index / blocks * BLOCKS + self.block(index % blocks)
        };
        Be16::from_host(self.range.first.wrapping_add(offset as u16))
    }

    /// Whether the pod may hold this port.
    pub fn contains(&self, port: Be16) -> bool {
        let port = port.to_host();
        if !self.range.contains(port) {
            return false;
        }
        let offset = u32::from(port - self.range.first);
        // What is left over behind the last whole row of blocks is nobody's.
        let is_in_a_row = offset < self.range.size() & !BLOCK;
        self.is_whole() || (is_in_a_row && self.place(offset & BLOCK) < self.blocks)
    }

    /// The block at a place of the pod's order: a permutation of 256 numbers, by two affine maps with a shift between them, so
    /// that the orders of two pods have nothing in common.
    fn block(&self, place: u32) -> u32 {
        let [a, b, c, d] = self.key.to_le_bytes().map(u32::from);
        let mut block = place.wrapping_mul(a | 1).wrapping_add(b) & BLOCK;
        block ^= block >> 4;
        block.wrapping_mul(c | 1).wrapping_add(d) & BLOCK
    }

    /// The place of a block: [`Self::block`] undone.
    fn place(&self, block: u32) -> u32 {
        let [a, b, c, d] = self.key.to_le_bytes().map(u32::from);
        let mut place = block.wrapping_sub(d).wrapping_mul(inverse(c | 1)) & BLOCK;
        place ^= place >> 4;
        place.wrapping_sub(b).wrapping_mul(inverse(a | 1)) & BLOCK
    }
}

/// Of an odd number, modulo 256 (Newton's iteration: the first guess is right in three bits, and each round doubles them).
fn inverse(odd: u32) -> u32 {
    let mut inverse = odd;
    for _ in 0..2 {
        inverse = inverse.wrapping_mul(2u32.wrapping_sub(odd.wrapping_mul(inverse)));
    }
    inverse
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::family::{Address, Ipv4, Ipv6, UDP};
    use crate::flow::Tuple;
    use crate::nat::SearchKeys;

    fn ports(share: &PortShare) -> BTreeSet<u16> {
        (0..share.size()).map(|index| share.port(index).to_host()).collect()
    }

    fn ranges() -> impl Strategy<Value = PortRange> {
        (1u16..=u16::MAX, 1u16..=u16::MAX).prop_map(|(a, b)| PortRange { first: a.min(b), last: a.max(b) })
    }

    proptest! {
        // Each looks at all ports there are.
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn share_has_its_size_lies_in_the_range_and_knows_its_ports(range in ranges(), percent in 1u32..=100, key: u32) {
            let share = PortShare::new(range, blocks_of(percent), key);
            let own = ports(&share);
            prop_assert_eq!(own.len() as u32, share.size());
            let known: BTreeSet<u16> = (0..=u16::MAX).filter(|port| share.contains(Be16::from_host(*port))).collect();
            prop_assert!(known == own, "{:?} and {:?}", known.len(), own.len());
            prop_assert!(own.iter().all(|port| range.contains(*port)));
            if range.size() >= BLOCKS {
                let most = range.size() * blocks_of(percent) / BLOCKS;
                prop_assert!(share.size() <= most && share.size() * 2 > most, "{} of {}", share.size(), range.size());
            } else {
                prop_assert_eq!(share.size(), range.size());
            }
        }
    }

    #[test]
    fn percentages_are_blocks() {
        assert_eq!([1, 25, 50, 99, 100].map(blocks_of), [3, 64, 128, 254, 256]);
        let size = |percent| PortShare::new(PortRange::DEFAULT, blocks_of(percent), 7).size();
        assert_eq!([1, 25, 100].map(size), [339, 7232, 28_976]);
        assert_eq!(PortShare::new(PortRange::DEFAULT, 0, 7).size(), 28_976, "of programs that nobody has told");
    }

    /// The blocks of a pod, as bits.
    fn blocks_of_pod<A: Address>(address: A, seed: u32) -> [u64; 4] {
        let source = Tuple { source: address, ..unspecified() };
        let one_of_each = PortRange { first: 1, last: 256 };
        let share = PortShare::new(one_of_each, blocks_of(25), SearchKeys::of(seed, &source).pod);
        let mut blocks = [0; 4];
        for index in 0..share.size() {
            let block = share.port(index).to_host() - 1;
            blocks[usize::from(block / 64)] |= 1 << (block % 64);
        }
        blocks
    }

    fn unspecified<A: Address>() -> Tuple<A> {
        let [source, destination] = [A::UNSPECIFIED; 2];
        Tuple { source, destination, source_port: Be16(0), destination_port: Be16(0), protocol: UDP }
    }

    /// By chance a quarter of a pod's blocks are another pod's too: 16 of 64.
    fn expect_apart(pods: &[[u64; 4]]) {
        let (mut most, mut sum, mut pairs) = (0, 0, 0);
        for (index, one) in pods.iter().enumerate() {
            for other in &pods[..index] {
                let common: u32 = one.iter().zip(other).map(|(one, other)| (one & other).count_ones()).sum();
                (most, sum, pairs) = (most.max(common), sum + common, pairs + 1);
            }
        }
        assert!(most < 64 * 2 / 3, "two pods have {most} of 64 blocks in common");
        assert!((14..=18).contains(&(sum / pairs)), "{} of 64 blocks in common on the average", sum / pairs);
    }

    #[test]
    fn each_of_250_pods_has_ports_that_no_other_pod_can_take() {
        for seed in [1, 0x1234_5678, u32::MAX] {
            let v4: Vec<_> = (0..250).map(|n| blocks_of_pod(Ipv4::new(10, 240, 0, n), seed)).collect();
            expect_apart(&v4);
        }
        let v6 = |n| Ipv6::from_octets([0xfd, 0, 0, 0x10, 2, 0x40, 0, 1, 0, 0, 0, 0, 0, 0, 0, n]);
        expect_apart(&(0..250).map(|n| blocks_of_pod(v6(n), 7)).collect::<Vec<_>>());
    }
}
