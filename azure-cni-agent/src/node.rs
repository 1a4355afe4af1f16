//! The node the agent runs on: its uplink, and whether everything is there that the data path needs.
//!
//! The agent sets what belongs to it. What belongs to the node it only checks, and says how to mend it.

use std::net::IpAddr;

use crate::config::PortRange;
use crate::endpoint::IPV6_MIN_MTU;
use crate::net::{Link, NetError, Netlink, RouteEntry, sysctl};

/// Why the agent cannot work on this node. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error(transparent)]
    Net(#[from] NetError),
    #[error("there is no default route that would tell the uplink; name it: uplink = \"...\" in the configuration")]
    NoDefaultRoute,
    #[error("uplink {name:?} does not exist; interfaces here: {present}")]
    NoUplink { name: String, present: String },
    #[error("uplink {uplink} does not have the pool's primary address {primary}; it has: {present}")]
    PrimaryNotOnUplink { uplink: String, primary: IpAddr, present: String },
    #[error("{}", problems.join("; "))]
    NotReady { problems: Vec<String> },
    #[error(transparent)]
    Sysctl(#[from] sysctl::SysctlError),
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

/// That the uplink answers for an address that pods are reached from and translated flows leave from.
pub async fn check_primary(netlink: &Netlink, uplink: &Link, primary: IpAddr) -> Result<(), NodeError> {
    let present = netlink.addresses(Some(uplink.index)).await?;
    if present.iter().any(|net| net.addr() == primary) {
        return Ok(());
    }
    let present: Vec<_> = present.iter().map(ToString::to_string).collect();
    Err(NodeError::PrimaryNotOnUplink { uplink: uplink.name.clone(), primary, present: present.join(", ") })
}

/// The node's own addresses that can be routed to: neither the loopback's, nor the link-local ones of IPv6, of which
/// every interface has one.
pub async fn own_addresses(netlink: &Netlink) -> Result<Vec<IpAddr>, NodeError> {
    let addresses = netlink.addresses(None).await?;
    let routed = |address: &IpAddr| match address {
        IpAddr::V4(address) => !address.is_loopback(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    };
    Ok(addresses.iter().map(|net| net.addr()).filter(routed).collect())
}

/// The settings of the node that the data path stands on; more of them where pods have IPv6.
pub async fn problems(netlink: &Netlink, uplink: &Link, dual_stack: bool) -> Result<Vec<String>, NodeError> {
    let mut problems = Vec::new();
    if sysctl::read(&["net", "ipv4", "ip_forward"])? != "1" {
        problems.push(
            "IPv4 forwarding is off, so nothing passes between pods and the host's stack: sysctl -w net.ipv4.ip_forward=1"
                .to_owned(),
        );
    }
    if dual_stack {
        problems.extend(ipv6_problem()?);
    }
    if let Some(problem) = reverse_path_problem(netlink, uplink).await? {
        problems.push(problem);
    }
    if !uplink.is_up {
        problems.push(format!("uplink {} is down: ip link set {} up", uplink.name, uplink.name));
    }
    Ok(problems)
}

fn ipv6_problem() -> Result<Option<String>, NodeError> {
    match sysctl::read(&["net", "ipv6", "conf", "all", "forwarding"]) {
        Ok(on) if on == "1" => Ok(None),
        Ok(_) => Ok(Some(
            "the pool has IPv6 addresses and IPv6 forwarding is off, so nothing passes between pods and the host's stack: \
             sysctl -w net.ipv6.conf.all.forwarding=1, and accept_ra=2 for the uplink if its default route comes from \
             router advertisements"
                .to_owned(),
        )),
        Err(error) if error.is_absent() => Ok(Some(
            "the pool has IPv6 addresses and this kernel has no IPv6: boot without ipv6.disable=1, or take them out of the \
             pool"
                .to_owned(),
        )),
        Err(error) => Err(error.into()),
    }
}

/// What is wrong with an MTU, in bytes, of pods that have IPv6.
pub fn ipv6_mtu_problem(mtu: u32) -> Option<String> {
    (mtu < IPV6_MIN_MTU).then(|| {
        format!("the pool has IPv6 addresses, and the MTU of pods, {mtu}, is less than IPv6's least, {IPV6_MIN_MTU} (RFC 8200)")
    })
}

/// Strict reverse path filtering (RFC 3704) drops what arrives where answers would not leave. With the default route on
/// the uplink they always would.
async fn reverse_path_problem(netlink: &Netlink, uplink: &Link) -> Result<Option<String>, NodeError> {
    const STRICT: &str = "1";
    let all = sysctl::read(&["net", "ipv4", "conf", "all", "rp_filter"])?;
    let own = sysctl::read(&["net", "ipv4", "conf", &uplink.name, "rp_filter"])?;
    // The kernel takes the higher of both; 2, loose, is higher than 1, strict (Documentation/networking/ip-sysctl.rst).
    if all.as_str().max(own.as_str()) != STRICT {
        return Ok(None);
    }
    let routes = netlink.routes().await?;
    let default_is_uplink =
        routes.iter().any(|route| route.destination == RouteEntry::DEFAULT_V4 && route.interface == uplink.index);
    Ok((!default_is_uplink).then(|| {
        format!(
            "rp_filter is strict on {name} and the default route is elsewhere, so answers from the Internet are dropped: \
             sysctl -w net.ipv4.conf.{name}.rp_filter=2",
            name = uplink.name
        )
    }))
}

/// Memory of the machine, as the kernel counts it.
pub fn memory_bytes() -> std::io::Result<u64> {
    Ok(nix::sys::sysinfo::sysinfo()?.ram_total())
}

/// The ports that the kernel picks for the node's own sockets.
pub fn ephemeral_ports() -> Result<PortRange, NodeError> {
    const SETTING: [&str; 3] = ["net", "ipv4", "ip_local_port_range"];
    PortRange::from_sysctl(&sysctl::read(&SETTING)?)
        .map_err(|error| NodeError::NotReady { problems: vec![format!("net.ipv4.ip_local_port_range: {error}")] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_wants_an_mtu_of_1280_and_says_so() {
        assert_eq!(ipv6_mtu_problem(1280), None);
        let problem = ipv6_mtu_problem(1279).unwrap();
        assert!(problem.contains("1279") && problem.contains("1280"), "{problem}");
    }
}
