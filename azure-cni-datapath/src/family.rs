//! The maps of one address family.

use std::sync::{Mutex, MutexGuard};

use aya::Pod;
use aya::maps::Map;
use azure_cni_common::endpoint::Slot;
use azure_cni_common::flow::FlowKey;
use azure_cni_common::nat::{NatHolder, NatKey};

use crate::endpoints::Endpoints;
use crate::error::DatapathError;
use crate::gateway::Gateway;
use crate::map::{MapAddress, lock};
use crate::names::Names;
use crate::pins::Pins;
use crate::routes::Routes;
use crate::table::{FlowTable, NatTable, Table, TableFill};

pub(crate) struct FamilyTables<A: MapAddress>
where
    FlowKey<A>: Pod,
    NatKey<A>: Pod,
    NatHolder<A>: Pod,
    Slot<A>: Pod,
{
    /// The address that translated flows leave from.
    pub node: A,
    endpoints: Mutex<Endpoints<A>>,
    routes: Mutex<Routes<A>>,
    gateway: Mutex<Gateway<A>>,
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
            node,
            endpoints: Mutex::new(Endpoints::open(pins, names)?),
            routes: Mutex::new(Routes::open(pins, names.routes)?),
            gateway: Mutex::new(Gateway::open(pins, names.gateway)?),
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

    pub fn routes(&self) -> MutexGuard<'_, Routes<A>> {
        lock(&self.routes)
    }

    pub fn gateway(&self) -> MutexGuard<'_, Gateway<A>> {
        lock(&self.gateway)
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
        let fills = flows.chain(self.translations.iter().map(Table::fill));
        fills.chain(std::iter::once_with(|| self.routes().fill())).collect()
    }
}
