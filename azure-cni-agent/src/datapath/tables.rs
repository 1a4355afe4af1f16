//! The maps, in the words of the agent.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use aya::maps::lpm_trie::Key;
use aya::maps::{HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray};
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::family::Ipv4;
use azure_cni_common::flow::{Flow, FlowKey};
use azure_cni_common::layout::{Endpoint, NatHolder, NatKey, RouteClass};
use ipnet::Ipv4Net;

use super::{DatapathError, Pins};

type EndpointMap = HashMap<MapData, Ipv4, Endpoint>;
type RouteMap = LpmTrie<MapData, Ipv4, RouteClass>;
type FlowMap = HashMap<MapData, FlowKey<Ipv4>, Flow>;
type NatMap = HashMap<MapData, NatKey<Ipv4>, NatHolder<Ipv4>>;

/// How many packets were dropped for a reason.
#[derive(Debug, Clone)]
pub struct DropCounter {
    pub reason: DropReason,
    /// One element per possible CPU.
    pub per_cpu: Vec<u64>,
}

/// All maps of the data path. Each is locked on its own, for one system call at a time.
pub struct Tables {
    endpoints: Mutex<EndpointMap>,
    routes: Mutex<RouteMap>,
    pub(super) flows: Mutex<FlowMap>,
    pub(super) translations: Mutex<NatMap>,
    drops: Mutex<PerCpuArray<MapData, u64>>,
    max_flows: u32,
}

impl Tables {
    pub(super) fn open(pins: &Pins) -> Result<Self, DatapathError> {
        let flows: FlowMap = open(pins, "FLOWS4", Map::HashMap)?;
        let max_flows = max_entries(pins, "FLOWS4")?;
        Ok(Self {
            endpoints: Mutex::new(open(pins, "ENDPOINTS4", Map::HashMap)?),
            routes: Mutex::new(open(pins, "ROUTES4", Map::LpmTrie)?),
            flows: Mutex::new(flows),
            translations: Mutex::new(open(pins, "NAT4", Map::HashMap)?),
            drops: Mutex::new(open(pins, "DROPS", Map::PerCpuArray)?),
            max_flows,
        })
    }

    pub fn set_endpoint(&self, address: Ipv4Addr, ifindex: u32) -> Result<(), DatapathError> {
        let endpoint = Endpoint { ifindex, flags: 0 };
        lock(&self.endpoints).insert(Ipv4::from(address), endpoint, 0).map_err(in_map("ENDPOINTS4"))
    }

    /// The host veth's index that packets for the address are sent to.
    pub fn endpoint(&self, address: Ipv4Addr) -> Result<Option<u32>, DatapathError> {
        let found = absent_is_none(lock(&self.endpoints).get(&Ipv4::from(address), 0)).map_err(in_map("ENDPOINTS4"))?;
        Ok(found.map(|endpoint| endpoint.ifindex))
    }

    /// An address that is not there is no error.
    pub fn remove_endpoint(&self, address: Ipv4Addr) -> Result<(), DatapathError> {
        absent_is_none(lock(&self.endpoints).remove(&Ipv4::from(address))).map_err(in_map("ENDPOINTS4"))?;
        Ok(())
    }

    pub fn endpoint_addresses(&self) -> Result<Vec<Ipv4Addr>, DatapathError> {
        let keys: Result<Vec<Ipv4>, _> = lock(&self.endpoints).keys().collect();
        Ok(keys.map_err(in_map("ENDPOINTS4"))?.into_iter().map(Ipv4Addr::from).collect())
    }

    /// Makes the route table hold exactly these prefixes. Prefixes that stay are never absent in between.
    pub fn set_routes(&self, wanted: &BTreeMap<Ipv4Net, RouteClass>) -> Result<(), DatapathError> {
        let mut routes = lock(&self.routes);
        for (prefix, class) in wanted {
            routes.insert(&route_key(*prefix), class, 0).map_err(in_map("ROUTES4"))?;
        }
        let present: Result<Vec<_>, _> = routes.keys().collect();
        for key in present.map_err(in_map("ROUTES4"))? {
            let prefix = Ipv4Net::new_assert(key.data().into(), key.prefix_len() as u8);
            if !wanted.contains_key(&prefix) {
                absent_is_none(routes.remove(&key)).map_err(in_map("ROUTES4"))?;
            }
        }
        Ok(())
    }

    pub fn drops(&self) -> Result<Vec<DropCounter>, DatapathError> {
        let drops = lock(&self.drops);
        DropReason::ALL
            .iter()
            .map(|reason| {
                let per_cpu = drops.get(&reason.number(), 0).map_err(in_map("DROPS"))?.to_vec();
                Ok(DropCounter { reason: *reason, per_cpu })
            })
            .collect()
    }

    /// Entries of the connection table, expired ones that are not swept yet included.
    pub fn count_flows(&self) -> Result<usize, DatapathError> {
        lock(&self.flows).keys().try_fold(0, |count, key| key.map(|_| count + 1)).map_err(in_map("FLOWS4"))
    }

    /// Entries the connection table can hold.
    pub fn max_flows(&self) -> u32 {
        self.max_flows
    }

    /// Forgets every flow and translation of an address, so that its next holder receives nothing of theirs.
    pub fn scrub(&self, address: IpAddr) -> Result<usize, DatapathError> {
        let IpAddr::V4(address) = address else { return Ok(0) };
        let address = Ipv4::from(address);
        let of_flows = self.remove_flows(|key, _| key.low == address || key.high == address)?;
        let of_translations = self.remove_translations(|_, holder| holder.address == address)?;
        Ok(of_flows + of_translations)
    }

    pub(super) fn remove_flows(
        &self,
        condemned: impl Fn(&FlowKey<Ipv4>, &Flow) -> bool,
    ) -> Result<usize, DatapathError> {
        let mut flows = lock(&self.flows);
        // Keys first: removing while walking makes the kernel start the walk over (kernel/bpf/hashtab.c).
        let keys: Vec<FlowKey<Ipv4>> = flows
            .iter()
            .filter_map(Result::ok)
            .filter(|(key, flow)| condemned(key, flow))
            .map(|(key, _)| key)
            .collect();
        for key in &keys {
            absent_is_none(flows.remove(key)).map_err(in_map("FLOWS4"))?;
        }
        Ok(keys.len())
    }

    pub(super) fn remove_translations(
        &self,
        condemned: impl Fn(&NatKey<Ipv4>, &NatHolder<Ipv4>) -> bool,
    ) -> Result<usize, DatapathError> {
        let mut translations = lock(&self.translations);
        let keys: Vec<NatKey<Ipv4>> = translations
            .iter()
            .filter_map(Result::ok)
            .filter(|(key, holder)| condemned(key, holder))
            .map(|(key, _)| key)
            .collect();
        for key in &keys {
            absent_is_none(translations.remove(key)).map_err(in_map("NAT4"))?;
        }
        Ok(keys.len())
    }
}

fn route_key(prefix: Ipv4Net) -> Key<Ipv4> {
    Key::new(u32::from(prefix.prefix_len()), Ipv4::from(prefix.network()))
}

fn open<T>(pins: &Pins, name: &'static str, kind: fn(MapData) -> Map) -> Result<T, DatapathError>
where
    T: TryFrom<Map, Error = MapError>,
{
    MapData::from_pin(pins.map(name)).and_then(|data| T::try_from(kind(data))).map_err(in_map(name))
}

fn max_entries(pins: &Pins, name: &'static str) -> Result<u32, DatapathError> {
    MapData::from_pin(pins.map(name)).and_then(|data| data.info()).map(|info| info.max_entries()).map_err(in_map(name))
}

fn in_map(name: &'static str) -> impl Fn(MapError) -> DatapathError {
    move |source| DatapathError::Map { name, source: Box::new(source) }
}

fn absent_is_none<T>(result: Result<T, MapError>) -> Result<Option<T>, MapError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A thread that panicked between two system calls has left no map half changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
