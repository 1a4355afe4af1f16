//! The virtual network: a router that plays the platform, and machines around it.
//!
//! The router silently drops packets to unused addresses. The Internet's host has routes to primary addresses only, so a
//! packet with a pod's source gets no answer there, unless the test configures it.

use std::{fmt::Write, net::IpAddr};

use crate::{
    error::Result,
    ip::configure,
    namespace::Namespace,
    options::FabricOptions,
    plan::{self, GATEWAY6, Place, VNET_PREFIX, VNET_PREFIX6},
    platform::Lister,
    router::{Router, route_to_everything},
    sandbox::Sandbox,
    station::{Host, IpVersion, Station},
    vm::Vm,
};

/// All addresses outside of the plan: they never answer.
const ELSEWHERE: [&str; 2] = ["0.0.0.0/0", "::/0"];

/// A running network. Dropping it ends every process and removes every trace.
pub struct Fabric {
    // In the order of their end: agents, then namespaces, then the mounts that hold them.
    vms: Vec<Vm>,
    lister: Option<Lister>,
    peer: Host,
    internet: Host,
    platform: Host,
    router: Router,
    second_router: Option<Router>,
    mtu: u16,
    sandbox: Sandbox,
}

impl Fabric {
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

    /// The service that lists the VMs' addresses.
    ///
    /// # Panics
    /// If there is none: the test forgot `service(..)`.
    pub fn lister(&self) -> &Lister {
        self.lister.as_ref().expect("the network has a service that lists addresses")
    }

    /// The platform's router, where every packet on the wire passes.
    pub fn router(&self) -> &Namespace {
        self.router.namespace()
    }

    /// The routers between a VM and the Internet's host, by the addresses that their ICMP errors come from.
    pub fn routers_to_internet(&self, version: IpVersion) -> Vec<IpAddr> {
        let own = |place: &Place| {
            let mut deliveries = place.deliveries();
            let of_version = deliveries.find(|delivery| IpVersion::of(delivery.router) == version);
            of_version.expect("the network has this version").router
        };
        let second = self.second_router.as_ref().map(|_| own(self.internet.place()));
        [own(self.vms[0].place())].into_iter().chain(second).collect()
    }

    /// The MTU of every link.
    pub fn mtu(&self) -> u16 {
        self.mtu
    }

    /// Where further namespaces and files of this network go.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    pub(crate) fn build(options: &FabricOptions) -> Result<Self> {
        let sandbox = Sandbox::enter()?;
        let router = Router::start("fabric", options)?;
        router.lose(&[&[VNET_PREFIX, VNET_PREFIX6], &ELSEWHERE[..]].concat())?;
        let planned = |place: Place| place.in_network(options.dual_stack);
        let hosts: Vec<Host> = (0..options.vms)
            .map(|index| router.attach(planned(plan::vm(index, options.pool))))
            .collect::<Result<_>>()?;
        let (peer, platform) = (router.attach(planned(plan::peer()))?, router.attach(planned(plan::platform()))?);
        let second_router = options.internet_mtu.map(|mtu| second_router(&router, hosts[0].place(), mtu, options));
        let second_router = second_router.transpose()?;
        let internet = second_router.as_ref().unwrap_or(&router).attach(planned(plan::internet()))?;

        [&peer, &platform].into_iter().chain(&hosts).try_for_each(route_to_everything)?;
        configure(internet.namespace(), &internet_routes(&internet, &hosts, options))?;
        let lister = options.service.map(|service| Lister::start(service, &platform, router.namespace(), &hosts));
        let lister = lister.transpose()?;
        let vms = hosts.into_iter().map(|host| Vm::prepare(&sandbox, host, options)).collect::<Result<_>>()?;
        let fabric = Self { vms, lister, peer, internet, platform, router, second_router, mtu: options.mtu, sandbox };
        if options.agents {
            fabric.vms.iter().try_for_each(Vm::start_agent)?;
        }
        Ok(fabric)
    }
}

fn second_router(router: &Router, near: &Place, mtu: u16, options: &FabricOptions) -> Result<Router> {
    let beyond = Router::start("beyond", options)?;
    router.lead_to(&beyond, &plan::internet().in_network(options.dual_stack), near, mtu)?;
    Ok(beyond)
}

/// To primary addresses; to those of pods only where the test has them routed.
fn internet_routes(internet: &Host, vms: &[Host], options: &FabricOptions) -> String {
    let mut routes = String::new();
    for vm in vms {
        let gateway = internet.place().gateway;
        writeln!(routes, "route add {} via {gateway}", vm.address()).expect("a String takes all");
        if let Some(address) = vm.address6() {
            writeln!(routes, "route add {address} via {GATEWAY6} dev eth0").expect("a String takes all");
        }
    }
    if options.dual_stack && options.internet_routes_pods6 {
        writeln!(routes, "route add {VNET_PREFIX6} via {GATEWAY6} dev eth0").expect("a String takes all");
    }
    routes
}
