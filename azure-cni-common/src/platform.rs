//! The platform's own addresses, and which of their services a pod may use.
//!
//! Source: the Azure platform documents on 168.63.129.16 and the Instance Metadata Service.

use crate::drop_reason::DropReason;
use crate::family::{Ipv4, Ipv6, TCP};
use crate::flow::Tuple;

/// The wire server: DNS, DHCP, health probes and the host agent.
pub const WIRE_SERVER: Ipv4 = Ipv4::new(168, 63, 129, 16);

/// The host agent's ports. They hand out the VM's certificates and extension settings: only the VM may ask.
const HOST_AGENT_PORTS: [u16; 2] = [80, 32526];

/// The Instance Metadata Service, at TCP 80.
pub const METADATA_SERVICE: Ipv4 = Ipv4::new(169, 254, 169, 254);

/// The platform's IPv6 gateway, which probes pods for load balancers from this address: of the link, and answered all the
/// same.
pub const GATEWAY6: Ipv6 = Ipv6::from_octets([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc]);

/// Refuses what pods must not reach.
pub fn check_ipv4(tuple: &Tuple<Ipv4>, block_metadata: bool) -> Result<(), DropReason> {
    if tuple.protocol != TCP {
        return Ok(());
    }
    let port = tuple.destination_port.to_host();
    if tuple.destination == WIRE_SERVER && (port == HOST_AGENT_PORTS[0] || port == HOST_AGENT_PORTS[1]) {
        return Err(DropReason::PlatformBlocked);
    }
    if block_metadata && tuple.destination == METADATA_SERVICE && port == 80 {
        return Err(DropReason::MetadataBlocked);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::{Be16, UDP};

    #[test]
    fn only_the_host_agent_is_refused_and_the_metadata_service_where_it_is_asked_for() {
        use DropReason::{MetadataBlocked, PlatformBlocked};
        let cases = [
            (WIRE_SERVER, TCP, 80, Some(PlatformBlocked), Some(PlatformBlocked)),
            (WIRE_SERVER, TCP, 32526, Some(PlatformBlocked), Some(PlatformBlocked)),
            (WIRE_SERVER, TCP, 53, None, None),
            (WIRE_SERVER, UDP, 53, None, None),
            (WIRE_SERVER, UDP, 80, None, None),
            (METADATA_SERVICE, TCP, 80, None, Some(MetadataBlocked)),
            (METADATA_SERVICE, TCP, 81, None, None),
            (METADATA_SERVICE, UDP, 80, None, None),
            (Ipv4::new(168, 63, 129, 17), TCP, 80, None, None),
        ];
        for (destination, protocol, port, refused, refused_with_metadata) in cases {
            let tuple = Tuple {
                source: Ipv4::new(10, 240, 0, 5),
                destination,
                source_port: Be16::from_host(40_000),
                destination_port: Be16::from_host(port),
                protocol,
            };
            assert_eq!(check_ipv4(&tuple, false).err(), refused, "{tuple:?}");
            assert_eq!(check_ipv4(&tuple, true).err(), refused_with_metadata, "{tuple:?}");
        }
    }
}
