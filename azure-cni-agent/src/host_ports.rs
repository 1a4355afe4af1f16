//! Ports inside the NAT's range that sockets of the host hold: no pod may get them, or the host's service would get the
//! answers of a pod's flow and the pod those of the service's peers.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use azure_cni_common::family::TCP;
use azure_cni_datapath::HostPorts;

use crate::agent::Agent;
use crate::config::PortRange;
use crate::net::{HeldPort, held_ports};

/// Asks the kernel which ports are held, and tells the data path if others are than before.
pub async fn follow_host_ports(agent: &Arc<Agent>) -> anyhow::Result<()> {
    let held = tokio::task::spawn_blocking(held_ports).await??;
    let now = within(held, agent.config.snat.port_range);
    let mut known = agent.host_ports.lock().unwrap_or_else(PoisonError::into_inner);
    // At the start the data path may still have those that the agent before saw.
    if known.as_ref() == Some(&now) {
        return Ok(());
    }
    let mut ports = HostPorts::default();
    now.iter().for_each(|(protocol, port)| ports.insert(*protocol, *port));
    agent.datapath.tables().set_host_ports(&ports)?;
    tracing::info!(ports = listed(&now), "the host holds other ports of the NAT's range; no pod is given them");
    *known = Some(now);
    Ok(())
}

fn within(held: BTreeSet<HeldPort>, range: PortRange) -> BTreeSet<HeldPort> {
    held.into_iter().filter(|(_, port)| range.contains(*port)).collect()
}

/// `8080/tcp, 5353/udp`
fn listed(ports: &BTreeSet<HeldPort>) -> String {
    let listed = |(protocol, port): &HeldPort| format!("{port}/{}", if *protocol == TCP { "tcp" } else { "udp" });
    ports.iter().map(listed).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use azure_cni_common::family::UDP;

    use super::*;

    #[test]
    fn only_ports_of_the_range_count() {
        let held = [(TCP, 22), (TCP, 1024), (UDP, 8472), (UDP, 29_999), (TCP, 30_000)].into();
        let range = "1024-29999".parse().unwrap();
        assert_eq!(listed(&within(held, range)), "1024/tcp, 8472/udp, 29999/udp");
    }
}
