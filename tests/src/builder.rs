//! The builder of a network.

use crate::{
    capability::require_capable,
    error::Result,
    fabric::Fabric,
    options::FabricOptions,
    plan::{MAX_POOL, MAX_VMS},
    platform::Service,
};

/// Collects the options of a network.
#[derive(Debug, Clone, Default)]
#[must_use = "nothing is built before `start`"]
pub struct FabricBuilder(FabricOptions);

impl Fabric {
    /// Starts with the options of a plain VM on the platform.
    pub fn builder() -> FabricBuilder {
        FabricBuilder::default()
    }
}

impl FabricBuilder {
    /// The number of VMs. Default 1.
    pub fn vms(mut self, count: u8) -> Self {
        assert!((1..=MAX_VMS).contains(&count), "a network has 1 to {MAX_VMS} VMs, not {count}");
        self.0.vms = count;
        self
    }

    /// How many secondary addresses each VM has for its pods. Default 16.
    pub fn pool(mut self, addresses: u8) -> Self {
        assert!(addresses <= MAX_POOL, "a VM has at most {MAX_POOL} secondary addresses, not {addresses}");
        self.0.pool = addresses;
        self
    }

    /// Gives every machine an IPv6 address next to its IPv4 address, and every pod one too. Default: IPv4 alone.
    pub fn dual_stack(mut self) -> Self {
        self.0.dual_stack = true;
        self
    }

    /// Makes the Internet's host answer the IPv6 addresses of pods too, as if the VNet's prefix were routed from outside.
    /// Default: it answers primary addresses only, as with IPv4.
    pub fn internet_routes_pods6(mut self) -> Self {
        self.0.internet_routes_pods6 = true;
        self
    }

    /// Puts a second router in front of the Internet's host, behind a link of this MTU. The platform's router answers longer
    /// packets with the link's MTU. Default: the host is on the platform's router itself.
    pub fn internet_mtu(mut self, bytes: u16) -> Self {
        self.0.internet_mtu = Some(bytes);
        self
    }

    /// The MTU of every other link. Default 1500.
    pub fn mtu(mut self, bytes: u16) -> Self {
        self.0.mtu = bytes;
        self
    }

    /// Whether interfaces, those of pods included, leave checksums and segmentation to the receiver. Default true, as
    /// veth and the platform's own driver have it.
    pub fn checksum_offload(mut self, on: bool) -> Self {
        self.0.checksum_offload = on;
        self
    }

    /// Has the agents learn their pools from this service of the platform. Default: from a file.
    pub fn service(mut self, service: Service) -> Self {
        self.0.service = Some(service);
        self.agent_toml(&format!("pool.source = '{}'", service.source()))
    }

    /// Starts no agents: [`crate::Vm::start_agent`] starts one.
    pub fn without_agents(mut self) -> Self {
        self.0.agents = false;
        self
    }

    /// Overrides keys of every VM's `agent.toml`; may be called again.
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
        crate::agent_config::lay_over(&mut self.0.agent_config, overlay);
        self
    }

    /// Builds the network, with its agents running unless the options say otherwise.
    pub fn start(self) -> Result<Fabric> {
        require_capable()?;
        Fabric::build(&self.0)
    }
}
