//! The platform's own addresses, and which of their services a pod may use.
//!
//! Source: the Azure platform documents on 168.63.129.16 and the Instance Metadata Service.

use crate::drop_reason::DropReason;
use crate::family::{Ipv4, TCP};
use crate::flow::Tuple;

/// The wire server: DNS, DHCP, health probes and the host agent.
pub const WIRE_SERVER: Ipv4 = Ipv4::new(168, 63, 129, 16);

/// The host agent's ports. They hand out the VM's certificates and extension settings: only the VM may ask.
const HOST_AGENT_PORTS: [u16; 2] = [80, 32526];

/// Refuses what pods must not reach.
pub fn check_ipv4(tuple: &Tuple<Ipv4>) -> Result<(), DropReason> {
    let port = tuple.destination_port.to_host();
    let is_host_agent = tuple.destination == WIRE_SERVER
        && tuple.protocol == TCP
        && (port == HOST_AGENT_PORTS[0] || port == HOST_AGENT_PORTS[1]);
    if is_host_agent { Err(DropReason::PlatformBlocked) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::{Be16, UDP};

    #[test]
    fn only_the_host_agent_is_refused() {
        let cases = [
            (WIRE_SERVER, TCP, 80, true),
            (WIRE_SERVER, TCP, 32526, true),
            (WIRE_SERVER, TCP, 53, false),
            (WIRE_SERVER, UDP, 53, false),
            (WIRE_SERVER, UDP, 80, false),
            (Ipv4::new(169, 254, 169, 254), TCP, 80, false),
            (Ipv4::new(168, 63, 129, 17), TCP, 80, false),
        ];
        for (destination, protocol, port, refused) in cases {
            let tuple = Tuple {
                source: Ipv4::new(10, 240, 0, 5),
                destination,
                source_port: Be16::from_host(40_000),
                destination_port: Be16::from_host(port),
                protocol,
            };
            assert_eq!(check_ipv4(&tuple).is_err(), refused, "{tuple:?}");
        }
    }
}
