//! Builds an endpoint in the kernel: veth pair, both sides, programs, map entries. It stands once it is recorded.
//!
//! The rules: what is made is marked as ours from its first moment, so that an agent that finds no record of it can remove
//! it. The undo of a step is pushed before the step begins, as a step whose limit passes may have been done.

use std::sync::Arc;

use azure_cni_api::labels;
use azure_cni_api::mac::HOST_MAC;
use azure_cni_api::names;
use azure_cni_datapath::{DatapathError, Hook};
use azure_cni_ipam::Addresses;
use futures::TryFutureExt;
use futures::future::{try_join, try_join3};

use super::failure::Failure;
use super::step_runner::StepRunner;
use super::undo::Undo;
use crate::agent::Agent;
use crate::endpoint::{self, Endpoint, EndpointError, PodOptions};
use crate::net::{Netlink, Netns, VethSpec};
use crate::programs::{self, Interface};
use crate::steps::Step;

/// Builds the endpoint of a pod in this namespace, with routes in a table of its own if the pod has a default route. Returns
/// the host veth's index.
pub async fn build_endpoint(
    agent: &Arc<Agent>,
    endpoint: &mut Endpoint,
    alias: &str,
    netns: &Netns,
    options: PodOptions,
    steps: &mut StepRunner,
    undo: &mut Undo,
) -> Result<u32, Failure> {
    undo.push("veth", {
        let (agent, name) = (agent.clone(), endpoint.host_interface.clone());
        async move { remove_leftover(&agent, &name).await.map(drop) }
    });
    // Opening the socket in the pod needs another thread. Meanwhile the kernel makes the pair.
    let in_pod = async { Ok(Netlink::inside(netns).await.map_err(EndpointError::from)?) };
    let (in_pod, ()) = steps.run(Step::Veth, try_join(in_pod, make_veth(agent, endpoint, netns))).await?;

    let labelled = async {
        let label = agent.netlink.label_link(&endpoint.host_interface, labels::GROUP, alias);
        // The new interface has no routes yet.
        let (ifindex, (), is_further) = try_join3(
            endpoint::index_of(&agent.netlink, &endpoint.host_interface),
            label.map_err(EndpointError::from),
            has_default_route(&in_pod, endpoint.addresses),
        )
        .await?;
        Ok((ifindex, is_further))
    };
    let (ifindex, is_further) = steps.run(Step::Label, labelled).await?;
    if is_further {
        endpoint.table = Some(names::route_table(&endpoint.host_interface));
    }
    let endpoint = &*endpoint;

    let pod_side = async { Ok(endpoint::configure_pod_side(endpoint, netns, &in_pod).await?) };
    steps.run(Step::PodSide, pod_side).await?;

    // Neighbour and route go with the veth.
    let host_side = async {
        endpoint::configure_host_side(endpoint, &agent.netlink, ifindex).await?;
        Ok(endpoint::await_usable(&endpoint.pod_interface, endpoint.addresses.v6, &in_pod).await?)
    };
    steps.run(Step::HostSide, host_side).await?;

    undo.push("programs", {
        let (agent, name) = (agent.clone(), endpoint.host_interface.clone());
        async move { Hook::ENDPOINT.iter().try_for_each(|hook| agent.datapath.detach(*hook, &name)) }
    });
    let attached = {
        let (agent, name) = (agent.clone(), endpoint.host_interface.clone());
        move || Ok(Hook::ENDPOINT.iter().try_for_each(|hook| agent.datapath.attach(*hook, &name))?)
    };
    match steps.run_blocking(Step::Programs, attached).await {
        // On an interface that is new, another program was faster.
        Err(Failure::Datapath(DatapathError::Occupied { .. })) => {
            let interface = Interface { name: &endpoint.host_interface, index: ifindex };
            for hook in Hook::ENDPOINT {
                programs::ensure_attached(&agent.netlink, &agent.datapath, hook, interface).await?;
            }
        }
        done => done?,
    }

    let addresses = endpoint.addresses;
    undo.push("maps", {
        let agent = agent.clone();
        async move { addresses.iter().try_for_each(|address| agent.datapath.tables().remove_endpoint(address)) }
    });
    let set = |address| agent.set_endpoint(address, ifindex, endpoint.pod_mac, options);
    // This takes microseconds: waking a thread that may block would take longer.
    steps.run(Step::Maps, async { Ok(addresses.iter().try_for_each(set)?) }).await?;
    Ok(ifindex)
}

async fn has_default_route(in_pod: &Netlink, addresses: Addresses) -> Result<bool, EndpointError> {
    for address in addresses.iter() {
        if in_pod.has_default_route(address).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes the veth pair. A host veth of ours that has this name already is a leftover of a call that did not end.
async fn make_veth(agent: &Agent, endpoint: &Endpoint, netns: &Netns) -> Result<(), Failure> {
    let spec = VethSpec {
        host_name: &endpoint.host_interface,
        host_mac: HOST_MAC,
        host_group: labels::GROUP,
        pod_name: &endpoint.pod_interface,
        pod_mac: endpoint.pod_mac,
        pod_netns: netns,
        mtu: endpoint.mtu,
    };
    let refused = match agent.netlink.create_veth(&spec).await {
        Err(error) if error.exists() => error,
        other => return Ok(other?),
    };
    // Otherwise the pod's interface is in the way, or one that is not ours to remove.
    if !remove_leftover(agent, &endpoint.host_interface).await? {
        return Err(refused.into());
    }
    tracing::warn!(interface = endpoint.host_interface, "replaced an interface that no attachment has");
    Ok(agent.netlink.create_veth(&spec).await?)
}

/// Removes a host veth if it is ours. Returns whether there was one.
async fn remove_leftover(agent: &Agent, name: &str) -> Result<bool, Failure> {
    let Some(leftover) = agent.netlink.link(name).await?.filter(endpoint::is_ours) else {
        return Ok(false);
    };
    agent.netlink.delete_link_by_index(leftover.index).await?;
    Ok(true)
}
