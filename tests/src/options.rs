//! The options of a network, as values.

use crate::platform::Service;

/// The options of a network. The defaults are those of a plain VM on the platform.
#[derive(Debug, Clone)]
pub(crate) struct FabricOptions {
    pub(crate) vms: u8,
    pub(crate) pool: u8,
    pub(crate) mtu: u16,
    pub(crate) dual_stack: bool,
    pub(crate) internet_mtu: Option<u16>,
    pub(crate) internet_routes_pods6: bool,
    pub(crate) checksum_offload: bool,
    pub(crate) service: Option<Service>,
    pub(crate) agents: bool,
    pub(crate) agent_config: toml::Table,
}

impl Default for FabricOptions {
    fn default() -> Self {
        Self {
            vms: 1,
            pool: 16,
            mtu: 1500,
            dual_stack: false,
            internet_mtu: None,
            internet_routes_pods6: false,
            checksum_offload: true,
            service: None,
            agents: true,
            agent_config: toml::Table::new(),
        }
    }
}
