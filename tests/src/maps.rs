//! The maps of a VM's data path, read where they are pinned: past the agent, so that its word can be checked.

use std::{net::Ipv4Addr, path::PathBuf};

use aya::{
    Pod,
    maps::{HashMap, Map, MapData, MapError},
};
use azure_cni_common::{
    ABI,
    family::Ipv4,
    flow::{Flow, FlowKey},
    layout::{Endpoint, NatHolder, NatKey},
};

use crate::{
    error::{Error, Result},
    station::Station,
    vm::Vm,
};

const ENDPOINTS: &str = "ENDPOINTS4";
const FLOWS: &str = "FLOWS4";
const TRANSLATIONS: &str = "NAT4";

impl Vm {
    /// Where the agent pins, below the number of the layout: `maps`, `programs`, `links`.
    pub fn pins(&self, kind: &str) -> PathBuf {
        self.bpffs_dir().join(format!("abi{ABI}")).join(kind)
    }

    /// Makes the data path forget a pod that the agent knows.
    pub fn forget_in_data_path(&self, pod: Ipv4Addr) -> Result<()> {
        let mut endpoints = open::<Ipv4, Endpoint>(self, ENDPOINTS)?;
        endpoints.remove(&Ipv4::from(pod)).map_err(in_map(self, ENDPOINTS))
    }

    /// Everything that the data path holds about addresses of the pool, one line each. A VM whose data path was never
    /// loaded has nothing.
    pub(crate) fn pool_in_maps(&self) -> Result<Vec<String>> {
        if !self.pins("maps").exists() {
            return Ok(Vec::new());
        }
        let of_pool = |address: &Ipv4| self.pool().contains(&Ipv4Addr::from(*address));
        let mut found = Vec::new();
        for (address, _) in entries::<Ipv4, Endpoint>(self, ENDPOINTS)? {
            found.push(format!("{ENDPOINTS} {}", Ipv4Addr::from(address)));
        }
        for (key, _) in entries::<FlowKey<Ipv4>, Flow>(self, FLOWS)? {
            if of_pool(&key.low) || of_pool(&key.high) {
                let (low, high) = (Ipv4Addr::from(key.low), Ipv4Addr::from(key.high));
                found.push(format!("{FLOWS} {low} - {high} protocol {}", key.protocol));
            }
        }
        for (_, holder) in entries::<NatKey<Ipv4>, NatHolder<Ipv4>>(self, TRANSLATIONS)? {
            if of_pool(&holder.address) {
                found.push(format!("{TRANSLATIONS} {}", Ipv4Addr::from(holder.address)));
            }
        }
        Ok(found)
    }
}

fn open<K: Pod, V: Pod>(vm: &Vm, map: &'static str) -> Result<HashMap<MapData, K, V>> {
    let opened = MapData::from_pin(vm.pins("maps").join(map)).and_then(|data| HashMap::try_from(Map::HashMap(data)));
    opened.map_err(in_map(vm, map))
}

fn entries<K: Pod, V: Pod>(vm: &Vm, map: &'static str) -> Result<Vec<(K, V)>> {
    open(vm, map)?.iter().collect::<Result<_, MapError>>().map_err(in_map(vm, map))
}

fn in_map(vm: &Vm, map: &'static str) -> impl Fn(MapError) -> Error {
    let vm = vm.name().to_owned();
    move |source| Error::Map { vm: vm.clone(), map, source: Box::new(source) }
}
