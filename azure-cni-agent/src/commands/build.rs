//! What an attachment is made of in the kernel: veth pair, both sides, programs, map entries. It stands once it is recorded.
//!
//! The rule: what is made is known as ours from the moment it exists, so that it can be removed by an agent that finds no
//! record of it. And what undoes a step is known before the step begins, as one whose time is up may have been done.

use std::sync::Arc;

use azure_cni_api::labels;
use azure_cni_api::mac::HOST_MAC;
use azure_cni_datapath::Hook;
use futures::TryFutureExt;
use futures::future::try_join;

use super::error::Failure;
use super::step::Step;
use super::steps::Steps;
use crate::agent::Agent;
use crate::endpoint::{self, Endpoint, EndpointError};
use crate::net::{Link, Netlink, Netns, VethSpec};
use crate::undo::Undo;

/// Builds the endpoint into the pod's namespace. Returns the host veth's index.
pub(super) async fn build(
    agent: &Arc<Agent>,
    endpoint: &Endpoint,
    alias: &str,
    netns: &Netns,
    keep_source: bool,
    steps: &mut Steps,
    undo: &mut Undo,
) -> Result<u32, Failure> {
    undo.push("veth", {
        let (agent, name) = (agent.clone(), endpoint.host_interface.clone());
        async move { remove_leftover(&agent, &name).await.map(drop) }
    });
    // The socket in the pod takes a thread to start: meanwhile the kernel makes the pair.
    let in_pod = async { Ok(Netlink::inside(netns).await.map_err(EndpointError::from)?) };
    let (in_pod, ()) = steps.run(Step::Veth, try_join(in_pod, make_veth(agent, endpoint, netns))).await?;

    let labelled = async {
        let label = agent.netlink.label_link(&endpoint.host_interface, labels::GROUP, alias);
        let (ifindex, ()) =
            try_join(endpoint::index_of(&agent.netlink, &endpoint.host_interface), label.map_err(EndpointError::from))
                .await?;
        Ok(ifindex)
    };
    let ifindex = steps.run(Step::Label, labelled).await?;

    let pod_side = async { Ok(endpoint::build_pod_side(endpoint, netns, &in_pod).await?) };
    steps.run(Step::PodSide, pod_side).await?;

    // Neighbour and route go with the veth.
    let host_side = async {
        endpoint::build_host_side(endpoint, &agent.netlink, ifindex).await?;
        Ok(endpoint::await_carrier(endpoint, &in_pod).await?)
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
    steps.run_blocking(Step::Programs, attached).await?;

    let addresses = endpoint.addresses;
    undo.push("maps", {
        let agent = agent.clone();
        async move { addresses.iter().try_for_each(|address| agent.datapath.tables().remove_endpoint(address)) }
    });
    let set = |address| agent.datapath.tables().set_endpoint(address, agent.endpoint(address, ifindex, keep_source));
    // A few microseconds: a thread that may block would take longer to wake.
    steps.run(Step::Maps, async { Ok(addresses.iter().try_for_each(set)?) }).await?;
    Ok(ifindex)
}

/// A host veth of ours that has this name is nobody's: it is left of a call that did not come to its end.
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
    // In the way is the pod's interface, or something that is not ours to remove.
    if !remove_leftover(agent, &endpoint.host_interface).await? {
        return Err(refused.into());
    }
    tracing::warn!(interface = endpoint.host_interface, "replaced an interface that no attachment has");
    Ok(agent.netlink.create_veth(&spec).await?)
}

/// Removes a host veth if it is one of ours; whether there was one.
async fn remove_leftover(agent: &Agent, name: &str) -> Result<bool, Failure> {
    let Some(leftover) = agent.netlink.link(name).await?.filter(|link| is_ours(agent, link)) else {
        return Ok(false);
    };
    agent.netlink.delete_link_by_index(leftover.index).await?;
    Ok(true)
}

/// Of an agent that labelled nothing yet, the pins tell.
fn is_ours(agent: &Agent, link: &Link) -> bool {
    endpoint::is_labelled(link)
        || (link.is_veth && agent.datapath.pinned_interfaces().is_ok_and(|pins| pins.contains(&link.name)))
}
