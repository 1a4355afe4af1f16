//! A node of two pods and an uplink, as far as the programs can tell.

use std::collections::BTreeMap;
use std::fs::{create_dir_all, read_dir, remove_file, rename};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use azure_cni_common::ABI;
use azure_cni_common::egress::RouteClass;
use azure_cni_common::endpoint::EndpointEntry;
use azure_cni_common::lifetime::Timeouts;
use azure_cni_common::nat::PortRange;
use azure_cni_common::nat::share::BLOCKS;
use azure_cni_datapath::{Constants, Datapath, DatapathError, EarlierLayout, OBJECT, Settings, Tables};
use ipnet::IpNet;

use crate::node::{Node, VETHS, ifindex};

/// A layout as an earlier agent could have had it.
const EARLIER: EarlierLayout =
    EarlierLayout { number: ABI - 1, unchanged: &["ENDPOINTS4", "ROUTES4", "FLOWS4", "NAT4", "DROPS"] };

/// The calling thread is in the node's namespaces from then on.
pub struct Rig {
    /// Present until the rig is dropped.
    node: Option<Node>,
    /// The test has changed what emptying the maps does not restore.
    pub(crate) is_used_up: bool,
}

impl Rig {
    pub const NODE: Ipv4Addr = Ipv4Addr::new(10, 240, 0, 4);
    pub const POD_A: Ipv4Addr = Ipv4Addr::new(10, 240, 1, 1);
    pub const POD_B: Ipv4Addr = Ipv4Addr::new(10, 240, 1, 2);
    /// A pod of another VM.
    pub const PEER: Ipv4Addr = Ipv4Addr::new(10, 240, 2, 1);
    pub const INTERNET: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
    pub const NODE6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x240, 0, 0, 0, 0, 4);
    pub const POD_A6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x240, 1, 0, 0, 0, 1);
    pub const POD_B6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x240, 1, 0, 0, 0, 2);
    pub const PEER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x240, 2, 0, 0, 0, 1);
    pub const INTERNET6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 0x10);
    pub const NODE_LOCAL_DNS: Ipv4Addr = Ipv4Addr::new(169, 254, 20, 10);
    pub const WIRE_SERVER: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);

    /// The constants of a node in a cluster whose services are known.
    pub fn constants() -> Constants {
        Constants {
            node_address: Self::NODE,
            node_address6: Some(Self::NODE6),
            has_ipv6: true,
            snat6: true,
            uplink_ifindex: 0,
            uplink_mtu: 1500,
            nat_ports: PortRange::DEFAULT,
            nat_pod_blocks: BLOCKS,
            nat_seed: 7,
            pod_flow_share: u32::MAX,
            timeouts: Timeouts::DEFAULT,
            services_known: true,
            block_imds: false,
            log: false,
        }
    }

    /// The same for a test that takes long on a slow machine, as loading programs does: no flow of datagrams ends by itself meanwhile.
    pub fn patient_constants() -> Constants {
        let timeouts = Timeouts {
            datagram_one_way_secs: 3600,
            datagram_exchange_secs: 3600,
            datagram_question_secs: 3600,
            ..Timeouts::DEFAULT
        };
        Constants { timeouts, ..Self::constants() }
    }

    pub fn patient() -> Self {
        Self::with(Self::patient_constants(), 1024)
    }

    pub fn new() -> Self {
        Self::with(Self::constants(), 1024)
    }

    /// Any address outside the VNet may be a cluster service.
    pub fn with_services_unknown() -> Self {
        Self::with(Constants { services_known: false, ..Self::constants() }, 1024)
    }

    pub fn with_nat_ports(first: u16, last: u16) -> Self {
        Self::with(Constants { nat_ports: PortRange { first, last }, ..Self::constants() }, 1024)
    }

    pub fn with(constants: Constants, max_flows: u32) -> Self {
        Self::with_tables(constants, max_flows, 1024)
    }

    pub fn with_tables(constants: Constants, max_flows: u32, max_half_open: u32) -> Self {
        Self::with_programs(OBJECT, constants, max_flows, max_half_open)
    }

    /// With other programs than those that users load.
    pub fn with_programs(object: &'static [u8], constants: Constants, max_flows: u32, max_half_open: u32) -> Self {
        let node = Node::enter(object, &constants, max_flows, max_half_open);
        let rig = Self { node: Some(node), is_used_up: false };
        rig.empty_maps();
        rig.add_pod(Self::POD_A, "azva");
        rig.add_pod(Self::POD_B, "azvb");
        if rig.settings().constants.has_ipv6 {
            rig.add_pod(Self::POD_A6, "azva");
            rig.add_pod(Self::POD_B6, "azvb");
        }
        rig.tables().set_routes(&Self::routes()).unwrap();
        rig
    }

    /// A pod behind this host veth.
    pub fn add_pod(&self, address: impl Into<IpAddr>, interface: &str) {
        let address = address.into();
        self.tables().set_endpoint(address, Self::endpoint(address, interface)).unwrap();
    }

    /// What [`Self::add_pod`] tells the programs.
    pub fn endpoint(address: impl Into<IpAddr>, interface: &str) -> EndpointEntry {
        EndpointEntry::at(ifindex(interface)).with_mac(Self::pod_mac(address))
    }

    /// The MAC of a pod's interface: it ends like the address.
    pub fn pod_mac(address: impl Into<IpAddr>) -> [u8; 6] {
        let [a, b, c, d] = match address.into() {
            IpAddr::V4(address) => address.octets(),
            IpAddr::V6(address) => *address.octets().last_chunk().expect("four of sixteen"),
        };
        [2, 0, a, b, c, d]
    }

    /// The VNet, and what is the host's own.
    pub fn routes() -> BTreeMap<IpNet, RouteClass> {
        BTreeMap::from([
            ("10.240.0.0/16".parse().unwrap(), RouteClass::VNET),
            ("fd00:10:240::/48".parse().unwrap(), RouteClass::VNET),
            (IpNet::from(IpAddr::V6(Self::NODE6)), RouteClass::HOST),
            (IpNet::from(IpAddr::V4(Self::NODE)), RouteClass::HOST),
            (IpNet::from(IpAddr::V4(Self::NODE_LOCAL_DNS)), RouteClass::HOST),
        ])
    }

    pub fn datapath(&self) -> &Datapath {
        self.node().datapath.as_ref().expect("one agent follows the other")
    }

    pub fn tables(&self) -> &Tables {
        self.datapath().tables()
    }

    pub fn settings(&self) -> &Settings {
        &self.node().settings
    }

    /// What a new agent does that is configured otherwise, up to the moment in which it swaps programs.
    pub fn reopen(&mut self, change: impl FnOnce(&mut Settings)) -> Result<(), DatapathError> {
        self.is_used_up = true;
        let node = self.node.as_mut().expect("present until the rig is dropped");
        node.datapath = None;
        change(&mut node.settings);
        node.datapath = Some(Datapath::open(&node.settings)?);
        Ok(())
    }

    /// The same, to the end.
    pub fn restart_with(&mut self, change: impl FnOnce(&mut Settings)) {
        self.reopen(change).unwrap_or_else(|error| panic!("{error:?}"));
        self.datapath().settle().unwrap_or_else(|error| panic!("{error:?}"));
    }

    /// Where maps, programs and links are pinned.
    pub fn pins(&self) -> PathBuf {
        self.settings().dir.join(format!("abi{ABI}"))
    }

    /// What a new agent does that finds the pins of an earlier one.
    pub fn restart_agent(&mut self) {
        let node = self.node.as_mut().expect("present until the rig is dropped");
        // Two agents do not work with the same pins.
        node.datapath = None;
        node.datapath = Some(Datapath::open(&node.settings).unwrap_or_else(|error| panic!("{error:?}")));
    }

    /// What an agent does that finds the pins of one with an earlier map layout, which has some maps in common with
    /// today's. `maps`: those that are pinned there. What else was pinned is gone.
    pub fn upgrade_agent_that_pinned(&mut self, maps: &[&str]) {
        let node = self.node.as_mut().expect("present until the rig is dropped");
        node.datapath = None;
        let (earlier, today) =
            (node.settings.dir.join(format!("abi{}", EARLIER.number)), node.settings.dir.join(format!("abi{ABI}")));
        for kind in ["maps", "programs", "links"] {
            create_dir_all(earlier.join(kind)).unwrap();
        }
        for name in maps {
            rename(today.join("maps").join(name), earlier.join("maps").join(name)).unwrap();
        }
        rename(today.join("programs/to_wire"), earlier.join("programs/to_wire")).unwrap();
        for kind in ["maps", "programs"] {
            for pin in read_dir(today.join(kind)).unwrap() {
                remove_file(pin.unwrap().path()).unwrap();
            }
        }
        let opened = Datapath::open_after(&node.settings, &[EARLIER]);
        node.datapath = Some(opened.unwrap_or_else(|error| panic!("{error:?}")));
        assert!(!earlier.exists(), "pins of the earlier layout are left");
    }

    fn node(&self) -> &Node {
        self.node.as_ref().expect("present until the rig is dropped")
    }

    pub(crate) fn mac_of(&self, interface: &str) -> [u8; 6] {
        VETHS.iter().find(|(name, ..)| *name == interface).expect("an interface of the rig").2
    }
}

impl Default for Rig {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(node) = self.node.take()
            && !self.is_used_up
            && !std::thread::panicking()
        {
            node.retire();
        }
    }
}
