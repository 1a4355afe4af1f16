//! What is planned for each way in which records, kernel and namespaces can differ.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use azure_cni_api::boot_time::BootTime;
use azure_cni_api::cni::AttachmentId;
use azure_cni_api::labels;
use azure_cni_api::names;
use azure_cni_api::{Bandwidth, RateLimit};
use azure_cni_common::bandwidth::Limits;
use azure_cni_common::endpoint::EndpointFlags;
use azure_cni_datapath::{EndpointEntry, Hook};
use azure_cni_ipam::Addresses;

use super::grace::Grace;
use super::node_state::{Life, NodeState};
use super::plan::{Action, Repair, plan};
use super::recover_records::Kernel;
use crate::endpoint::{Endpoint, PodOptions};
use crate::net::{Link, NeighbourEntry, NetnsId};
use crate::state::AttachmentRecord;

const INDEX: u32 = 17;
const NETNS: &str = "/run/netns/p";
const NETNS_ID: NetnsId = NetnsId { device: 4, inode: 4_026_532_000 };

fn id() -> AttachmentId {
    AttachmentId {
        network: "azure".parse().unwrap(),
        container_id: "c1".parse().unwrap(),
        ifname: "eth0".parse().unwrap(),
    }
}

fn ip() -> IpAddr {
    "10.240.0.5".parse().unwrap()
}

fn veth() -> Link {
    veth_of(&id(), Path::new(NETNS), INDEX)
}

/// As ADD makes it.
pub(super) fn veth_of(id: &AttachmentId, netns: &Path, index: u32) -> Link {
    Link {
        index,
        name: names::host_interface(id),
        mac: azure_cni_api::mac::HOST_MAC,
        mtu: 1500,
        is_up: true,
        is_running: true,
        is_veth: true,
        group: labels::GROUP,
        alias: Some(labels::alias(id, netns)),
        peer: None,
    }
}

fn entry(ifindex: u32, flags: EndpointFlags) -> EndpointEntry {
    EndpointEntry::at(ifindex).with_flags(flags).with_mac(names::pod_mac(&id()))
}

fn record() -> AttachmentRecord {
    AttachmentRecord {
        id: id(),
        addresses: vec![ip()],
        host_interface: names::host_interface(&id()),
        host_ifindex: INDEX,
        pod_mac: names::pod_mac(&id()),
        netns: NETNS.into(),
        netns_id: Some(NETNS_ID),
        boot_id: "boot".to_owned(),
        mtu: 1500,
        via_host: vec![],
        own_table: false,
        keep_source: false,
        bandwidth: Bandwidth::UNLIMITED,
        requested_at: BootTime::BOOT,
        recorded_at: BootTime::BOOT,
    }
}

/// One attachment with everything it needs.
fn sound() -> NodeState {
    let addresses = Addresses::first_of_each([ip()]).unwrap();
    let node_addresses = Addresses::first_of_each(["10.240.0.4".parse().unwrap()]);
    let (link, record) = (veth(), record());
    let endpoint = Endpoint::of_record(&record, node_addresses.unwrap()).unwrap();
    NodeState {
        boot_id: "boot".to_owned(),
        node_addresses,
        leases: [(id(), addresses)].into(),
        routes: endpoint.host_routes(INDEX).collect(),
        neighbours: endpoint.pod_neighbours(INDEX).collect(),
        map_entries: [(ip(), entry(INDEX, EndpointFlags::NONE))].into(),
        programs: [(link.name.clone(), Hook::ENDPOINT.to_vec())].into(),
        pins: [link.name.clone()].into(),
        links: [(link.name.clone(), link)].into(),
        records: vec![record],
        ..NodeState::default()
    }
}

fn now(state: &NodeState) -> Vec<Action> {
    plan(state, &mut Grace::new(Duration::ZERO), Duration::ZERO)
}

fn repaired(state: &NodeState) -> Vec<Repair> {
    match now(state).as_slice() {
        [Action::Repair { missing, .. }] => missing.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_in_line_is_left_alone() {
    assert_eq!(now(&sound()), []);
    assert_eq!(now(&NodeState { boot_id: "boot".to_owned(), ..NodeState::default() }), []);
}

#[test]
fn each_thing_that_a_standing_veth_lacks_is_repaired_alone() {
    let name = veth().name;
    let mut down = sound();
    down.links.get_mut(&name).unwrap().is_up = false;
    assert_eq!(repaired(&down), [Repair::Up]);

    let mut renumbered = sound();
    renumbered.links.get_mut(&name).unwrap().mac = [6; 6];
    // The kernel forgets the neighbours of an interface that gets another address.
    assert_eq!(repaired(&renumbered), [Repair::HostMac, Repair::Neighbour(sound().neighbours[0])]);

    let mut unlabelled = sound();
    unlabelled.links.get_mut(&name).unwrap().group = 0;
    assert_eq!(repaired(&unlabelled), [Repair::Label(veth().alias.unwrap())]);

    let route = sound().routes[0];
    assert_eq!(repaired(&NodeState { routes: vec![], ..sound() }), [Repair::Route(route)]);
    let neighbour = sound().neighbours[0];
    assert_eq!(repaired(&NodeState { neighbours: vec![], ..sound() }), [Repair::Neighbour(neighbour)]);

    let programs = [(name.clone(), vec![Hook::ToEndpoint])].into();
    assert_eq!(repaired(&NodeState { programs, ..sound() }), [Repair::Program(Hook::FromEndpoint)]);

    assert_eq!(repaired(&NodeState { map_entries: [].into(), ..sound() }), [Repair::MapEntry(ip())]);
    let astray = [(ip(), entry(INDEX + 1, EndpointFlags::NONE))].into();
    assert_eq!(repaired(&NodeState { map_entries: astray, ..sound() }), [Repair::MapEntry(ip())]);
    let of_another_mac = [(ip(), entry(INDEX, EndpointFlags::NONE).with_mac([9; 6]))].into();
    assert_eq!(repaired(&NodeState { map_entries: of_another_mac, ..sound() }), [Repair::MapEntry(ip())]);
}

#[test]
fn the_neighbour_has_the_mac_that_the_pod_has_now() {
    let tuned = NodeState { pod_macs: [(id(), [6; 6])].into(), ..sound() };
    let neighbour = NeighbourEntry { mac: [6; 6], ..sound().neighbours[0] };
    assert_eq!(repaired(&tuned), [Repair::PodGateway, Repair::Neighbour(neighbour)]);
    let restored = NodeState { neighbours: vec![neighbour], ..sound() };
    assert_eq!(repaired(&restored), [Repair::PodGateway, Repair::Neighbour(sound().neighbours[0])]);
    assert_eq!(now(&NodeState { neighbours: vec![neighbour], ..tuned }), []);
}

#[test]
fn a_route_to_the_same_address_elsewhere_does_not_count() {
    let mut state = sound();
    state.routes[0].interface += 1;
    assert!(matches!(repaired(&state).as_slice(), [Repair::Route(route)] if route.interface == INDEX));
}

#[test]
fn a_veth_that_is_gone_is_made_again_exactly_if_its_namespace_lives() {
    let gone = |life: Option<Life>| NodeState {
        links: [].into(),
        namespaces: life.map(|life| (id(), life)).into_iter().collect(),
        ..sound()
    };
    assert_eq!(now(&gone(Some(Life::Lives))), [Action::Rebuild { id: id() }]);
    assert_eq!(now(&gone(Some(Life::Gone))), [Action::Release { id: id(), why: "its namespace is gone" }]);
    assert_eq!(now(&gone(Some(Life::Unknown))), []);
}

#[test]
fn a_namespace_whose_veth_stands_lives_whatever_its_path_says() {
    assert_eq!(now(&NodeState { namespaces: [(id(), Life::Gone)].into(), ..sound() }), []);
}

#[test]
fn a_namespace_is_released_only_when_it_was_gone_for_the_whole_grace() {
    let gone = NodeState { links: [].into(), namespaces: [(id(), Life::Gone)].into(), ..sound() };
    let mut grace = Grace::new(Duration::from_secs(20));
    let mut at = |state: &NodeState, secs| plan(state, &mut grace, Duration::from_secs(secs));
    assert_eq!(at(&gone, 100), []);
    assert_eq!(at(&gone, 119), []);
    // It was there in between: the grace begins again.
    assert_eq!(at(&sound(), 120), []);
    assert_eq!(at(&gone, 121), []);
    assert_eq!(at(&gone, 140), []);
    assert_eq!(at(&gone, 141), [Action::Release { id: id(), why: "its namespace is gone" }]);
}

#[test]
fn leases_of_another_boot_are_released_at_once() {
    let mut state = sound();
    (state.links, state.boot_id) = ([].into(), "next boot".to_owned());
    let actions = plan(&state, &mut Grace::new(Duration::from_secs(3600)), Duration::ZERO);
    assert_eq!(actions, [Action::Release { id: id(), why: "the machine was booted since" }]);
    assert_eq!(state.to_restore(), []);
}

#[test]
fn what_no_record_names_goes_veth_first() {
    let unrecorded = NodeState { records: vec![], ..sound() };
    let name = veth().name;
    // The lease still holds its address in the data path: both go with it.
    let expected = [
        Action::RemoveLink { name: name.clone(), index: INDEX },
        Action::Unpin { interface: name.clone() },
        Action::DropLease { id: id() },
    ];
    assert_eq!(now(&unrecorded), expected);
    let unheld = NodeState { leases: [].into(), ..unrecorded };
    assert_eq!(now(&unheld)[2], Action::RemoveMapEntry { address: ip() });
}

#[test]
fn what_is_not_ours_is_not_touched() {
    let foreign = [
        // The platform's own plugin names its veths in the same way.
        Link { group: 0, alias: None, ..veth() },
        Link { is_veth: false, ..veth() },
        Link { name: "azvother".to_owned(), ..veth() },
    ];
    for link in foreign {
        let state =
            NodeState { boot_id: "boot".to_owned(), links: [(link.name.clone(), link)].into(), ..NodeState::default() };
        assert_eq!(now(&state), [], "{state:?}");
        assert_eq!(Kernel { links: state.links.into_values().collect(), ..Kernel::default() }.records(|_| None), []);
    }
}

#[test]
fn what_a_call_works_on_is_left_to_the_call() {
    let busy = || [veth().name].into();
    for state in [
        NodeState { records: vec![], map_entries: [].into(), ..sound() },
        NodeState { links: [].into(), namespaces: [(id(), Life::Gone)].into(), ..sound() },
        NodeState { routes: vec![], ..sound() },
    ] {
        assert_ne!(now(&state), []);
        assert_eq!(now(&NodeState { busy: busy(), ..state }), []);
    }
}

#[test]
fn a_veth_left_of_a_rebuild_makes_room_for_another() {
    let mut state = NodeState { namespaces: [(id(), Life::Lives)].into(), ..sound() };
    state.links.get_mut(&veth().name).unwrap().index = INDEX + 1;
    let expected = [Action::RemoveLink { name: veth().name, index: INDEX + 1 }, Action::Rebuild { id: id() }];
    assert_eq!(now(&state), expected);
}

fn kernel() -> Kernel {
    let state = sound();
    Kernel {
        boot_id: state.boot_id,
        links: state.links.into_values().collect(),
        routes: state.routes,
        neighbours: state.neighbours,
        map_entries: state.map_entries,
        ..Kernel::default()
    }
}

fn recovered(kernel: &Kernel) -> Vec<AttachmentRecord> {
    kernel.records(|path| (path == Path::new(NETNS)).then_some(NETNS_ID))
}

#[test]
fn a_recovered_record_is_the_one_that_was_lost() {
    assert_eq!(recovered(&kernel()), [record()]);
    // Also where the data path was lost too, and the routes alone tell.
    assert_eq!(recovered(&Kernel { map_entries: [].into(), ..kernel() }), [record()]);
}

#[test]
fn a_recovered_record_keeps_what_the_data_path_knows_of_its_egress() {
    let map_entries = [(ip(), entry(INDEX, EndpointFlags::KEEP_SOURCE))].into();
    let opted_out = Kernel { map_entries, via_host: vec!["169.254.20.10".parse().unwrap()], ..kernel() };
    let records = recovered(&opted_out);
    assert!(records[0].keep_source && records[0].via_host == opted_out.via_host);
    // With a public address it is the address that keeps the source, not its network.
    assert!(!recovered(&Kernel { public: [ip()].into(), ..opted_out })[0].keep_source);
}

#[test]
fn a_recovered_record_keeps_the_limits_that_the_data_path_knows() {
    let ingress = Some(RateLimit { rate: 10_000_000, burst: Some(80_000) });
    let limited = AttachmentRecord { bandwidth: Bandwidth { ingress, egress: None }, ..record() };
    let limits = [(INDEX, PodOptions::of_record(&limited).limits()), (INDEX + 1, Limits::NONE)].into();
    assert_eq!(recovered(&Kernel { limits, ..kernel() }), [limited]);
}

#[test]
fn a_veth_without_a_known_owner_still_holds_its_address() {
    let mut unnamed = kernel();
    for alias in [None, Some("azure-cni".to_owned()), Some("azure-cni azure/other/eth0".to_owned())] {
        unnamed.links[0].alias = alias;
        let records = recovered(&unnamed);
        assert_eq!((records.len(), &records[0].addresses), (1, &vec![ip()]));
        assert_eq!(records[0].id.container_id.as_str(), veth().name);
    }
}

#[test]
fn a_veth_without_an_address_was_never_finished_and_is_not_recorded() {
    assert_eq!(recovered(&Kernel { map_entries: [].into(), routes: vec![], ..kernel() }), []);
}
