//! All maps of the data path, in the agent's types.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Mutex;

use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray};
use azure_cni_common::bandwidth::Limits;
use azure_cni_common::drop_reason::DropReason;
use azure_cni_common::egress::RouteClass;
use azure_cni_common::endpoint::{EndpointEntry, link_local};
use azure_cni_common::family::{Ipv4, Ipv6};
use ipnet::IpNet;

use crate::bandwidth::Bandwidth;
use crate::error::DatapathError;
use crate::family::FamilyTables;
use crate::gateway::GatewaySync;
use crate::map::{absent_is_none, in_map, lock, open};
use crate::names::Names;
use crate::pins::Pins;
use crate::routes::RouteSync;
use crate::settings::Constants;
use crate::table::TableFill;

/// How many packets were dropped, for one reason.
#[derive(Debug, Clone)]
pub struct DropCounter {
    pub reason: DropReason,
    /// One element per possible CPU.
    pub per_cpu: Vec<u64>,
}

/// The routers that all of the Internet is behind. `None`: the programs look up the kernel's routes for every packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gateways {
    pub v4: Option<Ipv4Addr>,
    pub v6: Option<Ipv6Addr>,
}

const LINK_LOCAL: &str = "LINK_LOCALS";

/// The maps. Each has a lock of its own, which is held for one system call at a time.
pub struct Tables {
    pub(crate) v4: FamilyTables<Ipv4>,
    pub(crate) v6: FamilyTables<Ipv6>,
    link_local: Mutex<HashMap<MapData, u32, Ipv6>>,
    bandwidth: Mutex<Bandwidth>,
    pub(crate) host_ports: Mutex<Array<MapData, u64>>,
    drops: Mutex<PerCpuArray<MapData, u64>>,
    has_ipv6: bool,
}

impl Tables {
    pub(crate) fn open(pins: &Pins, constants: &Constants) -> Result<Self, DatapathError> {
        let node6 = constants.node_address6.unwrap_or(Ipv6Addr::UNSPECIFIED);
        let tables = Self {
            v4: FamilyTables::open(pins, Names::V4, constants.node_address.into())?,
            v6: FamilyTables::open(pins, Names::V6, node6.into())?,
            link_local: Mutex::new(open(pins, LINK_LOCAL, Map::HashMap)?),
            bandwidth: Mutex::new(Bandwidth::open(pins)?),
            host_ports: Mutex::new(open(pins, "HOST_PORTS", Map::Array)?),
            drops: Mutex::new(open(pins, "DROPS", Map::PerCpuArray)?),
            has_ipv6: constants.has_ipv6,
        };
        tables.endpoints()?.into_values().try_for_each(|endpoint| tables.set_link_local(endpoint))?;
        tables.v4.begin_pods()?;
        tables.v6.begin_pods()?;
        lock(&tables.bandwidth).retain(|ifindex| tables.has_endpoint(ifindex))?;
        Ok(tables)
    }

    pub fn set_endpoint(&self, address: IpAddr, endpoint: EndpointEntry) -> Result<(), DatapathError> {
        self.set_link_local(endpoint)?;
        let replaced = self.endpoint(address)?;
        match address {
            IpAddr::V4(address) => self.v4.set_endpoint(address.into(), endpoint)?,
            IpAddr::V6(address) => self.v6.set_endpoint(address.into(), endpoint)?,
        }
        self.forget_host_veth(replaced)
    }

    /// The pod that has this address in the data path.
    pub fn endpoint(&self, address: IpAddr) -> Result<Option<EndpointEntry>, DatapathError> {
        match address {
            IpAddr::V4(address) => self.v4.endpoints().get(address.into()),
            IpAddr::V6(address) => self.v6.endpoints().get(address.into()),
        }
    }

    /// Succeeds if the address is not there.
    pub fn remove_endpoint(&self, address: IpAddr) -> Result<(), DatapathError> {
        let removed = self.endpoint(address)?;
        match address {
            IpAddr::V4(address) => self.v4.remove_endpoint(address.into())?,
            IpAddr::V6(address) => self.v6.remove_endpoint(address.into())?,
        }
        self.forget_host_veth(removed)
    }

    /// Forgets what is known of a host veth, unless an endpoint is left behind it.
    fn forget_host_veth(&self, of: Option<EndpointEntry>) -> Result<(), DatapathError> {
        let Some(EndpointEntry { ifindex, .. }) = of.filter(|gone| !self.has_endpoint(gone.ifindex)) else {
            return Ok(());
        };
        lock(&self.bandwidth).remove(ifindex)?;
        absent_is_none(lock(&self.link_local).remove(&ifindex)).map(drop).map_err(in_map(LINK_LOCAL))
    }

    /// Whether a pod behind this host veth has an address.
    fn has_endpoint(&self, ifindex: u32) -> bool {
        self.v4.endpoints().has(ifindex) || self.v6.endpoints().has(ifindex)
    }

    /// How fast the pod behind this host veth may send and receive. To be set before its endpoints are, which say by a flag that
    /// there are limits; they go with its last endpoint. The same limits once more change nothing.
    pub fn set_limits(&self, ifindex: u32, limits: Limits) -> Result<(), DatapathError> {
        lock(&self.bandwidth).set(ifindex, limits)
    }

    /// `None`: the pod has no limits.
    pub fn limits(&self, ifindex: u32) -> Result<Option<Limits>, DatapathError> {
        lock(&self.bandwidth).get(ifindex)
    }

    /// Of all pods that have any, by host veth.
    pub fn all_limits(&self) -> Result<BTreeMap<u32, Limits>, DatapathError> {
        lock(&self.bandwidth).all()
    }

    /// Of the pod that an endpoint belongs to, by whatever address.
    fn set_link_local(&self, endpoint: EndpointEntry) -> Result<(), DatapathError> {
        let address = link_local(endpoint.mac());
        lock(&self.link_local).insert(endpoint.ifindex, address, 0).map_err(in_map(LINK_LOCAL))
    }

    /// All pods in the data path, of both families.
    pub fn endpoints(&self) -> Result<BTreeMap<IpAddr, EndpointEntry>, DatapathError> {
        let v4 =
            self.v4.endpoints().all()?.into_iter().map(|(address, endpoint)| (IpAddr::V4(address.into()), endpoint));
        let v6 =
            self.v6.endpoints().all()?.into_iter().map(|(address, endpoint)| (IpAddr::V6(address.into()), endpoint));
        Ok(v4.chain(v6).collect())
    }

    /// Single addresses that are reached through the host's stack, of both families.
    pub fn host_addresses(&self) -> Result<Vec<IpAddr>, DatapathError> {
        let v4 = self.v4.routes().of(RouteClass::HOST)?.into_iter().filter(|(length, _)| *length == Ipv4Addr::BITS);
        let v6 = self.v6.routes().of(RouteClass::HOST)?.into_iter().filter(|(length, _)| *length == Ipv6Addr::BITS);
        let v4 = v4.map(|(_, address)| IpAddr::V4(address.into()));
        Ok(v4.chain(v6.map(|(_, address)| IpAddr::V6(address.into()))).collect())
    }

    /// Writes the slots of the endpoints' cache that are not as the pods say. Returns how many there were.
    pub fn repair_endpoint_cache(&self) -> Result<usize, DatapathError> {
        Ok(self.v4.endpoints().repair_cache()? + self.v6.endpoints().repair_cache()?)
    }

    /// Makes the route tables hold exactly these prefixes, as far as there is room. Writes only where they do not. A prefix that
    /// stays is never absent meanwhile.
    pub fn set_routes(&self, wanted: &BTreeMap<IpNet, RouteClass>) -> Result<RouteSync, DatapathError> {
        let (mut v4, mut v6) = (BTreeMap::new(), BTreeMap::new());
        for (prefix, class) in wanted {
            let length = u32::from(prefix.prefix_len());
            match prefix {
                IpNet::V4(prefix) => v4.insert((length, Ipv4::from(prefix.network())), *class),
                IpNet::V6(prefix) => v6.insert((length, Ipv6::from(prefix.network())), *class),
            };
        }
        // The programs ask for no route of IPv6 then, and the table has no room.
        if !self.has_ipv6 {
            v6.clear();
        }
        let (v4, v6) = (self.v4.routes().set(v4)?, self.v6.routes().set(v6)?);
        Ok(RouteSync { repaired: v4.repaired + v6.repaired, left_out: v4.left_out + v6.left_out })
    }

    /// How many prefixes the route tables have room for: IPv4, IPv6. `None`: its routes are not written.
    pub fn route_room(&self) -> [Option<usize>; 2] {
        [Some(self.v4.routes().room()), self.has_ipv6.then(|| self.v6.routes().room())]
    }

    /// Prefixes that the route tables had no room for at the last time.
    pub fn routes_left_out(&self) -> usize {
        self.v4.routes().left_out() + self.v6.routes().left_out()
    }

    pub fn set_gateways(&self, gateways: Gateways) -> Result<GatewaySync, DatapathError> {
        let v4 = self.v4.gateway().set(gateways.v4.map(Ipv4::from).unwrap_or_default())?;
        let v6 = self.v6.gateway().set(gateways.v6.map(Ipv6::from).unwrap_or_default())?;
        Ok(GatewaySync { changed: v4.changed || v6.changed, repaired: v4.repaired || v6.repaired })
    }

    /// How many assured flows each pod has, of both families.
    pub fn pod_flows(&self) -> Result<BTreeMap<IpAddr, u64>, DatapathError> {
        let v4 = self.v4.pod_flows.live()?.into_iter().map(|(pod, flows)| (IpAddr::V4(pod.into()), flows));
        let v6 = self.v6.pod_flows.live()?.into_iter().map(|(pod, flows)| (IpAddr::V6(pod.into()), flows));
        Ok(v4.chain(v6).collect())
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

    /// How full the tables of flows, translations and routes are: assured before half-open ones, IPv4 before IPv6.
    pub fn fills(&self) -> Result<Vec<TableFill>, DatapathError> {
        let mut fills = self.v4.fills()?;
        if self.has_ipv6 {
            fills.extend(self.v6.fills()?);
        }
        Ok(fills)
    }

    /// Removes every flow and translation of an address, so that the next pod with it receives no packet of theirs.
    pub fn scrub(&self, address: IpAddr) -> Result<usize, DatapathError> {
        match address {
            IpAddr::V4(address) => self.v4.scrub(|of| of == address.into()),
            IpAddr::V6(address) => self.v6.scrub(|of| of == address.into()),
        }
    }

    /// The same for many addresses, in one pass over the tables.
    pub fn scrub_all(&self, condemned: impl Fn(IpAddr) -> bool) -> Result<usize, DatapathError> {
        let v4 = self.v4.scrub(|of| condemned(IpAddr::V4(of.into())))?;
        Ok(v4 + self.v6.scrub(|of| condemned(IpAddr::V6(of.into())))?)
    }
}
