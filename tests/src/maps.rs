//! The maps of a VM's data path, read from their pins and not through the agent, so that tests can check the agent.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    time::Duration,
};

use aya::{
    Pod,
    maps::{Array, HashMap, Map, MapData, MapError},
};
use azure_cni_common::{
    ABI,
    bandwidth::Limits,
    endpoint::{EndpointEntry, Slot, slot_of},
    family::{Address, Ipv4, Ipv6},
    flow::{Flow, FlowKey},
    nat::{NatHolder, NatKey},
};

use nix::time::{ClockId, clock_gettime};

use crate::{
    error::{Attempt, Error, Result},
    station::IpVersion,
    station::Station,
    vm::Vm,
};

/// What one version of IP has. Tables of what is half-open make room for the new by themselves (LRU).
struct Names {
    endpoints: &'static str,
    flows: [(&'static str, Kind); 3],
    translations: [(&'static str, Kind); 2],
}

const V4: Names = Names {
    endpoints: "ENDPOINTS4",
    flows: [("FLOWS4", Map::HashMap), ("HALF_OPEN4", Map::LruHashMap), ("DATAGRAMS4", Map::LruHashMap)],
    translations: [("NAT4", Map::HashMap), ("NAT_HALF_OPEN4", Map::LruHashMap)],
};
const V6: Names = Names {
    endpoints: "ENDPOINTS6",
    flows: [("FLOWS6", Map::HashMap), ("HALF_OPEN6", Map::LruHashMap), ("DATAGRAMS6", Map::LruHashMap)],
    translations: [("NAT6", Map::HashMap), ("NAT_HALF_OPEN6", Map::LruHashMap)],
};

const BANDWIDTH: &str = "BANDWIDTH";

type Kind = fn(MapData) -> Map;

impl Vm {
    /// Where the agent pins, below the number of the layout: `maps`, `programs`, `links`.
    pub fn pins(&self, kind: &str) -> PathBuf {
        self.bpffs_dir().join(format!("abi{ABI}")).join(kind)
    }

    /// Removes a pod from the data path that the agent knows.
    pub fn forget_in_data_path(&self, pod: Ipv4Addr) -> Result<()> {
        let mut endpoints = open::<Ipv4, EndpointEntry>(self, V4.endpoints, Map::HashMap)?;
        endpoints.remove(&Ipv4::from(pod)).map_err(in_map(self, V4.endpoints))
    }

    /// Adds a pod to the data path that the agent does not know.
    pub fn plant_in_data_path(&self, pod: Ipv4Addr, ifindex: u32) -> Result<()> {
        let mut endpoints = open::<Ipv4, EndpointEntry>(self, V4.endpoints, Map::HashMap)?;
        let endpoint = EndpointEntry::at(ifindex);
        endpoints.insert(Ipv4::from(pod), endpoint, 0).map_err(in_map(self, V4.endpoints))
    }

    /// The limits of pods, by the index of the host veth.
    pub fn limits(&self) -> Result<BTreeMap<u32, Limits>> {
        Ok(entries::<u32, Limits>(self, BANDWIDTH, Map::HashMap)?.into_iter().collect())
    }

    /// Removes the limits of all pods from the data path.
    pub fn forget_limits(&self) -> Result<()> {
        let mut limits = open::<u32, Limits>(self, BANDWIDTH, Map::HashMap)?;
        self.limits()?.into_keys().try_for_each(|index| limits.remove(&index)).map_err(in_map(self, BANDWIDTH))
    }

    /// For how many seconds each assured flow is remembered, if nothing more of it is seen.
    pub fn assured_flow_secs(&self, version: IpVersion) -> Result<Vec<u64>> {
        let flows: Vec<Flow> = match version {
            IpVersion::V4 => values::<FlowKey<Ipv4>, Flow>(self, V4.flows[0])?,
            IpVersion::V6 => values::<FlowKey<Ipv6>, Flow>(self, V6.flows[0])?,
        };
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).attempt(|| "ask for the time".to_owned())?;
        let now_ns = Duration::from(now).as_nanos() as u64;
        Ok(flows.iter().map(|flow| flow.expires_ns.saturating_sub(now_ns) / 1_000_000_000).collect())
    }

    /// Writes zeros over what the programs read of a pod.
    pub fn zero_endpoint_cache(&self, pod: IpAddr) -> Result<()> {
        const CACHE: &str = "ENDPOINT_CACHE4";
        let IpAddr::V4(pod) = pod else { panic!("{pod} is of IPv6") };
        let opened =
            MapData::from_pin(self.pins("maps").join(CACHE)).and_then(|data| Array::try_from(Map::Array(data)));
        let written = opened.and_then(|mut cache| cache.set(slot_of(Ipv4::from(pod)), Slot::<Ipv4>::of([]), 0));
        written.map_err(in_map(self, CACHE))
    }

    /// Everything that the data path holds about addresses of the pool, one line each. A VM whose data path was never
    /// loaded has nothing.
    pub(crate) fn pool_in_maps(&self) -> Result<Vec<String>> {
        if !self.pins("maps").exists() {
            return Ok(Vec::new());
        }
        let of_v4 = |address: Ipv4| Ipv4Addr::from(address).into();
        let of_v6 = |address: Ipv6| Ipv6Addr::from(address).into();
        let limits = self.limits()?.into_keys().map(|index| format!("{BANDWIDTH} interface {index}")).collect();
        Ok([self.pool_in_maps_of(&V4, of_v4)?, self.pool_in_maps_of(&V6, of_v6)?, limits].concat())
    }

    fn pool_in_maps_of<A>(&self, names: &Names, address_of: impl Fn(A) -> IpAddr) -> Result<Vec<String>>
    where
        A: Address + Pod,
        FlowKey<A>: Pod,
        NatKey<A>: Pod,
        NatHolder<A>: Pod,
    {
        let pool: Vec<IpAddr> = self
            .pool()
            .iter()
            .copied()
            .map(IpAddr::from)
            .chain(self.pool6().iter().copied().map(IpAddr::from))
            .collect();
        let mut found = Vec::new();
        for (address, _) in entries::<A, EndpointEntry>(self, names.endpoints, Map::HashMap)? {
            found.push(format!("{} {}", names.endpoints, address_of(address)));
        }
        for (map, kind) in names.flows {
            for (key, _) in entries::<FlowKey<A>, Flow>(self, map, kind)? {
                let (low, high) = (address_of(key.low), address_of(key.high));
                if pool.contains(&low) || pool.contains(&high) {
                    found.push(format!("{map} {low} - {high} protocol {}", key.protocol));
                }
            }
        }
        for (map, kind) in names.translations {
            for (_, holder) in entries::<NatKey<A>, NatHolder<A>>(self, map, kind)? {
                let holder = address_of(holder.address);
                if pool.contains(&holder) {
                    found.push(format!("{map} {holder}"));
                }
            }
        }
        Ok(found)
    }
}

fn open<K: Pod, V: Pod>(vm: &Vm, map: &'static str, kind: Kind) -> Result<HashMap<MapData, K, V>> {
    let opened = MapData::from_pin(vm.pins("maps").join(map)).and_then(|data| HashMap::try_from(kind(data)));
    opened.map_err(in_map(vm, map))
}

fn entries<K: Pod, V: Pod>(vm: &Vm, map: &'static str, kind: Kind) -> Result<Vec<(K, V)>> {
    open(vm, map, kind)?.iter().collect::<Result<_, MapError>>().map_err(in_map(vm, map))
}

fn values<K: Pod, V: Pod>(vm: &Vm, (map, kind): (&'static str, Kind)) -> Result<Vec<V>> {
    Ok(entries::<K, V>(vm, map, kind)?.into_iter().map(|(_, value)| value).collect())
}

fn in_map(vm: &Vm, map: &'static str) -> impl Fn(MapError) -> Error {
    let vm = vm.name().to_owned();
    move |source| Error::Map { vm: vm.clone(), map, source: Box::new(source) }
}
