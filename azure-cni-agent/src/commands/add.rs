//! ADD: addresses, a veth pair, programs, a record. Every step that was done is undone when a later one fails.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use ipnet::IpNet;

use super::error::Failure;
use super::step::Step;
use super::steps::Steps;
use super::{addresses_of, open_pod_netns, publish_routes, turn};
use crate::agent::Agent;
use crate::cni::{AddCall, AddResult, AttachmentId, CniError, Interface, IpConfig, Route};
use crate::datapath::Hook;
use crate::endpoint::{self, Endpoint, HOST_MAC, gateway_for};
use crate::moment::Moment;
use crate::net::{Netns, RouteEntry, VethSpec};
use crate::spool;
use crate::state::AttachmentRecord;
use crate::undo::Undo;
use crate::{findings, node};

/// Attaches a pod. The same call again for an attachment that stands gives the same result.
pub async fn add(agent: &Arc<Agent>, call: AddCall, asked: Moment, steps: &mut Steps) -> Result<AddResult, CniError> {
    let _turn = turn(agent, &call.attachment, steps).await?;
    let netns = open_pod_netns(&call.netns)?;
    if let Err(error) = spool::carry_out_before_add(agent, &call.attachment).await {
        tracing::error!(%error, "the spool cannot be read");
    }
    if let Some(record) = standing(agent, &call.attachment, &netns, steps).await? {
        tracing::info!(attachment = %call.attachment, "stands already");
        let record = AttachmentRecord { asked, made: Moment::now(), ..record };
        write(agent, record.clone(), steps).await?;
        return result(&call, &record);
    }
    let mut undo = Undo::default();
    match attach(agent, &call, asked, &netns, steps, &mut undo).await {
        Ok(record) => result(&call, &record),
        Err(failure) => {
            steps.settle().await;
            undo.run().await;
            Err(failure.into())
        }
    }
}

/// The record of the attachment if it stands in this very namespace. Remains of one that does not are removed.
async fn standing(
    agent: &Arc<Agent>,
    id: &AttachmentId,
    netns: &Netns,
    steps: &mut Steps,
) -> Result<Option<AttachmentRecord>, CniError> {
    let looked = steps.run(Step::Look, async {
        let Some(record) = agent.record(id).await? else { return Ok((None, false)) };
        let link = agent.netlink.link(&record.host_interface).await?;
        let stands = record.netns_id == Some(netns.id()) && link.is_some_and(|link| link.index == record.host_ifindex);
        Ok((Some(record), stands))
    });
    match looked.await? {
        (Some(record), true) => Ok(Some(record)),
        (Some(_), false) => {
            tracing::warn!(attachment = %id, "an earlier attachment of this name is gone; removing its remains");
            super::del::detach(agent, id, steps).await?;
            Ok(None)
        }
        (None, _) => Ok(None),
    }
}

/// The undo of each step is pushed before the step: one whose time is up may have been done in part.
async fn attach(
    agent: &Arc<Agent>,
    call: &AddCall,
    asked: Moment,
    netns: &Netns,
    steps: &mut Steps,
    undo: &mut Undo,
) -> Result<AttachmentRecord, Failure> {
    let id = &call.attachment;

    let pool = agent.pool();
    let mtu = agent.pod_mtu(call.config.mtu);
    if let Some(problem) = node::ipv6_mtu_problem(mtu).filter(|_| pool.is_dual_stack()) {
        return Err(Failure::Unfit(problem));
    }
    steps.run(Step::Look, expect_fit(agent)).await?;

    undo.push("lease", {
        let (agent, id) = (agent.clone(), id.clone());
        async move {
            agent.release(&id).await;
            Ok::<(), Failure>(())
        }
    });
    let addresses = steps.run(Step::Lease, async { Ok(agent.lease(id, &call.config.wish).await?) }).await?;

    let endpoint = Endpoint {
        addresses,
        node_addresses: pool.primaries(),
        host_interface: endpoint::host_interface(id),
        pod_interface: id.ifname.to_string(),
        pod_mac: call.config.mac.unwrap_or_else(|| endpoint::pod_mac(id)),
        mtu,
    };
    undo.push("veth", {
        let (agent, name) = (agent.clone(), endpoint.host_interface.clone());
        async move { agent.netlink.delete_link(&name).await }
    });
    steps.run(Step::Veth, make_veth(agent, &endpoint, netns)).await?;

    steps.run(Step::PodSide, async { Ok(endpoint::build_pod_side(&endpoint, netns).await?) }).await?;

    // Neighbour and route go with the veth.
    let host_side = async {
        let ifindex = endpoint::build_host_side(&endpoint, &agent.netlink).await?;
        endpoint::await_carrier(&endpoint, netns).await?;
        Ok(ifindex)
    };
    let ifindex = steps.run(Step::HostSide, host_side).await?;

    undo.push("programs", {
        let (agent, name) = (agent.clone(), endpoint.host_interface.clone());
        async move { Hook::ENDPOINT.iter().try_for_each(|hook| agent.datapath.detach(*hook, &name)) }
    });
    let attached = {
        let (agent, name) = (agent.clone(), endpoint.host_interface.clone());
        move || Ok(Hook::ENDPOINT.iter().try_for_each(|hook| agent.datapath.attach(*hook, &name))?)
    };
    steps.run_blocking(Step::Programs, attached).await?;

    undo.push("maps", {
        let agent = agent.clone();
        async move { addresses.iter().try_for_each(|address| agent.datapath.tables().remove_endpoint(address)) }
    });
    let keep_source = call.config.keep_source;
    let mapped = {
        let agent = agent.clone();
        move || {
            let set =
                |address| agent.datapath.tables().set_endpoint(address, agent.endpoint(address, ifindex, keep_source));
            Ok(addresses.iter().try_for_each(set)?)
        }
    };
    steps.run_blocking(Step::Maps, mapped).await?;

    let record = AttachmentRecord {
        id: id.clone(),
        addresses: addresses.iter().collect(),
        host_interface: endpoint.host_interface,
        host_ifindex: ifindex,
        pod_mac: endpoint.pod_mac,
        netns: call.netns.clone(),
        netns_id: Some(netns.id()),
        boot_id: agent.boot_id.clone(),
        mtu: endpoint.mtu,
        via_host: call.config.ips_to_route_via_host.clone(),
        keep_source,
        asked,
        made: Moment::now(),
    };
    undo.push("record", {
        let (agent, id) = (agent.clone(), id.clone());
        async move {
            agent.with_store(move |store| store.remove(&id)).await?;
            publish_routes(&agent).await
        }
    });
    write(agent, record.clone(), steps).await?;
    if !record.via_host.is_empty() {
        publish_routes(agent).await?;
    }
    Ok(record)
}

/// A pod on a node that is not fit would have no network: the runtime is told to come again, as STATUS tells it.
async fn expect_fit(agent: &Arc<Agent>) -> Result<(), Failure> {
    match findings::told(&findings::of_node(agent).await) {
        Some(problems) => Err(Failure::NotReady(problems)),
        None => Ok(()),
    }
}

async fn write(agent: &Agent, record: AttachmentRecord, steps: &mut Steps) -> Result<(), Failure> {
    let store = agent.store.clone();
    steps.run_blocking(Step::Record, move || Ok(store.put(&record)?)).await
}

/// A host veth of this name is ours and nobody's: it is left of a call that did not come to its end.
async fn make_veth(agent: &Agent, endpoint: &Endpoint, netns: &Netns) -> Result<(), Failure> {
    let spec = VethSpec {
        host_name: &endpoint.host_interface,
        host_mac: HOST_MAC,
        pod_name: &endpoint.pod_interface,
        pod_mac: endpoint.pod_mac,
        pod_netns: netns,
        mtu: endpoint.mtu,
    };
    match agent.netlink.create_veth(&spec).await {
        Err(error) if error.exists() && agent.netlink.link(&endpoint.host_interface).await?.is_some() => {
            tracing::warn!(interface = endpoint.host_interface, "replacing an interface that no attachment has");
            agent.netlink.delete_link(&endpoint.host_interface).await?;
            Ok(agent.netlink.create_veth(&spec).await?)
        }
        other => Ok(other?),
    }
}

/// What the runtime is told: the host's end, the pod's end with its sandbox, the addresses on the latter.
fn result(call: &AddCall, record: &AttachmentRecord) -> Result<AddResult, CniError> {
    let addresses = addresses_of(record)?;
    let interface = |name: &str, mac: [u8; 6], sandbox| Interface {
        name: name.to_owned(),
        mac: Some(mac.map(|byte| format!("{byte:02x}")).join(":")),
        mtu: Some(record.mtu),
        sandbox,
        socket_path: None,
        pci_id: None,
    };
    let ip =
        |address| IpConfig { address: IpNet::from(address), gateway: Some(gateway_for(address)), interface: Some(1) };
    let default_route = |address| Route::new(RouteEntry::default_like(address), Some(gateway_for(address)));
    let ours = AddResult {
        interfaces: vec![
            interface(&record.host_interface, HOST_MAC, None),
            interface(record.id.ifname.as_str(), record.pod_mac, Some(call.netns.display().to_string())),
        ],
        ips: addresses.iter().map(ip).collect(),
        routes: addresses.iter().map(default_route).collect(),
        dns: call.config.dns.clone(),
    };
    Ok(match &call.config.prev_result {
        Some(earlier) => ours.after(earlier.clone()),
        None => ours,
    })
}
