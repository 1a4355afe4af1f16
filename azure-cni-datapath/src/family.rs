//! The maps of one address family, in the words of the agent.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard};

use aya::Pod;
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, HashMap, IterableMap, LpmTrie, Map, MapData};
use azure_cni_common::egress::RouteClass;
use azure_cni_common::endpoint::Slot;
use azure_cni_common::family::Address;
use azure_cni_common::flow::{Flow, FlowKey};
use azure_cni_common::nat::{NatHolder, NatKey};

use super::batch::{self, Cursor, Piece};
use super::endpoints::Endpoints;
use super::tables::{TableFill, absent_is_none, in_map, lock, max_entries, open};
use super::{DatapathError, Pins};

/// How many entries one system call reads.
const PIECE: usize = 1024;

/// What maps are called where they are pinned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names {
    pub endpoints: &'static str,
    pub endpoint_cache: &'static str,
    pub routes: &'static str,
    pub gateway: &'static str,
    pub flows: &'static str,
    pub half_open: &'static str,
    pub translations: &'static str,
    pub half_open_translations: &'static str,
}

impl Names {
    pub const V4: Self = Self {
        endpoints: "ENDPOINTS4",
        endpoint_cache: "ENDPOINT_CACHE4",
        routes: "ROUTES4",
        gateway: "GATEWAY4",
        flows: "FLOWS4",
        half_open: "HALF_OPEN4",
        translations: "NAT4",
        half_open_translations: "NAT_HALF_OPEN4",
    };
    pub const V6: Self = Self {
        endpoints: "ENDPOINTS6",
        endpoint_cache: "ENDPOINT_CACHE6",
        routes: "ROUTES6",
        gateway: "GATEWAY6",
        flows: "FLOWS6",
        half_open: "HALF_OPEN6",
        translations: "NAT6",
        half_open_translations: "NAT_HALF_OPEN6",
    };
}

/// A table of flows or translations: what is established, or what is waiting for the other side's answer.
pub(super) struct Table<K, V> {
    pub name: &'static str,
    map: Mutex<HashMap<MapData, K, V>>,
    pub max: u32,
}

impl<K: Pod, V: Pod> Table<K, V> {
    fn open(pins: &Pins, name: &'static str, kind: fn(MapData) -> Map) -> Result<Self, DatapathError> {
        Ok(Self { name, map: Mutex::new(open(pins, name, kind)?), max: max_entries(pins, name)? })
    }

    pub fn get(&self, key: &K) -> Result<Option<V>, DatapathError> {
        absent_is_none(lock(&self.map).get(key, 0)).map_err(in_map(self.name))
    }

    pub fn remove(&self, key: &K) -> Result<(), DatapathError> {
        absent_is_none(lock(&self.map).remove(key)).map(drop).map_err(in_map(self.name))
    }

    /// About `wanted` entries from the cursor on.
    pub fn piece(&self, cursor: Cursor, wanted: usize) -> Result<Piece<K, V>, DatapathError> {
        let map = lock(&self.map);
        batch::read_piece(IterableMap::map(&*map).fd().as_fd(), cursor, wanted)
            .map_err(|source| DatapathError::Walk { name: self.name, source })
    }

    /// Shows every entry to `visit`, a piece at a time.
    pub fn each(&self, mut visit: impl FnMut(&K, &V) -> Result<(), DatapathError>) -> Result<(), DatapathError> {
        let mut cursor = Some(Cursor::default());
        while let Some(from) = cursor {
            let piece = self.piece(from, PIECE)?;
            piece.entries.iter().try_for_each(|(key, value)| visit(key, value))?;
            cursor = piece.next;
        }
        Ok(())
    }

    /// Removes what `condemned` says; returns how many those were.
    pub fn remove_all(&self, condemned: impl Fn(&K, &V) -> bool) -> Result<usize, DatapathError> {
        let mut removed = 0;
        self.each(|key, value| {
            if condemned(key, value) {
                self.remove(key)?;
                removed += 1;
            }
            Ok(())
        })?;
        Ok(removed)
    }

    pub fn fill(&self) -> Result<TableFill, DatapathError> {
        let mut used = 0;
        self.each(|_, _| {
            used += 1;
            Ok(())
        })?;
        Ok(TableFill { name: self.name, used, max: self.max.into() })
    }
}

pub(super) type FlowTable<A> = Table<FlowKey<A>, Flow>;
pub(super) type NatTable<A> = Table<NatKey<A>, NatHolder<A>>;

/// An address as maps hold it.
pub(super) trait MapAddress: Address + Pod {}
impl<A: Address + Pod> MapAddress for A {}

pub(super) struct FamilyTables<A: MapAddress>
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
    /// Assured, then half-open.
    pub flows: [FlowTable<A>; 2],
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

    /// The prefixes of this class, with their lengths in bits.
    pub fn routes_of(&self, class: RouteClass) -> Result<Vec<(A, u32)>, DatapathError> {
        let routes: Result<Vec<_>, _> = lock(&self.routes).iter().collect();
        let routes = routes.map_err(in_map(self.names.routes))?.into_iter();
        Ok(routes.filter(|(_, of)| *of == class).map(|(key, _)| (key.data(), key.prefix_len())).collect())
    }

    /// Makes the route table hold exactly these prefixes. Prefixes that stay are never absent in between.
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

    /// The unspecified address: none. Whether it is another than before.
    pub fn set_gateway(&self, router: A) -> Result<bool, DatapathError> {
        let mut gateway = lock(&self.gateway);
        let before = gateway.get(&0, 0).map_err(in_map(self.names.gateway))?;
        if before == router {
            return Ok(false);
        }
        gateway.set(0, router, 0).map_err(in_map(self.names.gateway))?;
        Ok(true)
    }

    /// Forgets every flow and translation of these addresses.
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
