//! The node that the agent runs on: its uplink, and whether it has everything that the data path needs.
//!
//! The rule: the agent changes its own settings only. It checks the node's settings, and says how to repair them.

use std::net::IpAddr;

use azure_cni_ipam::Pool;

use crate::config::check::check_port_range;
use crate::config::{AgentConfig, ConfigError, PortRange};
use crate::endpoint::IPV6_MIN_MTU;
use crate::net::{Link, NetError, Netlink, RouteEntry, sysctl};

/// Why the agent cannot run on this node. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error(transparent)]
    Net(#[from] NetError),
    #[error("there is no default route to find the uplink by; name it: uplink = \"...\" in the configuration")]
    NoDefaultRoute,
    #[error("uplink {name:?} does not exist; interfaces here: {present}")]
    NoUplink { name: String, present: String },
    #[error("uplink {uplink} does not have the pool's primary address {primary}; it has: {present}")]
    PrimaryNotOnUplink { uplink: String, primary: IpAddr, present: String },
    #[error("{}", problems.join("; "))]
    NotReady { problems: Vec<String> },
    #[error(transparent)]
    Sysctl(#[from] sysctl::SysctlError),
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Whether an agent with this configuration and pool can start on this node. Changes nothing.
pub async fn check(config: &AgentConfig, netlink: &Netlink, uplink: &Link, pool: &Pool) -> Result<(), NodeError> {
    check_port_range(config.snat.port_range, config.snat.node_ports, ephemeral_ports()?)?;
    let dual_stack = pool.is_dual_stack();
    for primary in pool.primaries().iter().filter(|primary| primary.is_ipv4() || dual_stack) {
        check_primary(netlink, uplink, primary).await?;
    }
    let mut problems = problems(netlink, uplink, dual_stack).await?;
    if dual_stack {
        problems.extend(ipv6_mtu_problem(config.datapath.mtu.unwrap_or(uplink.mtu)));
    }
    if config.snat.ipv6 && pool.primary6.is_none() {
        problems.push("snat.ipv6 is set and the pool lists no primary IPv6 address to translate to".to_owned());
    }
    if problems.is_empty() { Ok(()) } else { Err(NodeError::NotReady { problems }) }
}

/// The NIC that carries the VNet: the configured one, or the one of the default route.
pub async fn find_uplink(netlink: &Netlink, configured: Option<&str>) -> Result<Link, NodeError> {
    if let Some(name) = configured {
        if let Some(link) = netlink.link(name).await? {
            return Ok(link);
        }
        let present: Vec<_> = netlink.links().await?.into_iter().map(|link| link.name).collect();
        return Err(NodeError::NoUplink { name: name.to_owned(), present: present.join(", ") });
    }
    let routes = netlink.routes().await?;
    let default =
        routes.iter().find(|route| route.destination == RouteEntry::DEFAULT_V4).ok_or(NodeError::NoDefaultRoute)?;
    netlink.link_by_index(default.interface).await?.ok_or(NodeError::NoDefaultRoute)
}

/// Checks that the uplink has an address of the pool's that the node itself uses: the source of translated flows.
pub async fn check_primary(netlink: &Netlink, uplink: &Link, primary: IpAddr) -> Result<(), NodeError> {
    let present = netlink.addresses(Some(uplink.index)).await?;
    if present.iter().any(|net| net.addr() == primary) {
        return Ok(());
    }
    let present: Vec<_> = present.iter().map(ToString::to_string).collect();
    Err(NodeError::PrimaryNotOnUplink { uplink: uplink.name.clone(), primary, present: present.join(", ") })
}

/// The node's own addresses that other hosts can reach: neither the loopback's nor IPv6 link-local ones.
pub async fn own_addresses(netlink: &Netlink) -> Result<Vec<IpAddr>, NodeError> {
    let addresses = netlink.addresses(None).await?;
    let routed = |address: &IpAddr| match address {
        IpAddr::V4(address) => !address.is_loopback(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    };
    Ok(addresses.iter().map(|net| net.addr()).filter(routed).collect())
}

/// Whether the uplink has a default route: IPv4, IPv6. `None`: policy rules make that depend on more than the destination.
pub async fn default_routes(netlink: &Netlink, uplink: &Link) -> Result<[Option<bool>; 2], NodeError> {
    let hops = netlink.next_hops(uplink.index).await?;
    Ok(hops.map(|hops| hops.map(|hops| hops.iter().any(|hop| hop.destination.prefix_len() == 0))))
}

/// What is wrong with the node's settings that the data path needs. IPv6 needs more of them.
pub async fn problems(netlink: &Netlink, uplink: &Link, dual_stack: bool) -> Result<Vec<String>, NodeError> {
    let mut problems = Vec::new();
    if sysctl::read(&["net", "ipv4", "ip_forward"])? != "1" {
        problems.push(
            "IPv4 forwarding is off, so no packet passes between pods and the host's stack: sysctl -w net.ipv4.ip_forward=1"
                .to_owned(),
        );
    }
    if dual_stack {
        problems.extend(ipv6_problem(&uplink.name)?);
    }
    if let Some(problem) = reverse_path_problem(netlink, uplink).await? {
        problems.push(problem);
    }
    if !uplink.is_up {
        problems.push(format!("uplink {} is down: ip link set {} up", uplink.name, uplink.name));
    }
    Ok(problems)
}

fn ipv6_problem(uplink: &str) -> Result<Option<String>, NodeError> {
    match sysctl::read(&["net", "ipv6", "conf", "all", "forwarding"]) {
        Ok(on) if on == "1" => {}
        Ok(_) => return Ok(Some(
            "the pool has IPv6 addresses and IPv6 forwarding is off, so no packet passes between pods and the host's stack: \
             sysctl -w net.ipv6.conf.all.forwarding=1, and accept_ra=2 for the uplink if its default route comes from \
             router advertisements"
                .to_owned(),
        )),
        Err(error) if error.is_absent() => return Ok(Some(
            "the pool has IPv6 addresses and this kernel has no IPv6: boot without ipv6.disable=1, or take them out of the \
             pool"
                .to_owned(),
        )),
        Err(error) => return Err(error.into()),
    }
    // Absent with an MTU below IPv6's minimum, for which there is a problem of its own.
    match sysctl::read(&["net", "ipv6", "conf", uplink, "disable_ipv6"]) {
        Ok(off) if off == "0" => Ok(None),
        Err(error) if !error.is_absent() => Err(error.into()),
        _ => Ok(Some(format!(
            "the pool has IPv6 addresses and IPv6 is switched off at uplink {uplink}, so pods have none: sysctl -w \
             net.ipv6.conf.{uplink}.disable_ipv6=0 and give it its addresses again, or take IPv6 out of the pool"
        ))),
    }
}

/// What is wrong with this MTU, in bytes, for pods that have IPv6.
pub fn ipv6_mtu_problem(mtu: u32) -> Option<String> {
    (mtu < IPV6_MIN_MTU).then(|| {
        format!("the pool has IPv6 addresses, and the MTU of pods, {mtu}, is less than IPv6's minimum, {IPV6_MIN_MTU} (RFC 8200)")
    })
}

/// Strict reverse path filtering (RFC 3704) drops a packet if the reply would leave by another interface. With the default
/// route on the uplink, replies to the Internet leave there.
async fn reverse_path_problem(netlink: &Netlink, uplink: &Link) -> Result<Option<String>, NodeError> {
    const STRICT: &str = "1";
    let all = sysctl::read(&["net", "ipv4", "conf", "all", "rp_filter"])?;
    let own = sysctl::read(&["net", "ipv4", "conf", &uplink.name, "rp_filter"])?;
    // The kernel uses the higher of both; 2, loose, is higher than 1, strict (Documentation/networking/ip-sysctl.rst).
    if all.as_str().max(own.as_str()) != STRICT {
        return Ok(None);
    }
    let routes = netlink.routes().await?;
    let default_is_uplink =
        routes.iter().any(|route| route.destination == RouteEntry::DEFAULT_V4 && route.interface == uplink.index);
    Ok((!default_is_uplink).then(|| {
        format!(
            "rp_filter is strict on {name} and the default route is elsewhere, so replies from the Internet are dropped: \
             sysctl -w net.ipv4.conf.{name}.rp_filter=2",
            name = uplink.name
        )
    }))
}

/// The machine's memory, as the kernel counts it.
pub fn memory_bytes() -> std::io::Result<u64> {
    Ok(nix::sys::sysinfo::sysinfo()?.ram_total())
}

/// The ports that the kernel gives the node's own sockets.
pub fn ephemeral_ports() -> Result<PortRange, NodeError> {
    const SETTING: [&str; 3] = ["net", "ipv4", "ip_local_port_range"];
    PortRange::from_sysctl(&sysctl::read(&SETTING)?)
        .map_err(|error| NodeError::NotReady { problems: vec![format!("net.ipv4.ip_local_port_range: {error}")] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_needs_an_mtu_of_1280() {
        assert_eq!(ipv6_mtu_problem(1280), None);
        let problem = ipv6_mtu_problem(1279).unwrap();
        assert!(problem.contains("1279") && problem.contains("1280"), "{problem}");
    }
}
