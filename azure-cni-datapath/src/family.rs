//! The maps of one address family.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard};

use aya::Pod;
use aya::maps::Map;
use azure_cni_common::endpoint::{EndpointEntry, Slot};
use azure_cni_common::flow::{Flow, FlowKey};
use azure_cni_common::nat::{NatHolder, NatKey};

use crate::endpoints::Endpoints;
use crate::error::DatapathError;
use crate::gateway::Gateway;
use crate::map::{MapAddress, lock};
use crate::names::Names;
use crate::pins::Pins;
use crate::pod_flows::PodFlowCounts;
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
    pub pod_flows: PodFlowCounts<A>,
    /// Assured, then half-open, then datagrams that are not assured.
    pub flows: [FlowTable<A>; 3],
    /// Assured, then half-open.
    pub translations: [NatTable<A>; 2],
}

impl<A: MapAddress + Hash> FamilyTables<A>
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
            pod_flows: PodFlowCounts::open(pins, names)?,
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

    pub fn set_endpoint(&self, address: A, endpoint: EndpointEntry) -> Result<(), DatapathError> {
        self.endpoints().set(address, endpoint)?;
        self.pod_flows.begin(address)
    }

    /// Counts the flows of the pods that are known, and of no others: an agent may have been killed after it changed one table.
    pub fn begin_pods(&self) -> Result<(), DatapathError> {
        let endpoints: BTreeMap<_, _> = self.endpoints().all()?.into_iter().collect();
        endpoints.keys().try_for_each(|pod| self.pod_flows.begin(*pod))?;
        let mut gone = self.pod_flows.live()?.into_keys().filter(|pod| !endpoints.contains_key(pod));
        gone.try_for_each(|pod| self.pod_flows.end(pod))
    }

    pub fn remove_endpoint(&self, address: A) -> Result<(), DatapathError> {
        self.endpoints().remove(address)?;
        self.pod_flows.end(address)
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
        let [assured, unassured @ ..] = &self.flows;
        let is_condemned = |key: &FlowKey<A>| condemned(key.low) || condemned(key.high);
        assured.each(|key, flow| {
            removed += usize::from(is_condemned(key) && self.remove_assured(key, flow)?);
            Ok(())
        })?;
        for flows in unassured {
            removed += flows.remove_all(|key, _| is_condemned(key))?;
        }
        for translations in &self.translations {
            removed += translations.remove_all(|_, holder| condemned(holder.address))?;
        }
        Ok(removed)
    }

    /// Removes a flow from the connection table, and counts that. Whether it was there.
    pub fn remove_assured(&self, key: &FlowKey<A>, flow: &Flow) -> Result<bool, DatapathError> {
        let [assured, ..] = &self.flows;
        let was_there = assured.remove(key)?;
        if was_there {
            self.pod_flows.add_swept(*key.address_of(flow.node_side()))?;
        }
        Ok(was_there)
    }

    pub fn fills(&self) -> Result<Vec<TableFill>, DatapathError> {
        let flows = self.flows.iter().map(Table::fill);
        let fills = flows.chain(self.translations.iter().map(Table::fill));
        fills.chain(std::iter::once_with(|| self.routes().fill())).collect()
    }
}
