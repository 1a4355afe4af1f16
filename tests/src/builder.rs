//! Choosing a network before it is built.

use crate::{
    capability::require_capable,
    error::Result,
    fabric::Fabric,
    plan::{MAX_POOL, MAX_VMS},
    platform::Service,
};

/// What a network will be like; every choice has the default of a plain VM on the platform.
#[derive(Debug, Clone)]
#[must_use = "nothing is built before `start`"]
pub struct FabricBuilder {
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

impl Default for FabricBuilder {
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

impl FabricBuilder {
    /// The number of VMs. Default 1.
    pub fn vms(mut self, count: u8) -> Self {
        assert!((1..=MAX_VMS).contains(&count), "a network has 1 to {MAX_VMS} VMs, not {count}");
        self.vms = count;
        self
    }

    /// How many secondary addresses each VM has for its pods. Default 16.
    pub fn pool(mut self, addresses: u8) -> Self {
        assert!(addresses <= MAX_POOL, "a VM has at most {MAX_POOL} secondary addresses, not {addresses}");
        self.pool = addresses;
        self
    }

    /// Gives every machine an IPv6 address next to its IPv4 address, and every pod one too. Default: IPv4 alone.
    pub fn dual_stack(mut self) -> Self {
        self.dual_stack = true;
        self
    }

    /// Has the Internet's host answer the IPv6 addresses of pods too, as where the VNet's prefix is routed from outside.
    /// Default: it answers primary addresses only, as of IPv4.
    pub fn internet_routes_pods6(mut self) -> Self {
        self.internet_routes_pods6 = true;
        self
    }

    /// Puts a second router in front of the Internet's host, behind a link of this MTU: what is longer is answered, by
    /// the platform's router, with what the link can carry. Default: the host is on the platform's router itself.
    pub fn internet_mtu(mut self, bytes: u16) -> Self {
        self.internet_mtu = Some(bytes);
        self
    }

    /// The MTU of every other link. Default 1500.
    pub fn mtu(mut self, bytes: u16) -> Self {
        self.mtu = bytes;
        self
    }

    /// Whether interfaces, those of pods included, leave checksums and segmentation to the receiver. Default true, as
    /// veth and the platform's own driver have it.
    pub fn checksum_offload(mut self, on: bool) -> Self {
        self.checksum_offload = on;
        self
    }

    /// Has the agents learn their pools from this service of the platform. Default: from a file.
    pub fn service(mut self, service: Service) -> Self {
        self.service = Some(service);
        self.agent_toml(&format!("pool.source = '{}'", service.source()))
    }

    /// Leaves the agents to the test: [`crate::Vm::start_agent`] starts one.
    pub fn without_agents(mut self) -> Self {
        self.agents = false;
        self
    }

    /// Lays keys over every VM's `agent.toml`; may be called again.
    ///
    /// ```
    /// # use azure_cni_tests::Fabric;
    /// let clsact = Fabric::builder().agent_toml("datapath.attach = 'clsact'");
    /// ```
    ///
    /// # Panics
    /// If the text is not TOML.
    pub fn agent_toml(mut self, overlay: &str) -> Self {
        let overlay = overlay.parse().unwrap_or_else(|error| panic!("agent_toml({overlay:?}): {error}"));
        crate::agent_config::lay_over(&mut self.agent_config, overlay);
        self
    }

    /// Builds the network; with its agents running, unless told otherwise.
    pub fn start(self) -> Result<Fabric> {
        require_capable()?;
        Fabric::build(&self)
    }
}
