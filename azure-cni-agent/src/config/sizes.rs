//! The sizes of the data path's flow tables: as configured, else by the machine's memory.

use super::DatapathConfig;

/// One entry of the connection table for this much of the machine's memory.
const BYTES_PER_FLOW: u64 = 64 << 10;
/// With fewer, a few busy pods of a small VM would reach the limit. With more, empty entries would cost too much memory.
const DERIVED_FLOWS: (u64, u64) = (65_536, 524_288);
/// Of the connection table, for flows that are not assured: a handshake lasts a fraction of a connection.
const HALF_OPEN_SHARE: u32 = 4;
const DERIVED_HALF_OPEN_MIN: u32 = 16_384;

/// Entries of the data path's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableSizes {
    /// The connection table, and the table of translations.
    pub max_flows: u32,
    /// Each of the two tables of flows that are not assured: TCP and datagrams.
    pub max_half_open: u32,
    /// Flows of the connection table that one pod may have.
    pub pod_flow_share: u32,
}

impl DatapathConfig {
    /// On a machine with this much memory.
    pub fn table_sizes(&self, memory_bytes: u64) -> TableSizes {
        let max_flows = self.max_flows.unwrap_or_else(|| flows_for(memory_bytes));
        let max_half_open = self.max_half_open.unwrap_or((max_flows / HALF_OPEN_SHARE).max(DERIVED_HALF_OPEN_MIN));
        let pod_flow_share = (u64::from(max_flows) * u64::from(self.pod_flow_share)).div_ceil(100) as u32;
        TableSizes { max_flows, max_half_open, pod_flow_share }
    }
}

fn flows_for(memory_bytes: u64) -> u32 {
    let (min, max) = DERIVED_FLOWS;
    (memory_bytes / BYTES_PER_FLOW).clamp(min, max) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn sizes(max_flows: Option<u32>, max_half_open: Option<u32>, memory_bytes: u64) -> (u32, u32) {
        let config = DatapathConfig { max_flows, max_half_open, ..DatapathConfig::default() };
        let TableSizes { max_flows, max_half_open, .. } = config.table_sizes(memory_bytes);
        (max_flows, max_half_open)
    }

    #[test]
    fn sizes_that_are_not_configured_depend_on_the_machines_memory_within_bounds() {
        for (memory, max_flows, max_half_open) in [
            (0, 65_536, 16_384),
            (GIB, 65_536, 16_384),
            (4 * GIB, 65_536, 16_384),
            (4 * GIB + BYTES_PER_FLOW, 65_537, 16_384),
            (8 * GIB, 131_072, 32_768),
            (16 * GIB, 262_144, 65_536),
            (32 * GIB, 524_288, 131_072),
            (u64::MAX, 524_288, 131_072),
        ] {
            assert_eq!(sizes(None, None, memory), (max_flows, max_half_open), "{memory} bytes");
        }
    }

    #[test]
    fn pods_share_of_the_connection_table_is_a_part_of_it() {
        let share = |pod_flow_share, max_flows| {
            DatapathConfig { pod_flow_share, max_flows: Some(max_flows), ..DatapathConfig::default() }
                .table_sizes(0)
                .pod_flow_share
        };
        assert_eq!(DatapathConfig::default().table_sizes(0).pod_flow_share, 16_384);
        assert_eq!((share(25, 1024), share(1, 1024), share(100, 16_777_216)), (256, 11, 16_777_216));
    }

    #[test]
    fn configured_sizes_are_used_as_they_are() {
        assert_eq!(sizes(Some(1024), Some(2048), 64 * GIB), (1024, 2048));
        assert_eq!(sizes(Some(1024), None, 64 * GIB), (1024, 16_384));
        assert_eq!(sizes(Some(16_777_216), None, GIB), (16_777_216, 4_194_304));
        assert_eq!(sizes(None, Some(1024), 8 * GIB), (131_072, 1024));
    }
}
