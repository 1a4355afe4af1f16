//! Whether the node's own way to the Internet leads elsewhere than to the uplink, as with a VPN. What pods send by the host's stack goes
//! there too, and nobody there knows their addresses.
//!
//! The rule: the kernel is asked, for it knows of metrics, policy rules, and routes to the halves of the Internet. A network that lies
//! elsewhere is not the Internet: all of several addresses far apart must.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::net::{Link, NetError, Netlink};

/// One address of each regional registry: ARIN, RIPE, APNIC, LACNIC, AFRINIC (the IANA registries of IPv4 address space and of IPv6
/// global unicast address assignments). No packet is sent there.
const ADDRESSES: [[IpAddr; 5]; 2] = [
    [
        IpAddr::V4(Ipv4Addr::new(23, 0, 0, 1)),
        IpAddr::V4(Ipv4Addr::new(91, 0, 0, 1)),
        IpAddr::V4(Ipv4Addr::new(103, 0, 0, 1)),
        IpAddr::V4(Ipv4Addr::new(177, 0, 0, 1)),
        IpAddr::V4(Ipv4Addr::new(197, 0, 0, 1)),
    ],
    [
        IpAddr::V6(Ipv6Addr::new(0x2600, 0, 0, 0, 0, 0, 0, 1)),
        IpAddr::V6(Ipv6Addr::new(0x2a00, 0, 0, 0, 0, 0, 0, 1)),
        IpAddr::V6(Ipv6Addr::new(0x2400, 0, 0, 0, 0, 0, 0, 1)),
        IpAddr::V6(Ipv6Addr::new(0x2800, 0, 0, 0, 0, 0, 0, 1)),
        IpAddr::V6(Ipv6Addr::new(0x2c00, 0, 0, 0, 0, 0, 0, 1)),
    ],
];

/// What pods' packets to the Internet do.
#[derive(Debug, Clone, Copy)]
pub struct PodsWay<'a> {
    /// All of them take the host's stack: the service prefixes are not known, or the node's rules are not.
    pub by_host: bool,
    /// Prefixes that the node's routes lead elsewhere, where they take it in any case.
    pub elsewhere: &'a BTreeSet<IpNet>,
}

/// A sentence for each family whose Internet is elsewhere, for the node and for pods.
pub async fn problems(
    netlink: &Netlink,
    uplink: &Link,
    dual_stack: bool,
    pods: PodsWay<'_>,
) -> Result<Vec<String>, NetError> {
    let mut problems = Vec::new();
    for (family, addresses) in ["IPv4", "IPv6"].into_iter().zip(ADDRESSES).take(if dual_stack { 2 } else { 1 }) {
        let mut interfaces = Vec::new();
        for address in addresses {
            interfaces.push(netlink.interface_to(address).await?);
        }
        let Some(other) = elsewhere(&interfaces, uplink.index) else { continue };
        let in_any_case = addresses.iter().all(|address| pods.elsewhere.iter().any(|prefix| prefix.contains(address)));
        if pods.by_host || in_any_case {
            let name = netlink.link_by_index(other).await?.map_or(format!("interface {other}"), |link| link.name);
            problems.push(problem(family, &uplink.name, &name, in_any_case));
        }
    }
    Ok(problems)
}

/// The interface of the first address, if all addresses leave by others than the uplink.
fn elsewhere(interfaces: &[Option<u32>], uplink: u32) -> Option<u32> {
    let all: Option<Vec<u32>> = interfaces.iter().copied().collect();
    all.filter(|all| !all.contains(&uplink))?.first().copied()
}

fn problem(family: &str, uplink: &str, other: &str, in_any_case: bool) -> String {
    let or_known = if in_any_case { "" } else { ", or set routing.service_prefixes, with which pods take the uplink" };
    format!(
        "the node's best way to the Internet by {family} is {other}, and not uplink {uplink}: what pods send to the Internet leaves by \
         {other} with the pod's own address, to which no reply comes unless something there translates it. Give the default route of \
         uplink {uplink} the lowest metric, have a rule masquerade what leaves by {other}{or_known}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPLINK: u32 = 2;

    #[test]
    fn the_internet_is_elsewhere_only_if_all_of_it_is() {
        for (interfaces, expected) in [
            ([Some(UPLINK); 3], None),
            ([Some(7); 3], Some(7)),
            ([Some(7), Some(8), Some(7)], Some(7)),
            ([Some(7), Some(UPLINK), Some(7)], None),
            // What leads nowhere is another problem.
            ([Some(7), None, Some(7)], None),
            ([None; 3], None),
        ] {
            assert_eq!(elsewhere(&interfaces, UPLINK), expected, "{interfaces:?}");
        }
    }

    #[test]
    fn the_addresses_are_of_both_halves_of_the_internet_and_public() {
        let halves: BTreeSet<bool> = ADDRESSES[0]
            .iter()
            .map(|address| matches!(address, IpAddr::V4(address) if address.octets()[0] >= 128))
            .collect();
        assert_eq!(halves.len(), 2);
        assert!(ADDRESSES[1].iter().all(IpAddr::is_ipv6));
    }

    #[test]
    fn known_service_prefixes_are_advice_only_where_they_help() {
        assert!(problem("IPv4", "eth0", "tun0", false).contains("routing.service_prefixes"));
        assert!(!problem("IPv4", "eth0", "tun0", true).contains("routing.service_prefixes"));
    }
}
