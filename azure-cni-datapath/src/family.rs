//! The maps of one address family.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use aya::Pod;
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, LpmTrie, Map, MapData};
use azure_cni_common::egress::RouteClass;
use azure_cni_common::endpoint::Slot;
use azure_cni_common::flow::FlowKey;
use azure_cni_common::nat::{NatHolder, NatKey};

use crate::endpoints::Endpoints;
use crate::error::DatapathError;
use crate::map::{MapAddress, absent_is_none, in_map, lock, open};
use crate::names::Names;
use crate::pins::Pins;
use crate::table::{FlowTable, NatTable, Table, TableFill};

pub(crate) struct FamilyTables<A: MapAddress>
where
    FlowKey<A>: Pod,
    NatKey<A>: Pod,
    NatHolder<A>: Pod,
    Slot<A>: Pod,
{
    names: Names,
    /// The address that translated flows leave from.
    pub node: A,
    endpoints: Mutex<Endpoints<A>>,
    routes: Mutex<LpmTrie<MapData, A, RouteClass>>,
    gateway: Mutex<Array<MapData, A>>,
    /// Assured, then half-open, then datagrams that are not assured.
    pub flows: [FlowTable<A>; 3],
    /// Assured, then half-open.
    pub translations: [NatTable<A>; 2],
}

impl<A: MapAddress> FamilyTables<A>
where
    FlowKey<A>: Pod,
    NatKey<A>: Pod,
    NatHolder<A>: Pod,
    Slot<A>: Pod,
{
    pub fn open(pins: &Pins, names: Names, node: A) -> Result<Self, DatapathError> {
        Ok(Self {
            names,
            node,
            endpoints: Mutex::new(Endpoints::open(pins, names)?),
            routes: Mutex::new(open(pins, names.routes, Map::LpmTrie)?),
            gateway: Mutex::new(open(pins, names.gateway, Map::Array)?),
            flows: [
                Table::open(pins, names.flows, Map::HashMap)?,
                Table::open(pins, names.half_open, Map::LruHashMap)?,
                Table::open(pins, names.datagrams, Map::LruHashMap)?,
            ],
            translations: [
                Table::open(pins, names.translations, Map::HashMap)?,
                Table::open(pins, names.half_open_translations, Map::LruHashMap)?,
            ],
        })
    }

    pub fn endpoints(&self) -> MutexGuard<'_, Endpoints<A>> {
        lock(&self.endpoints)
    }

    /// The prefixes that have this class, with their lengths in bits.
    pub fn routes_of(&self, class: RouteClass) -> Result<Vec<(A, u32)>, DatapathError> {
        let routes: Result<Vec<_>, _> = lock(&self.routes).iter().collect();
        let routes = routes.map_err(in_map(self.names.routes))?.into_iter();
        Ok(routes.filter(|(_, of)| *of == class).map(|(key, _)| (key.data(), key.prefix_len())).collect())
    }

    /// Makes the route table hold exactly these prefixes. A prefix that stays is never absent meanwhile.
    pub fn set_routes(&self, wanted: &BTreeMap<(u32, A), RouteClass>) -> Result<(), DatapathError> {
        let mut routes = lock(&self.routes);
        for ((length, address), class) in wanted {
            routes.insert(&Key::new(*length, *address), class, 0).map_err(in_map(self.names.routes))?;
        }
        let present: Result<Vec<_>, _> = routes.keys().collect();
        for key in present.map_err(in_map(self.names.routes))? {
            if !wanted.contains_key(&(key.prefix_len(), key.data())) {
                absent_is_none(routes.remove(&key)).map_err(in_map(self.names.routes))?;
            }
        }
        Ok(())
    }

    /// Sets the router; the unspecified address means none. Returns whether it has changed.
    pub fn set_gateway(&self, router: A) -> Result<bool, DatapathError> {
        let mut gateway = lock(&self.gateway);
        let before = gateway.get(&0, 0).map_err(in_map(self.names.gateway))?;
        if before == router {
            return Ok(false);
        }
        gateway.set(0, router, 0).map_err(in_map(self.names.gateway))?;
        Ok(true)
    }

    /// Removes every flow and translation of these addresses; returns their number.
    pub fn scrub(&self, condemned: impl Fn(A) -> bool) -> Result<usize, DatapathError> {
        let mut removed = 0;
        for flows in &self.flows {
            removed += flows.remove_all(|key, _| condemned(key.low) || condemned(key.high))?;
        }
        for translations in &self.translations {
            removed += translations.remove_all(|_, holder| condemned(holder.address))?;
        }
        Ok(removed)
    }

    pub fn fills(&self) -> Result<Vec<TableFill>, DatapathError> {
        let flows = self.flows.iter().map(Table::fill);
        flows.chain(self.translations.iter().map(Table::fill)).collect()
    }
}
