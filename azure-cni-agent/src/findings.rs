//! What is wrong with the agent or its node, one sentence for each problem.
//!
//! The rule: what STATUS and ADD fail for is what leaves pods without a network, [`of_node`]. Want of addresses or of room for a
//! record is the error of the ADD that meets it, and a line of the operator's command; a runtime whose STATUS failed for it would
//! have every pod of the node evicted. Observing never fails: what cannot be observed is a finding itself.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use azure_cni_api::cni::AttachmentId;
use azure_cni_datapath::{Attachment, Hook};
use azure_cni_ipam::{Counts, Reserved, Withheld};

use crate::agent::Agent;
use crate::deviations::{Deviation, Remedy};
use crate::internet_way::{self, PodsWay};
use crate::net::Link;
use crate::node;
use crate::programs::{self, ForeignFilter, Interface};
use crate::routing::{Services, room_problem};

/// Since when it is worth a sentence that the rules cannot be read in one piece.
const TORN_FOR_LONG: Duration = Duration::from_secs(10);

/// How many addresses a sentence names.
const MAX_NAMED: usize = 8;

/// What to do about addresses of pods that the host has.
const HELD_BY_HOST: &str = "; take them off it (ip addr del), and keep what put them there from doing so again: cloud-init by \
    \"datasource: {Azure: {apply_network_config: false}}\", systemd-networkd by its Address= lines";

/// What to do about addresses of the pool that a service has.
const OF_SERVICE: &str = "; give the service an address that is not this NIC's, or take this one off the NIC";

/// The findings as one sentence; `None` if there are none.
pub fn summary(findings: &[String]) -> Option<String> {
    (!findings.is_empty()).then(|| findings.join("; "))
}

/// Everything that an operator has to know: what is wrong with the node, and what else would make an ADD fail.
pub async fn all(agent: &Arc<Agent>) -> Vec<String> {
    let mut findings = of_node(agent).await;
    findings.extend(of_pool(agent));
    findings.extend(of_sizes(agent));
    let needs_operator = |deviation: &&Deviation| deviation.remedy() == Remedy::Operator && !deviation.cuts_off();
    findings.extend(agent.node_watch.deviations().iter().filter(needs_operator).map(ToString::to_string));
    findings.extend(agent.refused_network.lock().unwrap_or_else(PoisonError::into_inner).clone());
    findings.extend(agent.services().problem());
    findings.extend(agent.rules_torn_for().and_then(of_torn_rules));
    findings.extend(of_rules(agent));
    findings.extend(of_internet(agent).await);
    findings.extend(of_source(&agent.leases.withheld(), &agent.pool().oddities));
    findings.extend(agent.chain_problems.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned());
    findings.extend(taken_by_host(&agent.leases.taken_by_host()));
    findings.extend(taken_by_services(&agent.leases.taken_by_services()));
    findings.extend(agent.foreign_filters.get().iter().map(ToString::to_string));
    if let Err(error) = agent.with_store(|store| store.expect_usable()).await {
        findings.push(format!("attachments cannot be recorded: {error}"));
    }
    findings
}

/// What the data path needs: the node's settings, its uplink, and the programs there.
pub async fn of_node(agent: &Arc<Agent>) -> Vec<String> {
    let uplink = match agent.current_uplink().await {
        Ok(Some(link)) => link,
        Ok(None) => {
            return vec![Deviation::UplinkGone { name: agent.uplink.name.clone() }.to_string()];
        }
        Err(error) => return vec![format!("uplink {}: {error}", agent.uplink.name)],
    };
    let mut findings = match node::problems(&agent.netlink, &uplink, agent.pool().is_dual_stack()).await {
        Ok(problems) => problems,
        Err(error) => vec![error.to_string()],
    };
    let needs_operator = |deviation: &&Deviation| deviation.remedy() == Remedy::Operator && deviation.cuts_off();
    findings.extend(agent.node_watch.deviations().iter().filter(needs_operator).map(ToString::to_string));
    match agent.datapath.bpffs_problem() {
        Some(problem) => findings.push(problem),
        None => {
            for hook in Hook::UPLINK {
                findings.extend(of_hook(agent, hook, &uplink).await);
            }
        }
    }
    findings
}

async fn of_hook(agent: &Agent, hook: Hook, uplink: &Link) -> Option<String> {
    let (program, name) = (hook.program(), &uplink.name);
    let interface = Interface { name, index: uplink.index };
    match programs::attachment(&agent.netlink, &agent.datapath, hook, interface).await {
        Ok(Attachment::Current) => None,
        Ok(Attachment::Foreign(holder)) => Some(ForeignFilter { hook, interface: name.clone(), holder }.to_string()),
        Ok(Attachment::Outdated | Attachment::Missing) => {
            Some(format!("program {program} is not attached to uplink {name}: the agent puts it back within seconds"))
        }
        Err(error) => Some(format!("program {program} at uplink {name}: {error}")),
    }
}

/// Tables that are not as large as they should be.
fn of_sizes(agent: &Agent) -> Vec<String> {
    let problems = agent.datapath.size_problems();
    let left_out = agent.datapath.tables().routes_left_out();
    let of_routes = (left_out > 0).then(|| {
        format!(
            "the route table is full, and {left_out} prefixes are not in it: destinations of the VNet in them see the node's address. \
             Raise datapath.max_routes and restart azure-cni-agent, or merge routing.vnet_prefixes, or files of routing.masq_dir, \
             into fewer"
        )
    });
    let all_by_host = room_problem(&agent.all_by_host.lock().unwrap_or_else(PoisonError::into_inner));
    problems.iter().map(ToString::to_string).chain(of_routes).chain(all_by_host).collect()
}

/// Rules that change so often that no reading of them is whole.
fn of_torn_rules(torn: Duration) -> Option<String> {
    (torn >= TORN_FOR_LONG).then(|| {
        format!(
            "the node's rules have changed during every reading of them for {} seconds: addresses of new services may be known late,              and go the host's stack for longer than they need to. nft monitor shows what changes",
            torn.as_secs()
        )
    })
}

/// As last read: to read the rules of a large cluster takes longer than the operator's command waits.
fn of_rules(agent: &Agent) -> Vec<String> {
    let pool = agent.pool();
    let own: Vec<_> = pool.primaries().iter().collect();
    agent.hindrances.lock().unwrap_or_else(PoisonError::into_inner).problems(&own, pool.is_dual_stack())
}

/// The node's own way to the Internet, where pods' packets take it too.
async fn of_internet(agent: &Agent) -> Vec<String> {
    let elsewhere = agent.elsewhere.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let are_known =
        agent.routing().config.service_prefixes.is_some() && matches!(*agent.services(), Services::Known(_));
    let pods = PodsWay { by_host: !are_known, elsewhere: &elsewhere };
    match internet_way::problems(&agent.netlink, &agent.uplink, agent.pool().is_dual_stack(), pods).await {
        Ok(problems) => problems,
        Err(error) => vec![error.to_string()],
    }
}

/// The families of which a new pod would get no address.
fn of_pool(agent: &Agent) -> Vec<String> {
    if agent.leases.cns().is_some() {
        // azure-cns knows which addresses are free.
        return Vec::new();
    }
    let counts = agent.leases.counts();
    let v6 = counts.v6.unwrap_or_default();
    let families = [("IPv4", counts.v4, true), ("IPv6", v6, agent.pool().is_dual_stack())];
    let wanted = families.into_iter().filter(|(.., wanted)| *wanted);
    wanted.filter_map(|(family, counts, _)| exhausted(family, counts, agent.config.pool.reuse_cooling)).collect()
}

/// What the source lists and no pod gets: a sentence for each reason, and one for each oddity.
fn of_source(withheld: &[Withheld], oddities: &[String]) -> Vec<String> {
    let mut by_reason = BTreeMap::<Reserved, Vec<IpAddr>>::new();
    for Withheld { address, reason } in withheld {
        by_reason.entry(*reason).or_default().push(*address);
    }
    let sentences = by_reason.into_iter().map(|(reason, addresses)| {
        let advice = match reason {
            Reserved::HeldByHost => HELD_BY_HOST,
            Reserved::OfService => OF_SERVICE,
            _ => "",
        };
        format!("of the addresses listed for pods, no pod gets {}: {reason}{advice}", some_of(addresses.into_iter()))
    });
    sentences.chain(oddities.iter().map(|oddity| format!("the source lists something odd: {oddity}"))).collect()
}

/// A pod and the host that have one address do not reach each other.
fn taken_by_host(taken: &[(IpAddr, AttachmentId)]) -> Option<String> {
    let (_, first) = taken.first()?;
    let addresses = some_of(taken.iter().map(|(address, _)| *address));
    Some(format!("an interface of the host has {addresses}, which a pod has too (first: {first}){HELD_BY_HOST}"))
}

/// It is the pod's, on the node and from outside: nobody reaches the service there.
fn taken_by_services(taken: &[(IpAddr, AttachmentId)]) -> Option<String> {
    let (_, first) = taken.first()?;
    let addresses = some_of(taken.iter().map(|(address, _)| *address));
    Some(format!(
        "rules of the node translate what is sent to {addresses}, as for a service, and a pod has it (first: {first}): other pods \
         and machines reach the pod there, and not the service{OF_SERVICE}"
    ))
}

fn some_of(mut addresses: impl Iterator<Item = IpAddr>) -> String {
    let mut named: Vec<_> = addresses.by_ref().take(MAX_NAMED).map(|address| address.to_string()).collect();
    let more = addresses.count();
    if more > 0 {
        named.push(format!("and {more} more"));
    }
    named.join(" ")
}

fn exhausted(family: &str, counts: Counts, reuse_cooling: bool) -> Option<String> {
    let Counts { total, free, leased, cooling } = counts;
    let next = if reuse_cooling { free + cooling } else { free };
    (next == 0).then(|| {
        format!(
            "the pool has no free {family} address: of {total}, {leased} are leased and {cooling} were released a moment ago"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn withheld_addresses_are_named_by_reason_and_never_all_of_thousands() {
        let withheld = |count: u32, reason| {
            (0..count)
                .map(move |host| Withheld { address: std::net::Ipv4Addr::from(0x0a00_0005 + host).into(), reason })
        };
        assert_eq!(of_source(&[], &[]), [""; 0]);
        let all: Vec<_> = withheld(1, Reserved::Gateway).chain(withheld(4000, Reserved::HeldByHost)).collect();
        let [gateway, host, odd] = &of_source(&all, &["line 7".to_owned()])[..] else { panic!("three sentences") };
        assert!(gateway.contains("10.0.0.5: the subnet's gateway"), "{gateway}");
        assert!(host.contains("and 3992 more") && host.contains("cloud-init") && host.len() < 600, "{host}");
        assert!(odd.ends_with("line 7"), "{odd}");
        let taken =
            taken_by_host(&[("fd00::5".parse().unwrap(), azure_cni_api::cni::sample::attachment("c1"))]).unwrap();
        assert!(taken.contains("fd00::5") && taken.contains("c1"), "{taken}");
        assert_eq!(taken_by_services(&[]), None);
        let [service] = &of_source(&withheld(1, Reserved::OfService).collect::<Vec<_>>(), &[])[..] else {
            panic!("a sentence")
        };
        assert!(service.contains("10.0.0.5") && service.contains("give the service an address"), "{service}");
    }

    #[test]
    fn rules_that_change_during_every_reading_are_a_problem_once_it_lasts() {
        assert_eq!(of_torn_rules(TORN_FOR_LONG.saturating_sub(Duration::from_secs(1))), None);
        let sentence = of_torn_rules(TORN_FOR_LONG).unwrap();
        assert!(sentence.contains("for 10 seconds") && sentence.contains("nft monitor"), "{sentence}");
    }

    #[test]
    fn a_pool_is_exhausted_exactly_if_a_lease_would_find_nothing() {
        let counts = |free, leased, cooling| Counts { total: free + leased + cooling, free, leased, cooling };
        for (counts, reuse_cooling, is_exhausted) in [
            (counts(1, 9, 0), false, false),
            (counts(0, 9, 0), false, true),
            (counts(0, 9, 1), false, true),
            (counts(0, 9, 1), true, false),
            (counts(0, 9, 0), true, true),
            (counts(0, 0, 0), false, true),
        ] {
            let finding = exhausted("IPv6", counts, reuse_cooling);
            assert_eq!(finding.is_some(), is_exhausted, "{counts:?} {reuse_cooling}");
            assert!(finding.is_none_or(|finding| finding.contains("IPv6")));
        }
    }
}
