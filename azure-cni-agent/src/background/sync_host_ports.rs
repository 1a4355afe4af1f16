//! Tells the data path which ports of the NAT's range sockets of the host hold. Source NAT must not use them: the host's
//! service would get replies to a pod's flow, and the pod would get packets of the service's peers.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use azure_cni_common::family::TCP;
use azure_cni_datapath::HostPorts;

use crate::agent::Agent;
use crate::config::PortRange;
use crate::net::{HeldPort, held_ports};

/// The name of the repair.
const REPAIRED: &str = "host-ports-repaired";

/// Reads the held ports from the kernel, and updates the data path if it has others.
pub(crate) async fn sync_host_ports(agent: &Arc<Agent>) -> anyhow::Result<()> {
    let held = tokio::task::spawn_blocking(held_ports).await??;
    let now = ports_in_range(held, agent.config.snat.port_range);
    let mut published = agent.host_ports.lock().unwrap_or_else(PoisonError::into_inner);
    let mut ports = HostPorts::default();
    now.iter().for_each(|(protocol, port)| ports.insert(*protocol, *port));
    let wrong = agent.datapath.tables().set_host_ports(&ports)?;
    // `None` at the start, when the data path may still have the ports that the agent before this one found.
    if published.as_ref() == Some(&now) {
        if wrong > 0 {
            tracing::warn!(action = REPAIRED, count = wrong, "out of line; repaired");
            agent.count_repair(REPAIRED);
        }
        return Ok(());
    }
    tracing::info!(ports = list(&now), "the host holds these ports of the NAT's range; source NAT does not use them");
    *published = Some(now);
    Ok(())
}

fn ports_in_range(held: BTreeSet<HeldPort>, range: PortRange) -> BTreeSet<HeldPort> {
    held.into_iter().filter(|(_, port)| range.contains(*port)).collect()
}

/// `8080/tcp, 5353/udp`
fn list(ports: &BTreeSet<HeldPort>) -> String {
    let text = |(protocol, port): &HeldPort| format!("{port}/{}", if *protocol == TCP { "tcp" } else { "udp" });
    ports.iter().map(text).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use azure_cni_common::family::UDP;

    use super::*;

    #[test]
    fn only_ports_of_the_range_count() {
        let held = [(TCP, 22), (TCP, 1024), (UDP, 8472), (UDP, 29_999), (TCP, 30_000)].into();
        let range = "1024-29999".parse().unwrap();
        assert_eq!(list(&ports_in_range(held, range)), "1024/tcp, 8472/udp, 29999/udp");
    }
}
