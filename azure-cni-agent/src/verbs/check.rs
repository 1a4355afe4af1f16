//! CHECK: compares the attachment with what ADD made. What later plugins of the chain added does not matter.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use azure_cni_api::cni::{CheckCall, CniError};
use azure_cni_api::mac::HOST_MAC;
use azure_cni_common::bandwidth::Limits;
use azure_cni_common::endpoint::EndpointFlags;
use azure_cni_datapath::{Attachment, Hook};
use azure_cni_ipam::Addresses;

use super::failure::{Failure, no_ipv4};
use super::lock::lock;
use super::pod_netns::open_pod_netns;
use super::step_runner::StepRunner;
use crate::agent::Agent;
use crate::endpoint::{Endpoint, EndpointError, PodOptions};
use crate::net::{Netlink, Netns};
use crate::programs::{self, ForeignFilter, Interface};
use crate::state::AttachmentRecord;

/// Fails with one error that names every difference.
pub async fn check(agent: &Arc<Agent>, call: CheckCall, steps: &mut StepRunner) -> Result<(), CniError> {
    let _lock = lock(agent, &call.attachment, steps).await?;
    let netns = open_pod_netns(&call.netns)?;
    let record = agent.record(&call.attachment);
    let Some(record) = record else {
        return Err(CniError::unknown_container(format!("no attachment {} is known here", call.attachment)));
    };
    let endpoint = Endpoint::of_record(&record, agent.pool().primaries()).ok_or_else(|| no_ipv4(&record))?;

    let mut findings = Vec::new();
    against_records(agent, &call, &record, endpoint.addresses, &netns, &mut findings);
    pod_side(&endpoint, &netns, &mut findings).await?;
    host_side(agent, &endpoint, PodOptions::of_record(&record), &mut findings).await?;
    if findings.is_empty() {
        return Ok(());
    }
    let text = format!("attachment {} is not as it was made: {}", call.attachment, findings.join("; "));
    Err(CniError::check_failed(text))
}

/// Compares runtime, record and lease.
fn against_records(
    agent: &Agent,
    call: &CheckCall,
    record: &AttachmentRecord,
    addresses: Addresses,
    netns: &Netns,
    findings: &mut Vec<String>,
) {
    let expected: BTreeSet<IpAddr> = call.prev_result.ips.iter().map(|ip| ip.address.addr()).collect();
    let leased: Vec<IpAddr> = agent.leases.lease_of(&call.attachment).iter().flat_map(Addresses::iter).collect();
    for address in addresses.iter() {
        if !expected.contains(&address) {
            findings.push(format!("prevResult does not have its address {address}"));
        }
        if !leased.contains(&address) {
            findings.push(format!("address {address} is not leased to it"));
        }
    }
    if record.netns_id != Some(netns.id()) {
        findings.push(format!("{} is another network namespace than at ADD", call.netns.display()));
    }
}

async fn pod_side(endpoint: &Endpoint, netns: &Netns, findings: &mut Vec<String>) -> Result<(), Failure> {
    let netlink = Netlink::inside(netns).await.map_err(EndpointError::from)?;
    let name = &endpoint.pod_interface;
    let Some(link) = netlink.link(name).await? else {
        findings.push(format!("interface {name} is missing in the pod"));
        return Ok(());
    };
    if link.mac != endpoint.pod_mac {
        findings.push(format!("interface {name} in the pod has another MAC address"));
    }
    if !link.is_up {
        findings.push(format!("interface {name} in the pod is down"));
    }
    let present = netlink.addresses(Some(link.index)).await?;
    for wanted in endpoint.pod_prefixes().filter(|prefix| !present.contains(prefix)) {
        findings.push(format!("interface {name} in the pod lacks {wanted}"));
    }
    let routes = match endpoint.table {
        Some(table) => netlink.routes_in(table).await?,
        None => netlink.routes().await?,
    };
    let rules = if endpoint.table.is_some() { netlink.rules().await? } else { Vec::new() };
    for wanted in endpoint.pod_rules().filter(|wanted| !rules.contains(wanted)) {
        findings.push(format!("the pod lacks the rule for packets from {}", wanted.source));
    }
    for wanted in endpoint.pod_routes(link.index) {
        if !routes.contains(&wanted) {
            findings.push(format!("the pod lacks the route to {}", wanted.destination));
        }
    }
    let neighbours = netlink.permanent_neighbours().await?;
    for wanted in endpoint.gateway_neighbours(link.index).filter(|wanted| !neighbours.contains(wanted)) {
        findings.push(format!("the pod lacks the neighbour entry of its gateway {}", wanted.address));
    }
    Ok(())
}

async fn host_side(
    agent: &Agent,
    endpoint: &Endpoint,
    options: PodOptions,
    findings: &mut Vec<String>,
) -> Result<(), Failure> {
    let name = &endpoint.host_interface;
    let Some(link) = agent.netlink.link(name).await? else {
        findings.push(format!("interface {name} is missing on the host"));
        return Ok(());
    };
    if !link.is_up {
        findings.push(format!("interface {name} on the host is down"));
    }
    if link.mac != HOST_MAC {
        findings.push(format!("interface {name} on the host has another MAC address"));
    }
    let routes = agent.netlink.routes().await?;
    for wanted in endpoint.host_routes(link.index).filter(|wanted| !routes.contains(wanted)) {
        findings.push(format!("the host lacks the route to {}", wanted.destination.addr()));
    }
    let neighbours = agent.netlink.permanent_neighbours().await?;
    for wanted in endpoint.pod_neighbours(link.index).filter(|wanted| !neighbours.contains(wanted)) {
        findings.push(format!("the host lacks the neighbour entry of {}", wanted.address));
    }
    for hook in Hook::ENDPOINT {
        let interface = Interface { name, index: link.index };
        match programs::attachment(&agent.netlink, &agent.datapath, hook, interface).await? {
            Attachment::Current => {}
            Attachment::Outdated | Attachment::Missing => {
                findings.push(format!("program {} is not attached to {name}", hook.program()));
            }
            Attachment::Foreign(holder) => {
                findings.push(ForeignFilter { hook, interface: name.clone(), holder }.to_string());
            }
        }
    }
    let mut is_flagged = true;
    for address in endpoint.addresses.iter() {
        match agent.datapath.tables().endpoint(address)?.filter(|found| found.ifindex == link.index) {
            Some(found) => is_flagged &= found.flags.has(EndpointFlags::LIMITED),
            None => findings.push(format!("the data path does not send {address} to {name}")),
        }
    }
    let limits = agent.datapath.tables().limits(link.index)?.unwrap_or(Limits::NONE);
    let is_limited = options.bandwidth.is_limited();
    if !limits.limits_like(&options.limits()) || (is_limited && !is_flagged) {
        findings.push("the data path does not hold the pod's bandwidth to its limits".to_owned());
    }
    Ok(())
}
