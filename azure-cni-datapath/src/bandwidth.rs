//! The limits of pods, by host veth. Only pods that have a limit have an entry.

use std::collections::BTreeMap;

use aya::maps::{HashMap, Map, MapData};
use azure_cni_common::bandwidth::Limits;

use crate::error::DatapathError;
use crate::map::{absent_is_none, in_map, open};
use crate::pins::Pins;

const NAME: &str = "BANDWIDTH";

pub(crate) struct Bandwidth {
    map: HashMap<MapData, u32, Limits>,
}

impl Bandwidth {
    pub fn open(pins: &Pins) -> Result<Self, DatapathError> {
        Ok(Self { map: open(pins, NAME, Map::HashMap)? })
    }

    pub fn get(&self, ifindex: u32) -> Result<Option<Limits>, DatapathError> {
        absent_is_none(self.map.get(&ifindex, 0)).map_err(in_map(NAME))
    }

    /// Leaves limits alone that are like these: their buckets go on.
    pub fn set(&mut self, ifindex: u32, wanted: Limits) -> Result<(), DatapathError> {
        if wanted.limits_like(&Limits::NONE) {
            return self.remove(ifindex);
        }
        match self.get(ifindex)? {
            Some(found) if found.limits_like(&wanted) => Ok(()),
            _ => self.map.insert(ifindex, wanted, 0).map_err(in_map(NAME)),
        }
    }

    /// Succeeds if there is none.
    pub fn remove(&mut self, ifindex: u32) -> Result<(), DatapathError> {
        absent_is_none(self.map.remove(&ifindex)).map(drop).map_err(in_map(NAME))
    }

    pub fn all(&self) -> Result<BTreeMap<u32, Limits>, DatapathError> {
        self.map.iter().collect::<Result<_, _>>().map_err(in_map(NAME))
    }

    /// Removes what an agent has left that was killed.
    pub fn retain(&mut self, is_there: impl Fn(u32) -> bool) -> Result<(), DatapathError> {
        self.all()?.into_keys().filter(|ifindex| !is_there(*ifindex)).try_for_each(|ifindex| self.remove(ifindex))
    }
}
