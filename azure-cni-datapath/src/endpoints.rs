//! The endpoints of one address family: the table, and the cache in front of it that the programs read first.

use std::collections::BTreeMap;

use aya::Pod;
use aya::maps::{Array, HashMap, Map, MapData};
use azure_cni_common::endpoint::{EndpointEntry, SLOTS, Slot, slot_of};

use crate::error::DatapathError;
use crate::map::{MapAddress, absent_is_none, in_map, open};
use crate::names::Names;
use crate::pins::Pins;

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
        (0..SLOTS).try_for_each(|slot| endpoints.write(slot))?;
        Ok(endpoints)
    }

    pub fn set(&mut self, address: A, endpoint: EndpointEntry) -> Result<(), DatapathError> {
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
        self.write(slot)?;
        absent_is_none(self.table.remove(&address)).map(drop).map_err(in_map(self.names.endpoints))
    }

    pub fn all(&self) -> Result<Vec<(A, EndpointEntry)>, DatapathError> {
        self.table.iter().collect::<Result<_, _>>().map_err(in_map(self.names.endpoints))
    }

    fn write(&mut self, slot: u32) -> Result<(), DatapathError> {
        let pods = self.by_slot.get(&slot).into_iter().flatten();
        let wanted = Slot::of(pods.map(|(address, endpoint)| (*address, *endpoint)));
        self.cache.set(slot, wanted, 0).map_err(in_map(self.names.endpoint_cache))
    }
}
