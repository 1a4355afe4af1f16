//! Gives a VM its pods, as a variant attaches them.

use std::{net::Ipv4Addr, path::Path as FilePath};

use anyhow::Result;
use azure_cni_tests::{Pod, Station, Vm};

use super::reference::{Reference, ReferenceNode};
use crate::variant::Variant;

pub(crate) type Endpoint<'net> = Box<dyn Station + 'net>;

/// For the variant that knows them. All others of ours have what a default installation has: no such key.
const SERVICE_PREFIXES: &str = "routing.service_prefixes = ['10.0.0.0/16']";

/// Pods of one VM, and where they end on the VM's side if that is one interface for each.
pub(crate) struct Attached<'net> {
    pub(crate) pods: Vec<Endpoint<'net>>,
    /// Of each pod: its address, and its interface on the VM's side.
    pub(super) host_interfaces: Vec<(Ipv4Addr, String)>,
}

/// Gives a VM pods of these names.
pub(crate) fn attach<'net>(
    variant: Variant,
    vm: &'net Vm,
    names: &[&str],
    plugins: &'net FilePath,
) -> Result<Attached<'net>> {
    let Some(reference) = Reference::of(variant) else {
        if variant == Variant::OursServicesKnown {
            vm.overlay_agent_toml(SERVICE_PREFIXES)?;
        }
        vm.start_agent()?;
        let pods = names.iter().map(|name| Ok(vm.add_pod(name)?)).collect::<Result<Vec<Pod>>>()?;
        let host_interfaces = pods.iter().map(|pod| (pod.address(), pod.host_interface().to_owned())).collect();
        return Ok(Attached { pods: pods.into_iter().map(|pod| Box::new(pod) as Endpoint).collect(), host_interfaces });
    };
    let node = ReferenceNode::prepare(vm, plugins, reference)?;
    let pods = names.iter().map(|name| Ok(Box::new(node.add_pod(name)?) as Endpoint)).collect::<Result<_>>()?;
    Ok(Attached { pods, host_interfaces: Vec::new() })
}
