//! Networks that this agent cannot serve as it is configured.

use azure_cni_api::cni::NetConf;

use crate::agent::Agent;
use crate::node;

/// Why the agent can have no pod of this network, if it cannot.
pub fn rejection(agent: &Agent, network: &NetConf) -> Option<String> {
    let uplink = &agent.uplink.name;
    let elsewhere = network.master.as_ref().filter(|master| *master != uplink).map(|master| {
        format!("master is {master}, and this agent's pods are on {uplink}: a NIC of its own needs an agent of its own")
    });
    let too_small = || {
        let is_dual_stack = agent.pool().is_dual_stack();
        node::ipv6_mtu_problem(pod_mtu(agent, network.mtu)).filter(|_| is_dual_stack)
    };
    elsewhere.or_else(too_small)
}

/// Bytes, of pod interfaces: what the network asks for, else what the agent's configuration says, else the uplink's.
pub fn pod_mtu(agent: &Agent, requested: Option<u32>) -> u32 {
    requested.or(agent.config.datapath.mtu).unwrap_or(agent.uplink.mtu)
}
