//! The route table of one address family: which destinations are not the Internet.

use std::collections::{BTreeMap, BTreeSet};

use aya::maps::lpm_trie::Key;
use aya::maps::{LpmTrie, Map, MapData, MapError};
use azure_cni_common::egress::RouteClass;

use crate::error::DatapathError;
use crate::map::{MapAddress, absent_is_none, in_map, max_entries, open};
use crate::pins::Pins;
use crate::table::TableFill;

/// Length in bits, and address.
pub(crate) type Prefix<A> = (u32, A);

pub(crate) struct Routes<A: MapAddress> {
    name: &'static str,
    map: LpmTrie<MapData, A, RouteClass>,
    max: u32,
    /// What this agent has written.
    published: Option<BTreeMap<Prefix<A>, RouteClass>>,
    left_out: usize,
}

/// What came of bringing the route table in line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RouteSync {
    /// Prefixes that were not as this agent had written them.
    pub repaired: usize,
    /// Prefixes that the table has no room for.
    pub left_out: usize,
}

impl<A: MapAddress> Routes<A> {
    pub fn open(pins: &Pins, name: &'static str) -> Result<Self, DatapathError> {
        let map = open(pins, name, Map::LpmTrie)?;
        Ok(Self { name, map, max: max_entries(pins, name)?, published: None, left_out: 0 })
    }

    /// The prefixes that have this class.
    pub fn of(&self, class: RouteClass) -> Result<Vec<Prefix<A>>, DatapathError> {
        Ok(self.present()?.into_iter().filter(|(_, of)| *of == class).map(|(prefix, _)| prefix).collect())
    }

    pub fn fill(&self) -> Result<TableFill, DatapathError> {
        Ok(TableFill { name: self.name, used: self.present()?.len() as u64, max: self.max.into() })
    }

    /// Makes the table hold exactly these prefixes, and writes only where it does not. A prefix that stays is never absent
    /// meanwhile. If there is no room for all, those go without that do the least harm, see [`rank`].
    pub fn set(&mut self, wanted: BTreeMap<Prefix<A>, RouteClass>) -> Result<RouteSync, DatapathError> {
        let present = self.present()?;
        let repaired = self.published.as_ref().map_or(0, |published| differences(published, &present));
        let kept = fitting(&wanted, self.max as usize);
        // Those that go make room, where there is none.
        if kept.iter().filter(|(prefix, _)| !present.contains_key(prefix)).count() + present.len() > self.max as usize {
            self.remove_all_but(&kept, &present)?;
        }
        for (prefix @ (length, address), class) in &kept {
            if present.get(prefix) != Some(class) {
                self.map.insert(&Key::new(*length, *address), *class, 0).map_err(in_map(self.name))?;
            }
        }
        self.remove_all_but(&kept, &present)?;
        self.left_out = wanted.len() - kept.len();
        self.published = Some(kept);
        Ok(RouteSync { repaired, left_out: self.left_out })
    }

    /// How many prefixes there is room for.
    pub fn room(&self) -> usize {
        self.max as usize
    }

    /// Prefixes that there was no room for at the last time.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    fn remove_all_but(
        &mut self,
        kept: &BTreeMap<Prefix<A>, RouteClass>,
        present: &BTreeMap<Prefix<A>, RouteClass>,
    ) -> Result<(), DatapathError> {
        for (length, address) in present.keys().filter(|prefix| !kept.contains_key(prefix)) {
            absent_is_none(self.map.remove(&Key::new(*length, *address))).map_err(in_map(self.name))?;
        }
        Ok(())
    }

    fn present(&self) -> Result<BTreeMap<Prefix<A>, RouteClass>, DatapathError> {
        let present = self.map.iter().map(|entry| entry.map(|(key, class)| ((key.prefix_len(), key.data()), class)));
        present.collect::<Result<_, MapError>>().map_err(in_map(self.name))
    }
}

/// How many prefixes are not the same in both.
fn differences<A: MapAddress>(one: &BTreeMap<Prefix<A>, RouteClass>, other: &BTreeMap<Prefix<A>, RouteClass>) -> usize {
    let prefixes: BTreeSet<_> = one.keys().chain(other.keys()).collect();
    prefixes.into_iter().filter(|prefix| one.get(prefix) != other.get(prefix)).count()
}

/// What there is room for: by rank, and within one the shortest prefixes first.
fn fitting<A: MapAddress>(wanted: &BTreeMap<Prefix<A>, RouteClass>, room: usize) -> BTreeMap<Prefix<A>, RouteClass> {
    let mut ranked: Vec<_> = wanted.iter().map(|(prefix, class)| (*prefix, *class)).collect();
    ranked.sort_by_key(|(_, class)| rank(*class));
    ranked.truncate(room);
    ranked.into_iter().collect()
}

/// Without the platform's and the host's routes nothing works on the node. Without one by the host, a service or a network behind the
/// host is not reached; without one of the VNet, its destinations are, and see the node's address; without one of the pool, a packet
/// to nobody leaves the node.
fn rank(class: RouteClass) -> u8 {
    match class {
        RouteClass::PLATFORM => 0,
        RouteClass::HOST => 1,
        RouteClass::VNET_BY_HOST | RouteClass::INTERNET_BY_HOST | RouteClass::POOL_BY_HOST => 2,
        RouteClass::VNET => 3,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use azure_cni_common::family::Ipv4;

    use super::*;

    fn prefix(length: u32, host: u8) -> Prefix<Ipv4> {
        (length, Ipv4::new(10, 0, 0, host))
    }

    #[test]
    fn what_there_is_no_room_for_does_the_least_harm_and_has_the_longest_prefixes() {
        let by_harm = [
            (prefix(32, 3), RouteClass::PLATFORM),
            (prefix(32, 2), RouteClass::HOST),
            (prefix(32, 5), RouteClass::VNET_BY_HOST),
            (prefix(32, 6), RouteClass::INTERNET_BY_HOST),
            (prefix(32, 7), RouteClass::POOL_BY_HOST),
            (prefix(8, 0), RouteClass::VNET),
            (prefix(32, 1), RouteClass::VNET),
            (prefix(24, 0), RouteClass::POOL),
            (prefix(32, 4), RouteClass::POOL),
        ];
        for room in 0..=by_harm.len() {
            let kept: BTreeMap<_, _> = by_harm[..room].iter().copied().collect();
            assert_eq!(fitting(&BTreeMap::from(by_harm), room), kept, "room for {room}");
        }
    }

    #[test]
    fn a_prefix_of_one_side_or_of_another_class_is_a_difference() {
        let (vnet, host) = (RouteClass::VNET, RouteClass::HOST);
        let one = BTreeMap::from([(prefix(8, 0), vnet), (prefix(32, 1), vnet), (prefix(32, 2), vnet)]);
        let other = BTreeMap::from([(prefix(8, 0), vnet), (prefix(32, 1), host), (prefix(32, 3), vnet)]);
        assert_eq!((differences(&one, &other), differences(&one, &one)), (3, 0));
    }
}
