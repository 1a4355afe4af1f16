//! What an attachment is made of in the kernel: veth pair, both sides, programs, map entries. It stands once it is recorded.
//!
//! The rule: what is made is known as ours from the moment it exists, so that it can be removed by an agent that finds no
//! record of it.

use std::sync::Arc;

use super::error::Failure;
use super::step::{Faults, Step};
use crate::agent::Agent;
use crate::datapath::Hook;
use crate::endpoint::{self, Endpoint, HOST_MAC, label};
use crate::net::{Link, Netns, VethSpec};
use crate::undo::Undo;

/// Builds the endpoint into the pod's namespace. Returns the host veth's index.
pub(super) async fn build(
    agent: &Arc<Agent>,
    endpoint: &Endpoint,
    alias: &str,
    netns: &Netns,
    keep_source: bool,
    faults: Faults,
    undo: &mut Undo,
) -> Result<u32, Failure> {
    make_veth(agent, endpoint, netns).await?;
    undo.push("veth", {
        let (agent, name) = (agent.clone(), endpoint.host_interface.clone());
        async move { agent.netlink.delete_link(&name).await }
    });
    faults.after(Step::Veth)?;

    agent.netlink.label_link(&endpoint.host_interface, label::GROUP, alias).await?;
    faults.after(Step::Label)?;

    endpoint::build_pod_side(endpoint, netns).await?;
    faults.after(Step::PodSide)?;

    // Neighbour and route go with the veth.
    let ifindex = endpoint::build_host_side(endpoint, &agent.netlink).await?;
    endpoint::await_carrier(endpoint, netns).await?;
    faults.after(Step::HostSide)?;

    undo.push("programs", {
        let (agent, name) = (agent.clone(), endpoint.host_interface.clone());
        async move { Hook::ENDPOINT.iter().try_for_each(|hook| agent.datapath.detach(*hook, &name)) }
    });
    for hook in Hook::ENDPOINT {
        agent.datapath.attach(hook, &endpoint.host_interface)?;
    }
    faults.after(Step::Programs)?;

    let addresses = endpoint.addresses;
    undo.push("maps", {
        let agent = agent.clone();
        async move { addresses.iter().try_for_each(|address| agent.datapath.tables().remove_endpoint(address)) }
    });
    for address in addresses.iter() {
        agent.datapath.tables().set_endpoint(address, agent.endpoint(address, ifindex, keep_source))?;
    }
    faults.after(Step::Maps)?;
    Ok(ifindex)
}

/// A host veth of ours that has this name is nobody's: it is left of a call that did not come to its end.
async fn make_veth(agent: &Agent, endpoint: &Endpoint, netns: &Netns) -> Result<(), Failure> {
    let spec = VethSpec {
        host_name: &endpoint.host_interface,
        host_mac: HOST_MAC,
        host_group: label::GROUP,
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
    let Some(leftover) = agent.netlink.link(&endpoint.host_interface).await?.filter(|link| is_ours(agent, link)) else {
        return Err(refused.into());
    };
    tracing::warn!(interface = endpoint.host_interface, "replacing an interface that no attachment has");
    agent.netlink.delete_link_by_index(leftover.index).await?;
    Ok(agent.netlink.create_veth(&spec).await?)
}

/// Of an agent that labelled nothing yet, the pins tell.
fn is_ours(agent: &Agent, link: &Link) -> bool {
    label::is_labelled(link)
        || (link.is_veth && agent.datapath.pinned_interfaces().is_ok_and(|pins| pins.contains(&link.name)))
}
