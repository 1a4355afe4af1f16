//! What is known of this node's pods, and the cache that the programs read it from.
//!
//! The cache is direct-mapped, an array in front of the endpoint tables. Its rule: a slot is right or is a miss, and then the
//! table has to be asked. A slot speaks for every address that is mapped to it, so "not local" is a hit too. Only the agent
//! writes slots, with each change of the table. There are many more slots than pods, and the addresses of a /24 never share one.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::family::{Address, Ipv4, Ipv6};

/// What is known of a pod by its address. Maps `ENDPOINTS4` and `ENDPOINTS6`: address → endpoint.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct EndpointEntry {
    /// Index of the host veth, in the node's network namespace.
    pub ifindex: u32,
    pub flags: EndpointFlags,
    /// See [`Self::mac`]: its first two bytes, and the rest. Bytes would be loaded and stored each on its own.
    pub mac_start: u16,
    pub mac_rest: u32,
}

impl EndpointEntry {
    pub const fn at(ifindex: u32) -> Self {
        Self { ifindex, flags: EndpointFlags::NONE, mac_start: 0, mac_rest: 0 }
    }

    pub const fn with_flags(self, flags: EndpointFlags) -> Self {
        Self { flags, ..self }
    }

    pub const fn with_mac(self, mac: Mac) -> Self {
        let [a, b, c, d, e, f] = mac;
        Self { mac_start: u16::from_ne_bytes([a, b]), mac_rest: u32::from_ne_bytes([c, d, e, f]), ..self }
    }

    /// Of the pod's interface: what a guest behind it listens to.
    pub const fn mac(&self) -> Mac {
        let ([a, b], [c, d, e, f]) = (self.mac_start.to_ne_bytes(), self.mac_rest.to_ne_bytes());
        [a, b, c, d, e, f]
    }
}

/// A MAC address, as it stands in a frame.
pub type Mac = [u8; 6];

/// The MAC of every host veth. It is constant, so that nothing on the node rewrites it and pods need not learn it.
pub const HOST_MAC: Mac = [0xaa; 6];

/// The link-local address that an interface with this MAC makes for itself (RFC 4291 appendix A).
pub const fn link_local(mac: Mac) -> Ipv6 {
    let [a, b, c, d, e, f] = mac;
    Ipv6::from_octets([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// What is special about a pod, as a set of bits.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct EndpointFlags(pub u16);

impl EndpointFlags {
    pub const NONE: Self = Self(0);
    /// Also the Internet sees the pod's own address: it has a public one, or its network opts out of source NAT.
    pub const KEEP_SOURCE: Self = Self(1);
    /// The map `BANDWIDTH` has limits for the pod's host veth. Others are not looked up there.
    pub const LIMITED: Self = Self(2);

    pub const fn with_if(self, other: Self, condition: bool) -> Self {
        if condition { Self(self.0 | other.0) } else { self }
    }

    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// Entries of the maps `ENDPOINT_CACHE4` and `ENDPOINT_CACHE6`.
pub const SLOTS: u32 = 1 << SLOT_BITS;

const SLOT_BITS: u32 = 12;

/// Knuth's multiplicative hashing: 2^32 divided by the golden ratio, which is odd.
const MULTIPLIER: u32 = 0x9e37_79b1;

/// The slot that speaks for an address.
pub fn slot_of<A: Address>(address: A) -> u32 {
    address.fold().wrapping_mul(MULTIPLIER) >> (u32::BITS - SLOT_BITS)
}

/// What is known of the addresses that are mapped to one place. Maps `ENDPOINT_CACHE4` and `ENDPOINT_CACHE6`: [`slot_of`] → slot.
///
/// All zeros: none of them is a pod's. The kernel does not write an array's value in one go: a reader may see some old words and some
/// new ones. It notices by [`is_whole`], or gets a slot that was right just before.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, Immutable)]
pub struct Slot<A> {
    /// Of the only pod; zeros if there is none, or more than one.
    pub address: A,
    pub endpoint: EndpointEntry,
    /// All other words, combined by exclusive or.
    pub check: u32,
}

/// [`EndpointEntry::ifindex`] of an address that no pod of this node has.
pub const NOT_LOCAL: u32 = 0;

/// [`EndpointEntry::ifindex`] where a slot can't tell, and the table has to be asked. The kernel gives it to no interface.
pub const MISS: u32 = u32::MAX;

impl<A: Address> Slot<A> {
    /// For all pods whose addresses are mapped to one slot.
    pub fn of(pods: impl IntoIterator<Item = (A, EndpointEntry)>) -> Self {
        let mut pods = pods.into_iter();
        let (address, endpoint) = match (pods.next(), pods.next()) {
            (None, _) => (A::UNSPECIFIED, EndpointEntry::at(NOT_LOCAL)),
            (Some(only), None) => only,
            _ => (A::UNSPECIFIED, EndpointEntry::at(MISS)),
        };
        Self { address, endpoint, check: check(address, endpoint) }
    }

    /// The pod that has the address; [`EndpointEntry::ifindex`] may be [`NOT_LOCAL`] or [`MISS`]. Of a slot that [`is_whole`].
    #[inline(always)]
    pub fn find(&self, address: A) -> EndpointEntry {
        if self.endpoint.ifindex == MISS || self.address == address {
            self.endpoint
        } else {
            EndpointEntry::at(NOT_LOCAL)
        }
    }
}

/// Whether the words of a slot were written together.
#[inline(always)]
pub fn is_whole(words: &[u32]) -> bool {
    words.iter().fold(0, |all, word| all ^ word) == 0
}

fn check<A: Address>(address: A, endpoint: EndpointEntry) -> u32 {
    let EndpointEntry { ifindex, flags, mac_start, mac_rest } = endpoint;
    let ([a, b], [c, d]) = (flags.0.to_ne_bytes(), mac_start.to_ne_bytes());
    let words = [u32::from_ne_bytes([a, b, c, d]), mac_rest];
    address.to_words().into_iter().chain(words).fold(ifindex, |check, word| check ^ word)
}

const _: () = assert!(size_of::<EndpointEntry>() == 12);
const _: () = assert!(size_of::<Slot<Ipv4>>() == 20 && size_of::<Slot<Ipv6>>() == 32);

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    type Pods = BTreeMap<Ipv4, EndpointEntry>;

    /// Addresses that share a slot.
    fn neighbours() -> Vec<Ipv4> {
        let wanted = slot_of(Ipv4::new(10, 240, 1, 1));
        let all = (0..=u16::MAX).map(|host| host.to_be_bytes()).map(|[c, d]| Ipv4::new(10, 240, c, d));
        all.filter(|address| slot_of(*address) == wanted).take(4).collect()
    }

    fn endpoints() -> impl Strategy<Value = EndpointEntry> {
        (1u32..70_000, any::<bool>(), any::<Mac>()).prop_map(|(ifindex, keeps, mac)| {
            let flags = EndpointFlags::NONE.with_if(EndpointFlags::KEEP_SOURCE, keeps);
            EndpointEntry::at(ifindex).with_flags(flags).with_mac(mac)
        })
    }

    fn slot(pods: &Pods) -> Slot<Ipv4> {
        Slot::of(pods.iter().map(|(address, endpoint)| (*address, *endpoint)))
    }

    fn in_table(pods: &Pods, address: Ipv4) -> EndpointEntry {
        pods.get(&address).copied().unwrap_or(EndpointEntry::at(NOT_LOCAL))
    }

    fn words(slot: Slot<Ipv4>) -> [u32; 5] {
        let [ifindex, third, fourth] = zerocopy::transmute!(slot.endpoint);
        [slot.address.0, ifindex, third, fourth, slot.check]
    }

    fn slot_of_words([address, ifindex, third, fourth, check]: [u32; 5]) -> Slot<Ipv4> {
        Slot { address: Ipv4(address), endpoint: zerocopy::transmute!([ifindex, third, fourth]), check }
    }

    #[test]
    fn addresses_of_a_subnet_have_slots_of_their_own() {
        for subnet in [[10, 240, 0], [192, 168, 255], [172, 16, 7]] {
            let slots: BTreeSet<_> =
                (0..=u8::MAX).map(|host| slot_of(Ipv4::new(subnet[0], subnet[1], subnet[2], host))).collect();
            assert_eq!(slots.len(), 256, "{subnet:?}");
            assert!(slots.iter().all(|slot| *slot < SLOTS));
        }
    }

    #[test]
    fn slot_that_was_never_written_says_not_local() {
        let fresh = Slot { address: Ipv4(0), endpoint: EndpointEntry::at(0), check: 0 };
        assert_eq!(fresh, Slot::of([]));
        assert_eq!(fresh.find(Ipv4::new(10, 240, 1, 1)), EndpointEntry::at(NOT_LOCAL));
    }

    #[test]
    fn link_local_address_is_made_of_the_mac() {
        let expected: std::net::Ipv6Addr = "fe80::0:5eff:fe00:5301".parse().unwrap();
        assert_eq!(link_local([0x02, 0x00, 0x5e, 0x00, 0x53, 0x01]), expected.into());
    }

    proptest! {
        /// Pods come, go and are replaced, one at a time. At every moment, and for a reader who sees any mixture of
        /// old and new words, the slot says what is or was right, or that the table has to be asked.
        #[test]
        fn slot_is_right_or_a_miss(
            changes in prop::collection::vec((0usize..4, prop::option::of(endpoints())), 1..12),
            seen in prop::array::uniform5(any::<bool>()),
        ) {
            let addresses = neighbours();
            let mut pods = Pods::new();
            for (which, change) in changes {
                let before = pods.clone();
                match change {
                    Some(endpoint) => pods.insert(addresses[which], endpoint),
                    None => pods.remove(&addresses[which]),
                };
                let (old, new) = (slot(&before), slot(&pods));
                prop_assert!(is_whole(&words(new)));
                let mut mixed = words(old);
                for (word, _) in seen.iter().enumerate().filter(|(_, seen)| **seen) {
                    mixed[word] = words(new)[word];
                }
                let slot = slot_of_words(mixed);
                for asked in &addresses {
                    let answer = new.find(*asked);
                    prop_assert!(answer == in_table(&pods, *asked) || (answer.ifindex == MISS && pods.len() > 1));
                    let answer = if is_whole(&mixed) { slot.find(*asked) } else { EndpointEntry::at(MISS) };
                    let rights = [in_table(&before, *asked).ifindex, in_table(&pods, *asked).ifindex, MISS];
                    prop_assert!(rights.contains(&answer.ifindex), "{slot:?} between {old:?} and {new:?}");
                    if answer.ifindex != MISS && answer.ifindex != NOT_LOCAL {
                        prop_assert!([in_table(&before, *asked), in_table(&pods, *asked)].contains(&answer));
                    }
                }
            }
        }
    }
}
