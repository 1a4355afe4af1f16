//! One table of flows or translations.

use std::os::fd::AsFd;
use std::sync::Mutex;

use aya::Pod;
use aya::maps::{HashMap, IterableMap, Map, MapData};
use azure_cni_common::flow::{Flow, FlowKey};
use azure_cni_common::nat::{NatHolder, NatKey};

use crate::batch::{self, Cursor, Piece};
use crate::error::DatapathError;
use crate::map::{absent_is_none, in_map, lock, max_entries, open};
use crate::pins::Pins;

/// How many entries one system call reads.
const PIECE: usize = 1024;

/// How full a table is. Entries that have expired and are not swept yet count as used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableFill {
    /// Of the map.
    pub name: &'static str,
    pub used: u64,
    pub max: u64,
}

/// A table of flows or translations, assured or half-open ones.
pub(crate) struct Table<K, V> {
    pub name: &'static str,
    map: Mutex<HashMap<MapData, K, V>>,
    pub max: u32,
}

impl<K: Pod, V: Pod> Table<K, V> {
    pub fn open(pins: &Pins, name: &'static str, kind: fn(MapData) -> Map) -> Result<Self, DatapathError> {
        Ok(Self { name, map: Mutex::new(open(pins, name, kind)?), max: max_entries(pins, name)? })
    }

    pub fn get(&self, key: &K) -> Result<Option<V>, DatapathError> {
        absent_is_none(lock(&self.map).get(key, 0)).map_err(in_map(self.name))
    }

    /// Whether it was there.
    pub fn remove(&self, key: &K) -> Result<bool, DatapathError> {
        absent_is_none(lock(&self.map).remove(key)).map(|removed| removed.is_some()).map_err(in_map(self.name))
    }

    /// Reads about `wanted` entries from the cursor on.
    pub fn piece(&self, cursor: Cursor, wanted: usize) -> Result<Piece<K, V>, DatapathError> {
        let map = lock(&self.map);
        batch::read_piece(IterableMap::map(&*map).fd().as_fd(), cursor, wanted)
            .map_err(|source| DatapathError::Walk { name: self.name, source })
    }

    /// Calls `visit` for every entry; reads a piece at a time.
    pub fn each(&self, mut visit: impl FnMut(&K, &V) -> Result<(), DatapathError>) -> Result<(), DatapathError> {
        let mut cursor = Some(Cursor::default());
        while let Some(from) = cursor {
            let piece = self.piece(from, PIECE)?;
            piece.entries.iter().try_for_each(|(key, value)| visit(key, value))?;
            cursor = piece.next;
        }
        Ok(())
    }

    /// Removes the entries that `condemned` is true for; returns their number.
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

pub(crate) type FlowTable<A> = Table<FlowKey<A>, Flow>;
pub(crate) type NatTable<A> = Table<NatKey<A>, NatHolder<A>>;
