//! Ports that source NAT leaves out, because sockets of the host hold them: a bitmap, map `HOST_PORTS`.

use azure_cni_common::family::Be16;
use azure_cni_common::host_ports::{HOST_PORT_WORDS, host_port_bit};

use crate::error::DatapathError;
use crate::map::{in_map, lock};
use crate::tables::Tables;

/// A set of ports, of TCP and of UDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPorts {
    words: Vec<u64>,
}

impl Default for HostPorts {
    fn default() -> Self {
        Self { words: vec![0; HOST_PORT_WORDS as usize] }
    }
}

impl HostPorts {
    /// Adds nothing for a protocol whose sockets hold no ports.
    pub fn insert(&mut self, protocol: u8, port: u16) {
        if let Some((word, bit)) = host_port_bit(protocol, Be16::from_host(port)) {
            self.words[word as usize] |= bit;
        }
    }
}

impl Tables {
    /// Makes these the ports that the host holds. A port that stays in the set is never absent meanwhile.
    pub fn set_host_ports(&self, ports: &HostPorts) -> Result<(), DatapathError> {
        let mut map = lock(&self.host_ports);
        for (index, word) in (0..).zip(&ports.words) {
            if map.get(&index, 0).map_err(in_map("HOST_PORTS"))? != *word {
                map.set(index, word, 0).map_err(in_map("HOST_PORTS"))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use azure_cni_common::family::{TCP, UDP};

    use super::*;

    #[test]
    fn a_port_is_one_bit_of_its_protocol() {
        let mut ports = HostPorts::default();
        for (protocol, port) in [(TCP, 0), (TCP, 64), (UDP, 65_535), (1, 7)] {
            ports.insert(protocol, port);
        }
        let set: Vec<_> = ports.words.iter().enumerate().filter(|(_, word)| **word != 0).collect();
        assert_eq!(set, [(0, &1), (1, &1), (2047, &(1 << 63))]);
    }
}
