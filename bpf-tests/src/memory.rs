//! What the programs remember, for a test to look at and to tamper with.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd};

use aya::Pod;
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray, PerCpuValues};
use aya::util::nr_cpus;
use azure_cni_common::ABI;
use azure_cni_common::conntrack::Seen;
use azure_cni_common::endpoint::Slot;
use azure_cni_common::family::{Be16, Ipv4, Ipv6};
use azure_cni_common::flow::{Flow, FlowKey, Tuple};
use azure_cni_common::fragments::{FragmentKey, FragmentPorts};
use azure_cni_common::icmp_budget::IcmpBudget;
use azure_cni_common::lifetime::NS_PER_SEC;
use azure_cni_common::nat::{ClaimTime, NatHolder, NatKey};
use azure_cni_common::recent_refusal::RecentRefusal;
use azure_cni_datapath::HostPorts;
use nix::time::{ClockId, clock_gettime};

use crate::rig::Rig;

/// Source and destination as the programs name them.
pub fn tuple<I, A: From<I>>(source: (I, u16), destination: (I, u16), protocol: u8) -> Tuple<A> {
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
    /// The connection table, then those of TCP flows and of datagrams that are not assured.
    pub fn flows(&self) -> [HashMap<MapData, FlowKey<Ipv4>, Flow>; 3] {
        [
            HashMap::try_from(Map::HashMap(self.map_data("FLOWS4"))),
            HashMap::try_from(Map::LruHashMap(self.map_data("HALF_OPEN4"))),
            HashMap::try_from(Map::LruHashMap(self.map_data("DATAGRAMS4"))),
        ]
        .map(|map| map.expect("a hash map of these types"))
    }

    /// Of established flows, then of half-open ones.
    pub fn translations(&self) -> [HashMap<MapData, NatKey<Ipv4>, NatHolder<Ipv4>>; 2] {
        [
            HashMap::try_from(Map::HashMap(self.map_data("NAT4"))),
            HashMap::try_from(Map::LruHashMap(self.map_data("NAT_HALF_OPEN4"))),
        ]
        .map(|map| map.expect("a hash map of these types"))
    }

    /// The ports of packets whose first fragment was seen.
    pub fn fragments(&self) -> HashMap<MapData, FragmentKey<Ipv4>, FragmentPorts> {
        HashMap::try_from(Map::LruHashMap(self.map_data("FRAGMENTS4"))).expect("a hash map of these types")
    }

    /// How often fragments were put back for want of their first, of each packet that waits for it, of both families.
    pub fn waits(&self) -> Vec<u32> {
        let of_entry = |ports: FragmentPorts| (ports.waits != FragmentPorts::KNOWN).then_some(ports.waits);
        let v4: Vec<_> = self.fragments().iter().filter_map(|entry| of_entry(entry.unwrap().1)).collect();
        let v6 = self.fragments6();
        v4.into_iter().chain(v6.iter().filter_map(|entry| of_entry(entry.unwrap().1))).collect()
    }

    /// What the programs read in place of the endpoints' table.
    pub fn endpoint_cache(&self) -> Array<MapData, Slot<Ipv4>> {
        Array::try_from(Map::Array(self.map_data("ENDPOINT_CACHE4"))).expect("an array of this type")
    }

    pub fn endpoint_cache6(&self) -> Array<MapData, Slot<Ipv6>> {
        Array::try_from(Map::Array(self.map_data("ENDPOINT_CACHE6"))).expect("an array of this type")
    }

    fn fragments6(&self) -> HashMap<MapData, FragmentKey<Ipv6>, FragmentPorts> {
        HashMap::try_from(Map::LruHashMap(self.map_data("FRAGMENTS6"))).expect("a hash map of these types")
    }

    /// The entry of the flow that this tuple belongs to, in either direction.
    pub fn flow(&self, tuple: &Tuple<Ipv4>) -> Option<Flow> {
        self.flows().iter().find_map(|flows| flows.get(&FlowKey::of(tuple).0, 0).ok())
    }

    /// The same of IPv6.
    pub fn flows6(&self) -> [HashMap<MapData, FlowKey<Ipv6>, Flow>; 3] {
        [
            HashMap::try_from(Map::HashMap(self.map_data("FLOWS6"))),
            HashMap::try_from(Map::LruHashMap(self.map_data("HALF_OPEN6"))),
            HashMap::try_from(Map::LruHashMap(self.map_data("DATAGRAMS6"))),
        ]
        .map(|map| map.expect("a hash map of these types"))
    }

    pub fn translations6(&self) -> [HashMap<MapData, NatKey<Ipv6>, NatHolder<Ipv6>>; 2] {
        [
            HashMap::try_from(Map::HashMap(self.map_data("NAT6"))),
            HashMap::try_from(Map::LruHashMap(self.map_data("NAT_HALF_OPEN6"))),
        ]
        .map(|map| map.expect("a hash map of these types"))
    }

    pub fn flow6(&self, tuple: &Tuple<Ipv6>) -> Option<Flow> {
        self.flows6().iter().find_map(|flows| flows.get(&FlowKey::of(tuple).0, 0).ok())
    }

    /// Whether the flow is in the connection table.
    pub fn is_established(&self, tuple: &Tuple<Ipv4>) -> bool {
        self.flows()[0].get(&FlowKey::of(tuple).0, 0).is_ok()
    }

    /// Of both families.
    pub fn flow_count(&self) -> usize {
        let v4: usize = self.flows().iter().map(|flows| flows.keys().count()).sum();
        v4 + self.flows6().iter().map(|flows| flows.keys().count()).sum::<usize>()
    }

    /// Of both families.
    pub fn translation_count(&self) -> usize {
        let v4: usize = self.translations().iter().map(|translations| translations.keys().count()).sum();
        v4 + self.translations6().iter().map(|translations| translations.keys().count()).sum::<usize>()
    }

    /// All flows have been silent for longer than they may, and no port was claimed a moment ago.
    pub fn expire_flows(&self) {
        let mut expired = 0;
        for mut flows in self.flows() {
            let all: Vec<_> = flows.iter().map(|entry| entry.expect("only this test writes")).collect();
            for (key, flow) in all {
                flows.insert(key, Flow { expires_ns: 1, ..flow }, 0).unwrap();
                expired += 1;
            }
        }
        assert!(expired > 0, "there is no flow to expire");
        self.age_claims();
        self.forget_refusals();
    }

    /// All flows of datagrams began ten seconds ago.
    pub fn age_datagrams(&self) {
        fn age<A: Copy>(mut flows: HashMap<MapData, FlowKey<A>, Flow>)
        where
            FlowKey<A>: Pod,
        {
            let all: Vec<_> = flows.iter().map(|entry| entry.expect("only this test writes")).collect();
            for (key, mut flow) in all {
                flow.numbers = Seen::datagram(flow.state, now_ns() - 10 * NS_PER_SEC).numbers;
                flows.insert(key, flow, 0).unwrap();
            }
        }
        let [_, _, flows] = self.flows();
        age(flows);
        let [_, _, flows] = self.flows6();
        age(flows);
    }

    /// All ports were claimed some time ago.
    pub fn age_claims(&self) {
        for mut translations in self.translations() {
            let all: Vec<_> = translations.iter().map(|entry| entry.expect("only this test writes")).collect();
            for (key, holder) in all {
                let claimed = ClaimTime::at(now_ns() - 10 * NS_PER_SEC);
                translations.insert(key, NatHolder { claimed, ..holder }, 0).unwrap();
            }
        }
    }

    /// The moment is over for which a refusal is remembered.
    pub fn forget_refusals(&self) {
        let places = PerCpuArray::<MapData, RecentRefusal>::try_from(Map::PerCpuArray(self.map_data("REFUSALS")));
        set_all(places.expect("an array of this type"), RecentRefusal::default());
    }

    /// All flows are forgotten; translations stay.
    pub fn lose_flows(&self) {
        assert!(self.flow_count() > 0, "there is no flow to lose");
        self.lose_flows_if_any();
    }

    /// Same, where there may be none.
    pub fn lose_flows_if_any(&self) {
        self.flows().into_iter().for_each(empty);
    }

    /// Same, of IPv6.
    pub fn lose_flows6_if_any(&self) {
        self.flows6().into_iter().for_each(empty);
    }

    /// All translations are forgotten; flows stay.
    pub fn lose_translations(&self) {
        assert!(self.translation_count() > 0, "there is no translation to lose");
        self.translations().into_iter().for_each(empty);
    }

    /// As after loading: nothing is known of any pod, route or flow, and nothing was counted.
    pub(crate) fn empty_maps(&self) {
        self.lose_flows_if_any();
        self.translations().into_iter().for_each(empty);
        self.flows6().into_iter().for_each(empty);
        self.translations6().into_iter().for_each(empty);
        empty(self.fragments());
        empty(self.fragments6());
        let budgets = HashMap::<MapData, u32, IcmpBudget>::try_from(Map::LruHashMap(self.map_data("ICMP_BUDGETS")));
        empty(budgets.expect("a hash map of these types"));
        self.tables().set_host_ports(&HostPorts::default()).unwrap();
        for address in self.tables().endpoints().unwrap().into_keys() {
            self.tables().remove_endpoint(address).unwrap();
        }
        self.tables().set_routes(&BTreeMap::new()).unwrap();

        self.forget_refusals();
        set_all(PerCpuArray::<MapData, u64>::try_from(Map::PerCpuArray(self.map_data("DROPS"))).unwrap(), 0);
    }

    pub fn map_data(&self, name: &str) -> MapData {
        let path = self.settings().dir.join(format!("abi{ABI}/maps/{name}"));
        MapData::from_pin(path).expect("a pinned map")
    }
}

/// Bytes that the kernel has locked for a map (`memlock` in its descriptor's /proc entry).
pub fn locked_bytes(map: &MapData) -> u64 {
    let info = format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd());
    let info = std::fs::read_to_string(info).expect("the map is open");
    let bytes = info.lines().find_map(|line| line.strip_prefix("memlock:")).expect("the kernel says so for maps");
    bytes.trim().parse().expect("a number")
}

fn set_all<V: Pod>(mut array: PerCpuArray<MapData, V>, value: V) {
    for index in 0..array.len() {
        let values = vec![value; nr_cpus().expect("the kernel says how many")];
        array.set(index, PerCpuValues::try_from(values).expect("one for each CPU"), 0).unwrap();
    }
}

fn empty<K: Pod, V: Pod>(mut map: HashMap<MapData, K, V>) {
    let keys: Vec<K> = map.keys().map(|key| key.expect("only this test writes")).collect();
    for key in keys {
        map.remove(&key).unwrap();
    }
}
