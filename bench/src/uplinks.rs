//! What the VMs' uplinks lead to: straight into the far end.
//!
//! The network's router does a packet's routing once more, in the sender's softirq, for every arm alike: ratios would
//! shrink towards 1. So the router's end of a VM's wire is moved into the namespace of whoever is to be reached.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use azure_cni_tests::{Fabric, Namespace, Station, Vm, configure, query};

/// A host of the Internet at the other end of a VM's wire, where it is the VM's gateway too.
pub(crate) struct InternetHost {
    namespace: Namespace,
    address: Ipv4Addr,
}

impl InternetHost {
    /// Takes the VM off the router. Nothing but the VM's primary address can be answered from here.
    pub(crate) fn beyond(net: &Fabric, vm: &Vm) -> Result<Self> {
        let uplink = Uplink::of(vm)?;
        let namespace = Namespace::create(&format!("{}-internet", vm.name()))?;
        take_over_wire(net, vm, namespace.name())?;
        let address = net.internet().address();
        configure(
            &namespace,
            &format!(
                "link set eth0 up\n\
                 addr add {address}/32 dev eth0\n\
                 addr add {gateway}/32 dev eth0\n\
                 route add {vm}/32 dev eth0 src {address}\n\
                 neigh replace {vm} lladdr {mac} dev eth0 nud permanent\n",
                gateway = uplink.gateway,
                vm = vm.address(),
                mac = uplink.mac,
            ),
        )?;
        Ok(Self { namespace, address })
    }
}

impl Station for InternetHost {
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

/// Puts two VMs at the two ends of one wire. Each knows which addresses are behind the other: nobody answers ARP for a
/// pod. The VMs' agents must not run yet: the far VM's uplink is a new one.
pub(crate) fn join(net: &Fabric, near: &Vm, far: &Vm) -> Result<()> {
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
        known().with_context(|| format!("`ip` does not tell how the uplink of {} is set up", vm.name()))
    }
}
