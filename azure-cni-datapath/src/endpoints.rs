//! The endpoints of one address family: the table, and the cache in front of it that the programs read first.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use aya::Pod;
use aya::maps::{Array, HashMap, IterableMap, Map, MapData};
use azure_cni_common::endpoint::{EndpointEntry, Slot, slot_of};

use crate::batch::{self, Cursor};
use crate::error::DatapathError;
use crate::map::{MapAddress, absent_is_none, in_map, open};
use crate::names::Names;
use crate::pins::Pins;

/// How many slots one system call reads.
const PIECE: usize = 1024;

/// The order of changes: a pod comes into the table first, and leaves it last. So a slot never has a pod that the table has
/// not.
pub(crate) struct Endpoints<A: MapAddress>
where
    Slot<A>: Pod,
{
    names: Names,
    table: HashMap<MapData, A, EndpointEntry>,
    cache: Array<MapData, Slot<A>>,
    /// The table's entries, by the slot that their address is mapped to.
    by_slot: BTreeMap<u32, BTreeMap<A, EndpointEntry>>,
}

impl<A: MapAddress> Endpoints<A>
where
    Slot<A>: Pod,
{
    /// Writes the whole cache from the table: an agent may have been killed after it changed one of them.
    pub fn open(pins: &Pins, names: Names) -> Result<Self, DatapathError> {
        let table = open(pins, names.endpoints, Map::HashMap)?;
        let cache = open(pins, names.endpoint_cache, Map::Array)?;
        let mut endpoints = Self { names, table, cache, by_slot: BTreeMap::new() };
        for (address, endpoint) in endpoints.all()? {
            endpoints.by_slot.entry(slot_of(address)).or_default().insert(address, endpoint);
        }
        endpoints.repair_cache()?;
        Ok(endpoints)
    }

    /// Writes the slots that are not as the pods say. Returns how many there were.
    pub fn repair_cache(&mut self) -> Result<usize, DatapathError> {
        let mut wrong = Vec::new();
        self.each_slot(|slot, found| {
            if found != self.wanted(slot) {
                wrong.push(slot);
            }
        })?;
        wrong.iter().try_for_each(|slot| self.write(*slot))?;
        Ok(wrong.len())
    }

    fn each_slot(&self, mut visit: impl FnMut(u32, Slot<A>)) -> Result<(), DatapathError> {
        let failed = |source| DatapathError::Walk { name: self.names.endpoint_cache, source };
        let mut cursor = Some(Cursor::default());
        while let Some(from) = cursor {
            let cache = IterableMap::map(&self.cache).fd().as_fd();
            let piece = batch::read_piece::<u32, Slot<A>>(cache, from, PIECE).map_err(failed)?;
            piece.entries.into_iter().for_each(|(slot, found)| visit(slot, found));
            cursor = piece.next;
        }
        Ok(())
    }

    /// Whether there is room for pods: without IPv6, its maps have none.
    fn expect_present(&self) -> Result<(), DatapathError> {
        if self.cache.len() > 1 { Ok(()) } else { Err(DatapathError::NoIpv6) }
    }

    pub fn set(&mut self, address: A, endpoint: EndpointEntry) -> Result<(), DatapathError> {
        self.expect_present()?;
        self.table.insert(address, endpoint, 0).map_err(in_map(self.names.endpoints))?;
        let slot = slot_of(address);
        self.by_slot.entry(slot).or_default().insert(address, endpoint);
        self.write(slot)
    }

    pub fn get(&self, address: A) -> Result<Option<EndpointEntry>, DatapathError> {
        absent_is_none(self.table.get(&address, 0)).map_err(in_map(self.names.endpoints))
    }

    /// Whether a pod behind this host veth has an address.
    pub fn has(&self, ifindex: u32) -> bool {
        self.by_slot.values().flat_map(BTreeMap::values).any(|endpoint| endpoint.ifindex == ifindex)
    }

    /// Succeeds if the address is not there.
    pub fn remove(&mut self, address: A) -> Result<(), DatapathError> {
        let slot = slot_of(address);
        if let Some(pods) = self.by_slot.get_mut(&slot) {
            pods.remove(&address);
        }
        if self.expect_present().is_ok() {
            self.write(slot)?;
        }
        absent_is_none(self.table.remove(&address)).map(drop).map_err(in_map(self.names.endpoints))
    }

    pub fn all(&self) -> Result<Vec<(A, EndpointEntry)>, DatapathError> {
        self.table.iter().collect::<Result<_, _>>().map_err(in_map(self.names.endpoints))
    }

    fn wanted(&self, slot: u32) -> Slot<A> {
        let pods = self.by_slot.get(&slot).into_iter().flatten();
        Slot::of(pods.map(|(address, endpoint)| (*address, *endpoint)))
    }

    fn write(&mut self, slot: u32) -> Result<(), DatapathError> {
        let wanted = self.wanted(slot);
        self.cache.set(slot, wanted, 0).map_err(in_map(self.names.endpoint_cache))
    }
}
