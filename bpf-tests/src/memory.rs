//! What the programs remember, for a test to look at and to tamper with.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use aya::Pod;
use aya::maps::{HashMap, Map, MapData, PerCpuArray, PerCpuValues};
use aya::util::nr_cpus;
use azure_cni_common::ABI;
use azure_cni_common::conntrack::NS_PER_SEC;
use azure_cni_common::family::{Be16, Ipv4};
use azure_cni_common::flow::{Flow, FlowKey, Tuple};
use azure_cni_common::layout::{NatHolder, NatKey};
use nix::time::{ClockId, clock_gettime};

use crate::Rig;

/// Source and destination as the programs name them.
pub fn tuple(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16), protocol: u8) -> Tuple<Ipv4> {
    Tuple {
        source: source.0.into(),
        destination: destination.0.into(),
        source_port: Be16::from_host(source.1),
        destination_port: Be16::from_host(destination.1),
        protocol,
    }
}

/// The clock of expiries.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has this clock");
    now.tv_sec() as u64 * NS_PER_SEC + now.tv_nsec() as u64
}

impl Rig {
    pub fn flows(&self) -> HashMap<MapData, FlowKey<Ipv4>, Flow> {
        self.map("FLOWS4")
    }

    pub fn translations(&self) -> HashMap<MapData, NatKey<Ipv4>, NatHolder<Ipv4>> {
        self.map("NAT4")
    }

    /// The entry of the flow that this tuple belongs to, in either direction.
    pub fn flow(&self, tuple: &Tuple<Ipv4>) -> Option<Flow> {
        self.flows().get(&FlowKey::of(tuple).0, 0).ok()
    }

    pub fn translation_count(&self) -> usize {
        self.translations().keys().count()
    }

    /// All flows have been silent for longer than they may.
    pub fn expire_flows(&self) {
        let mut flows = self.flows();
        let all: Vec<_> = flows.iter().map(|entry| entry.expect("nobody else writes")).collect();
        assert!(!all.is_empty(), "there is no flow to expire");
        for (key, flow) in all {
            flows.insert(key, Flow { expires_ns: 1, ..flow }, 0).unwrap();
        }
    }

    /// All flows are forgotten; translations stay.
    pub fn lose_flows(&self) {
        let mut flows = self.flows();
        let keys: Vec<_> = flows.keys().map(|key| key.expect("nobody else writes")).collect();
        assert!(!keys.is_empty(), "there is no flow to lose");
        for key in keys {
            flows.remove(&key).unwrap();
        }
    }

    /// Same, where there may be none.
    pub fn lose_flows_if_any(&self) {
        if self.flows().keys().next().is_some() {
            self.lose_flows();
        }
    }

    /// As after loading: nothing is known of any pod, route or flow, and nothing was counted.
    pub(crate) fn empty_maps(&self) {
        self.lose_flows_if_any();
        let mut translations = self.translations();
        let keys: Vec<_> = translations.keys().map(|key| key.expect("nobody else writes")).collect();
        for key in keys {
            translations.remove(&key).unwrap();
        }
        for address in self.tables().endpoint_addresses().unwrap() {
            self.tables().remove_endpoint(address.into()).unwrap();
        }
        self.tables().set_routes(&BTreeMap::new()).unwrap();

        let mut drops = PerCpuArray::<MapData, u64>::try_from(Map::PerCpuArray(self.map_data("DROPS"))).unwrap();
        for slot in 0..drops.len() {
            let zeros = vec![0; nr_cpus().expect("the kernel says how many")];
            drops.set(slot, PerCpuValues::try_from(zeros).expect("one for each CPU"), 0).unwrap();
        }
    }

    fn map<K: Pod, V: Pod>(&self, name: &str) -> HashMap<MapData, K, V> {
        HashMap::try_from(Map::HashMap(self.map_data(name))).expect("a hash map of these types")
    }

    fn map_data(&self, name: &str) -> MapData {
        let path = self.settings().dir.join(format!("abi{ABI}/maps/{name}"));
        MapData::from_pin(path).expect("a pinned map")
    }
}
