//! The virtual network: a router that plays the platform, and machines around it.
//!
//! The router answers every ARP request, delivers each address to the MAC of the VM that owns it, and silently loses
//! what is sent to an address that nobody has. The Internet's host has routes to primary addresses only, so a packet that
//! carries a pod's address out there can never be answered.

use std::fmt::Write;

use crate::{
    builder::FabricBuilder,
    error::Result,
    ip::configure,
    namespace::Namespace,
    offload::set_checksum_offload,
    plan::{self, Place, VNET_PREFIX, mac_text},
    sandbox::Sandbox,
    station::{Host, Station},
    vm::Vm,
};

/// A running network. Dropping it ends every process and removes every trace.
pub struct Fabric {
    // In the order of their end: agents, then namespaces, then the mounts that hold them.
    vms: Vec<Vm>,
    peer: Host,
    internet: Host,
    platform: Host,
    router: Namespace,
    mtu: u16,
    sandbox: Sandbox,
}

impl Fabric {
    /// Starts choosing a network.
    pub fn builder() -> FabricBuilder {
        FabricBuilder::default()
    }

    /// VM number `index`, from 0.
    pub fn vm(&self, index: usize) -> &Vm {
        &self.vms[index]
    }

    /// All VMs.
    pub fn vms(&self) -> &[Vm] {
        &self.vms
    }

    /// A host of a peered VNet: it reaches pods and is reached by them.
    pub fn peer(&self) -> &Host {
        &self.peer
    }

    /// A host of the Internet: it can answer only primary addresses.
    pub fn internet(&self) -> &Host {
        &self.internet
    }

    /// The platform's wire server, 168.63.129.16.
    pub fn platform(&self) -> &Host {
        &self.platform
    }

    /// The platform's router, where every packet on the wire passes.
    pub fn router(&self) -> &Namespace {
        &self.router
    }

    /// The MTU of every link.
    pub fn mtu(&self) -> u16 {
        self.mtu
    }

    /// Where further namespaces and files of this network go.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    pub(crate) fn build(choice: &FabricBuilder) -> Result<Self> {
        let sandbox = Sandbox::enter()?;
        let router = start_router()?;
        let hosts: Vec<Host> = (0..choice.vms)
            .map(|index| attach(&router, plan::vm(index, choice.pool), choice))
            .collect::<Result<_>>()?;
        let [peer, internet, platform] = [plan::peer(), plan::internet(), plan::platform()];
        let (peer, internet, platform) =
            (attach(&router, peer, choice)?, attach(&router, internet, choice)?, attach(&router, platform, choice)?);
        for routed in [&peer, &platform] {
            route_to_everything(routed)?;
        }
        for vm in &hosts {
            route_to_everything(vm)?;
            let route = format!("route add {}/32 via {}", vm.address(), internet.place().gateway);
            configure(internet.namespace(), &route)?;
        }
        let vms = hosts.into_iter().map(|host| Vm::prepare(&sandbox, host, choice)).collect::<Result<_>>()?;
        let fabric = Self { vms, peer, internet, platform, router, mtu: choice.mtu, sandbox };
        if choice.agents {
            fabric.vms.iter().try_for_each(Vm::start_agent)?;
        }
        Ok(fabric)
    }
}

fn start_router() -> Result<Namespace> {
    let router = Namespace::create("fabric")?;
    for (key, value) in [
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/ipv4/conf/default/rp_filter", "0"),
        ("net/ipv4/conf/all/send_redirects", "0"),
        ("net/ipv4/conf/default/send_redirects", "0"),
    ] {
        router.sysctl(key, value)?;
    }
    // An end of a pair whose other end stays down loses everything, and makes the VNet's unused addresses answerable by
    // proxy ARP, as on the platform.
    let nowhere = format!(
        "link add nowhere type veth peer name nowhere-end\nlink set nowhere arp off up\nroute add {VNET_PREFIX} dev nowhere\n"
    );
    configure(&router, &nowhere)?;
    Ok(router)
}

/// Links a machine to the router: `eth0` there, its name here.
fn attach(router: &Namespace, place: Place, choice: &FabricBuilder) -> Result<Host> {
    let host = Host::unattached(place)?;
    let Place { name, mac, address, prefix_len, gateway, secondaries } = host.place();
    let (mtu, mac) = (choice.mtu, mac_text(*mac));
    let mut router_side = format!(
        "link add {name} mtu {mtu} type veth peer name eth0 address {mac} mtu {mtu} netns {name}\n\
         link set {name} up\n\
         addr replace {gateway}/32 dev lo\n\
         route add {address}/32 dev {name}\n\
         neigh replace {address} lladdr {mac} dev {name} nud permanent\n"
    );
    for secondary in secondaries {
        writeln!(router_side, "route add {secondary}/32 via {address} dev {name} onlink").expect("a String takes all");
    }
    configure(router, &router_side)?;
    for key in ["conf/{}/proxy_arp", "conf/{}/forwarding"] {
        router.sysctl(&format!("net/ipv4/{}", key.replace("{}", name)), "1")?;
    }
    router.sysctl(&format!("net/ipv4/neigh/{name}/proxy_delay"), "0")?;
    set_checksum_offload(router, name, choice.checksum_offload)?;

    configure(host.namespace(), &format!("link set eth0 up\naddr add {address}/{prefix_len} dev eth0\n"))?;
    set_checksum_offload(host.namespace(), "eth0", choice.checksum_offload)?;
    // Loose, as Debian and Ubuntu ship it; stated because namespaces inherit whatever the machine has.
    for conf in ["all", "default", "eth0"] {
        host.namespace().sysctl(&format!("net/ipv4/conf/{conf}/rp_filter"), "2")?;
    }
    Ok(host)
}

fn route_to_everything(host: &Host) -> Result<()> {
    configure(host.namespace(), &format!("route add default via {} dev eth0", host.place().gateway))
}
