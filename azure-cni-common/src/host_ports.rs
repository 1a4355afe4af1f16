//! The ports that the host's own sockets hold, as a bitmap: no pod's flow is given one of them.

use crate::family::{Be16, TCP, UDP};

/// Words of the bitmap of ports that the host's own sockets hold, map `HOST_PORTS`: TCP first, then UDP.
pub const HOST_PORT_WORDS: u32 = 2 * 65_536 / 64;

/// Word and bit of a port; none for protocols whose sockets hold no ports.
pub fn host_port_bit(protocol: u8, port: Be16) -> Option<(u32, u64)> {
    let first = match protocol {
        TCP => 0,
        UDP => HOST_PORT_WORDS / 2,
        _ => return None,
    };
    let port = u32::from(port.to_host());
    Some((first + port / 64, 1 << (port % 64)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::{Family, V4};

    #[test]
    fn every_port_of_a_socket_has_a_bit_of_its_own() {
        let bits: std::collections::BTreeSet<_> = [TCP, UDP]
            .into_iter()
            .flat_map(|protocol| (0..=u16::MAX).map(move |port| host_port_bit(protocol, Be16::from_host(port))))
            .collect();
        assert_eq!(bits.len(), 2 * 65_536);
        assert!(bits.iter().all(|bit| bit.is_some_and(|(word, _)| word < HOST_PORT_WORDS)));
        assert_eq!(host_port_bit(V4::ICMP, Be16(7)), None);
    }
}
