//! What others write to the agent's maps is found and put right, and to look is not to write.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use aya::Pod;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, Map, MapData};
use azure_cni_common::egress::RouteClass;
use azure_cni_common::endpoint::{EndpointEntry, Slot, slot_of};
use azure_cni_common::family::{Address, Ipv4, Ipv6};
use azure_cni_datapath::{GatewaySync, Gateways, HostPorts, RouteSync};
use bpf_tests::Promise::ToPod;
use bpf_tests::{Frame, Rig, Verdict, ifindex};
use ipnet::IpNet;

const CLEAN: RouteSync = RouteSync { repaired: 0, left_out: 0 };

fn zero<A: Address>(mut cache: Array<MapData, Slot<A>>, addresses: &[A])
where
    Slot<A>: Pod,
{
    for address in addresses {
        cache.set(slot_of(*address), Slot::of([]), 0).unwrap();
    }
}

#[test]
fn zeroed_slots_of_the_cache_are_written_again_in_both_families() {
    let rig = Rig::new();
    zero(rig.endpoint_cache(), &[Rig::POD_A.into(), Rig::POD_B.into()]);
    zero::<Ipv6>(rig.endpoint_cache6(), &[Rig::POD_B6.into()]);
    let to_b = Frame::udp((Rig::POD_A, 1), (Rig::POD_B, 2));
    let to_b6 = Frame::udp((Rig::POD_A6, 1), (Rig::POD_B6, 2));
    assert_eq!(rig.from_pod_a(&to_b).verdict, Verdict::Drop, "the pods are gone for the programs");
    assert_eq!(rig.tables().repair_endpoint_cache().unwrap(), 3);
    rig.from_pod_a(&to_b).keeps("IPv4", &ToPod(to_b.clone().one_hop_on()));
    rig.from_pod_a(&to_b6).keeps("IPv6", &ToPod(to_b6.clone().one_hop_on()));
    assert_eq!(rig.tables().repair_endpoint_cache().unwrap(), 0);
}

#[test]
fn slot_that_names_a_pod_that_is_none_is_emptied() {
    let rig = Rig::new();
    let foreign = Slot::of([(Ipv4::from(Rig::PEER), EndpointEntry::at(ifindex("azvb")))]);
    rig.endpoint_cache().set(slot_of(Ipv4::from(Rig::PEER)), foreign, 0).unwrap();
    assert_eq!(rig.tables().repair_endpoint_cache().unwrap(), 1);
    let to_peer = Frame::udp((Rig::POD_A, 1), (Rig::PEER, 2));
    assert_eq!(rig.from_pod_a(&to_peer).verdict, Verdict::ToWire);
}

fn routes<A: Address + Pod>(rig: &Rig, name: &str) -> LpmTrie<MapData, A, RouteClass> {
    LpmTrie::try_from(Map::LpmTrie(rig.map_data(name))).unwrap()
}

#[test]
fn routes_that_others_removed_changed_or_added_are_put_right_and_counted() {
    let rig = Rig::new();
    let sync = || rig.tables().set_routes(&Rig::routes()).unwrap();
    assert_eq!(sync(), CLEAN);
    let (mut v4, mut v6) = (routes::<Ipv4>(&rig, "ROUTES4"), routes::<Ipv6>(&rig, "ROUTES6"));
    v4.remove(&Key::new(16, Ipv4::new(10, 240, 0, 0))).unwrap();
    v4.insert(&Key::new(32, Ipv4::from(Rig::NODE)), RouteClass::VNET, 0).unwrap();
    v4.insert(&Key::new(0, Ipv4::new(0, 0, 0, 0)), RouteClass::HOST, 0).unwrap();
    v6.remove(&Key::new(128, Ipv6::from(Rig::NODE6))).unwrap();
    assert_eq!(sync(), RouteSync { repaired: 4, left_out: 0 });
    assert_eq!(v4.get(&Key::new(32, Ipv4::new(10, 240, 7, 7)), 0).unwrap(), RouteClass::VNET);
    assert_eq!(v4.get(&Key::new(32, Ipv4::from(Rig::NODE)), 0).unwrap(), RouteClass::HOST);
    assert_eq!(v6.get(&Key::new(128, Ipv6::from(Rig::NODE6)), 0).unwrap(), RouteClass::HOST);
    assert!(v4.get(&Key::new(32, Ipv4::from(Rig::INTERNET)), 0).is_err(), "nobody's route to all");
    assert_eq!(sync(), CLEAN);
}

fn set<V: Pod>(rig: &Rig, name: &str, index: u32, value: V) {
    Array::try_from(Map::Array(rig.map_data(name))).unwrap().set(index, value, 0).unwrap();
}

#[test]
fn gateways_that_others_wrote_are_put_right_and_counted() {
    let rig = Rig::new();
    let gateways = Gateways { v4: Some(Ipv4Addr::new(10, 240, 0, 1)), v6: Some("fe80::1".parse().unwrap()) };
    let sync = || rig.tables().set_gateways(gateways).unwrap();
    assert_eq!(sync(), GatewaySync { changed: true, repaired: false });
    assert_eq!(sync(), GatewaySync::default());
    set(&rig, "GATEWAY4", 0, Ipv4(0));
    assert_eq!(sync(), GatewaySync { changed: false, repaired: true });
    set(&rig, "GATEWAY6", 0, Ipv6([0; 4]));
    assert_eq!(sync(), GatewaySync { changed: false, repaired: true });
    assert_eq!(sync(), GatewaySync::default());
    assert!(rig.tables().set_gateways(Gateways::default()).unwrap().changed);
}

#[test]
fn ports_of_the_host_that_others_wrote_are_put_right_and_counted() {
    let rig = Rig::new();
    let mut ports = HostPorts::default();
    ports.insert(6, 8080);
    assert_eq!([(); 2].map(|()| rig.tables().set_host_ports(&ports).unwrap()), [1, 0]);
    set(&rig, "HOST_PORTS", 8080 / 64, 0u64);
    set(&rig, "HOST_PORTS", 2047, 1u64);
    assert_eq!([(); 2].map(|()| rig.tables().set_host_ports(&ports).unwrap()), [2, 0]);
}

/// Single addresses, from the first on.
fn many(first: u32, count: u32) -> BTreeMap<IpNet, RouteClass> {
    let prefix = |host: u32| IpNet::from(IpAddr::V4(Ipv4Addr::from(0x0b00_0000 + host)));
    let addresses = (first..first + count).map(|host| (prefix(host), RouteClass::VNET));
    addresses.chain(Rig::routes()).collect()
}

#[test]
fn route_table_has_room_for_many_and_what_it_has_none_for_is_known() {
    let rig = Rig::new();
    let used = || rig.tables().fills().unwrap().into_iter().find(|fill| fill.name == "ROUTES4").unwrap();
    assert_eq!(rig.tables().set_routes(&many(0, 60_000)).unwrap(), CLEAN);
    assert_eq!((used().used, used().max), (60_003, 65_536));
    // Others take the place of those that go, though both together do not fit.
    assert_eq!(rig.tables().set_routes(&many(60_000, 40_000)).unwrap(), CLEAN);
    assert_eq!(used().used, 40_003);

    assert_eq!(rig.tables().set_routes(&many(0, 65_540)).unwrap(), RouteSync { repaired: 0, left_out: 7 });
    assert_eq!((used().used, rig.tables().routes_left_out()), (65_536, 7));
    let host = Frame::udp((Rig::POD_A, 1), (Rig::NODE_LOCAL_DNS, 2));
    assert_eq!(rig.from_pod_a(&host).verdict, Verdict::Pass, "the host's routes are in it");
    let vnet = Frame::udp((Rig::POD_A, 1), (Rig::PEER, 2));
    assert_eq!(rig.from_pod_a(&vnet).frame.source().0, Rig::POD_A, "the shortest prefixes are in it");
    rig.tables().set_routes(&Rig::routes()).unwrap();
    assert_eq!((used().used, rig.tables().routes_left_out()), (3, 0));
}
