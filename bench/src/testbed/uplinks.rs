//! What the VMs' uplinks lead to: straight into the far end.
//!
//! The network's router does a packet's routing once more, in the sender's softirq, for every variant: ratios would
//! shrink towards 1. So the router's end of a VM's wire is moved into the namespace of the host that is to be reached.

use std::{net::Ipv4Addr, sync::Arc};

use anyhow::{Context, Result};
use azure_cni_tests::{Fabric, Namespace, Station, Vm, configure, query};

/// All of it is the far end's, for loads that need more than one destination.
const INTERNET_PREFIX: &str = "198.51.100.0/24";

/// How many addresses of a peered network the far end has.
pub(crate) const REMOTE_ADDRESSES: u16 = 16_000;
/// They are the first of this.
const REMOTE_PREFIX: &str = "10.250.64.0/18";

/// One of [`REMOTE_ADDRESSES`].
pub(crate) fn remote_address(index: u16) -> Ipv4Addr {
    assert!(index < REMOTE_ADDRESSES, "the far end has {REMOTE_ADDRESSES} addresses");
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 250, 64, 1).to_bits() + u32::from(index))
}

/// A host at the other end of a VM's wire.
pub(crate) struct FarEnd {
    namespace: Arc<Namespace>,
    address: Ipv4Addr,
}

/// Takes the VM off the router. At the other end of its wire are a host of the Internet, which reaches the VM's primary address
/// alone, and one of a peered network, which reaches its pods; both in one namespace, which is the VM's gateway too.
pub(super) fn beyond(net: &Fabric, vm: &Vm) -> Result<(FarEnd, FarEnd)> {
    let uplink = Uplink::of(vm)?;
    let namespace = Namespace::create(&format!("{}-beyond", vm.name()))?;
    take_over_wire(net, vm, namespace.name())?;
    let (internet, peered) = (net.internet().address(), remote_address(0));
    let pods = vm.pool().iter().map(|pod| {
        format!(
            "route add {pod}/32 dev eth0 src {peered}\nneigh replace {pod} lladdr {} dev eth0 nud permanent\n",
            uplink.mac
        )
    });
    configure(
        &namespace,
        &format!(
            "link set eth0 up\n\
             addr add {internet}/32 dev eth0\n\
             addr add {peered}/32 dev eth0\n\
             addr add {gateway}/32 dev eth0\n\
             route add local {INTERNET_PREFIX} dev lo\n\
             route add local {REMOTE_PREFIX} dev lo\n\
             route add {vm}/32 dev eth0 src {internet}\n\
             neigh replace {vm} lladdr {mac} dev eth0 nud permanent\n\
             {pods}",
            gateway = uplink.gateway,
            vm = vm.address(),
            mac = uplink.mac,
            pods = pods.collect::<String>(),
        ),
    )?;
    let namespace = Arc::new(namespace);
    Ok((FarEnd { namespace: Arc::clone(&namespace), address: internet }, FarEnd { namespace, address: peered }))
}

impl Station for FarEnd {
    fn name(&self) -> &str {
        self.namespace.name()
    }

    fn address(&self) -> Ipv4Addr {
        self.address
    }

    fn namespace(&self) -> &Namespace {
        &self.namespace
    }
}

/// A VM's gateway on its uplink.
pub(super) fn gateway(vm: &Vm) -> Result<Ipv4Addr> {
    Uplink::of(vm)?.gateway.parse().context("the gateway's address")
}

/// Puts two VMs at the two ends of one wire. Each knows which addresses are behind the other: no host answers ARP for a
/// pod. The VMs' agents must not run yet: the far VM's uplink is a new one.
pub(super) fn join(net: &Fabric, near: &Vm, far: &Vm) -> Result<()> {
    let (near_uplink, far_uplink) = (Uplink::of(near)?, Uplink::of(far)?);
    configure(far.namespace(), "link del eth0")?;
    take_over_wire(net, near, far.name())?;
    let Uplink { mac, address, gateway } = &far_uplink;
    configure(
        far.namespace(),
        &format!(
            "link set eth0 address {mac} up\naddr add {address} dev eth0\nroute add default via {gateway} dev eth0\n"
        ),
    )?;
    introduce(near, far, &far_uplink)?;
    introduce(far, near, &near_uplink)
}

/// Tells a VM the MAC of everything that is behind another's uplink.
fn introduce(vm: &Vm, other: &Vm, uplink: &Uplink) -> Result<()> {
    let addresses = [other.address()].into_iter().chain(other.pool().iter().copied());
    let neighbour = |address| format!("neigh replace {address} lladdr {} dev eth0 nud permanent\n", uplink.mac);
    Ok(configure(vm.namespace(), &addresses.map(neighbour).collect::<String>())?)
}

/// Moves the router's end of a VM's wire, which has the VM's name there, into a namespace, as its `eth0`.
fn take_over_wire(net: &Fabric, vm: &Vm, namespace: &str) -> Result<()> {
    Ok(configure(net.router(), &format!("link set {} netns {namespace} name eth0", vm.name()))?)
}

/// How a VM's uplink is set up, as `ip` writes it.
struct Uplink {
    mac: String,
    /// With the length of its prefix.
    address: String,
    gateway: String,
}

impl Uplink {
    fn of(vm: &Vm) -> Result<Self> {
        let links = query(vm.namespace(), "addr show dev eth0")?;
        let routes = query(vm.namespace(), "route show default")?;
        let known = || {
            let link = links.first()?;
            let addresses = link["addr_info"].as_array()?;
            let primary = addresses.iter().find(|address| address["local"] == vm.address().to_string())?;
            Some(Self {
                mac: link["address"].as_str()?.into(),
                address: format!("{}/{}", vm.address(), primary["prefixlen"].as_u64()?),
                gateway: routes.first()?["gateway"].as_str()?.into(),
            })
        };
        known().with_context(|| format!("`ip` does not say how the uplink of {} is set up", vm.name()))
    }
}
