//! Ports that source NAT leaves out, because sockets of the host hold them: a bitmap, map `HOST_PORTS`.

use std::os::fd::AsFd;

use aya::maps::IterableMap;
use azure_cni_common::family::Be16;
use azure_cni_common::host_ports::{HOST_PORT_WORDS, host_port_bit};

use crate::batch::{self, Cursor};
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

    fn word(&self, index: u32) -> u64 {
        self.words.get(index as usize).copied().unwrap_or_default()
    }
}

impl Tables {
    /// Makes these the ports that the host holds. A port that stays in the set is never absent meanwhile. Returns how many
    /// words of the map were others.
    pub fn set_host_ports(&self, ports: &HostPorts) -> Result<usize, DatapathError> {
        let mut map = lock(&self.host_ports);
        let failed = |source| DatapathError::Walk { name: "HOST_PORTS", source };
        let mut wrong = Vec::new();
        let mut cursor = Some(Cursor::default());
        while let Some(from) = cursor {
            let piece = batch::read_piece::<u32, u64>(IterableMap::map(&*map).fd().as_fd(), from, ports.words.len());
            let piece = piece.map_err(failed)?;
            wrong.extend(
                piece.entries.iter().filter(|(index, word)| ports.word(*index) != *word).map(|(index, _)| *index),
            );
            cursor = piece.next;
        }
        for index in &wrong {
            map.set(*index, ports.word(*index), 0).map_err(in_map("HOST_PORTS"))?;
        }
        Ok(wrong.len())
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
