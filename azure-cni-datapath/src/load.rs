//! Loads the programs with their constants. Pins them and their maps.

use std::net::Ipv6Addr;

use aya::programs::{ProgramError, SchedClassifier};
use aya::{Ebpf, EbpfLoader};
use azure_cni_common::family::{Ipv4, Ipv6};
use azure_cni_common::lifetime::Timeouts;
use azure_cni_common::nat::PortRange;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

use crate::error::DatapathError;
use crate::hook::Hook;
use crate::pins::{Pins, unpin};
use crate::settings::{Constants, Settings};
use crate::sizes::Wanted;
use crate::successors::Successors;

/// The compiled programs.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("AZURE_CNI_EBPF_OBJECT"));

/// The programs' constants as they hold them.
#[derive(Debug, Clone)]
pub struct Globals {
    node_address: u32,
    node_address6: [u32; 4],
    has_ipv6: u32,
    snat6: u32,
    uplink_ifindex: u32,
    uplink_mtu: u32,
    nat_ports: PortRange,
    nat_pod_blocks: u32,
    nat_seed: u32,
    pod_flow_share: u32,
    timeouts: Timeouts,
    services_known: u32,
    block_imds: u32,
    log_level: u8,
}

impl From<&Constants> for Globals {
    fn from(constants: &Constants) -> Self {
        Self {
            node_address: Ipv4::from(constants.node_address).0,
            node_address6: Ipv6::from(constants.node_address6.unwrap_or(Ipv6Addr::UNSPECIFIED)).0,
            has_ipv6: u32::from(constants.has_ipv6),
            // Without an IPv6 address, the node has nothing to translate to.
            snat6: u32::from(constants.snat6 && constants.node_address6.is_some()),
            uplink_ifindex: constants.uplink_ifindex,
            uplink_mtu: constants.uplink_mtu,
            nat_ports: constants.nat_ports,
            nat_pod_blocks: constants.nat_pod_blocks,
            nat_seed: constants.nat_seed,
            pod_flow_share: constants.pod_flow_share,
            timeouts: constants.timeouts,
            services_known: u32::from(constants.services_known),
            block_imds: u32::from(constants.block_imds),
            log_level: if constants.log { aya_log::Level::Info as u8 } else { 0 },
        }
    }
}

impl Globals {
    /// A loader that has the constants set.
    pub fn loader(&self) -> EbpfLoader<'_> {
        let mut loader = EbpfLoader::new();
        loader
            .override_global("NODE_ADDRESS4", &self.node_address, true)
            .override_global("NODE_ADDRESS6", &self.node_address6, true)
            .override_global("HAS_IPV6", &self.has_ipv6, true)
            .override_global("SNAT6", &self.snat6, true)
            .override_global("UPLINK_IFINDEX", &self.uplink_ifindex, true)
            .override_global("UPLINK_MTU", &self.uplink_mtu, true)
            .override_global("NAT_PORTS", &self.nat_ports, true)
            .override_global("NAT_POD_BLOCKS", &self.nat_pod_blocks, true)
            .override_global("POD_FLOW_SHARE", &self.pod_flow_share, true)
            .override_global("NAT_SEED", &self.nat_seed, true)
            .override_global("TIMEOUTS", &self.timeouts, true)
            .override_global("SERVICES_KNOWN", &self.services_known, true)
            .override_global("BLOCK_IMDS", &self.block_imds, true)
            .override_global(aya_log::LEVEL, &self.log_level, false);
        loader
    }
}

/// The programs that were loaded, by their ids.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ProgramIds([u32; Hook::ALL.len()]);

impl ProgramIds {
    pub fn of(&self, hook: Hook) -> u32 {
        self.0[hook as usize]
    }
}

/// The programs in the kernel.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub ids: ProgramIds,
    /// Ends with the programs' owner.
    logs: Option<JoinHandle<()>>,
}

impl Drop for Loaded {
    fn drop(&mut self) {
        if let Some(logs) = &self.logs {
            logs.abort();
        }
    }
}

/// Makes the maps that are not pinned yet.
pub(crate) fn load_programs(
    settings: &Settings,
    wanted: &[Wanted],
    successors: &Successors,
    pins: &Pins,
) -> Result<Loaded, DatapathError> {
    let globals = Globals::from(&settings.constants);
    let mut loader = globals.loader();
    loader.default_map_pin_directory(pins.maps());
    for map in wanted {
        loader.map_max_entries(&map.name, map.shape.max_entries);
    }
    for (map, pin) in successors.pins() {
        loader.map_pin_path(map, pin);
    }
    let mut object = loader.load(settings.object).map_err(Box::new)?;
    let mut ids = ProgramIds::default();
    for hook in Hook::ALL {
        ids.0[hook as usize] = load_program(&mut object, hook, pins)?;
    }
    let logs = if settings.constants.log { forward_logs(&mut object) } else { None };
    Ok(Loaded { ids, logs })
}

/// Returns the program's id.
fn load_program(object: &mut Ebpf, hook: Hook, pins: &Pins) -> Result<u32, DatapathError> {
    let failed = |source| DatapathError::Program { name: hook.program(), source: Box::new(source) };
    let program = object.program_mut(hook.program()).ok_or_else(|| failed(ProgramError::NotLoaded))?;
    let program: &mut SchedClassifier = program.try_into().map_err(failed)?;
    program.load().map_err(failed)?;
    // Interfaces keep the program that they run. The pin is for the next attachment.
    let path = pins.program(hook);
    unpin(&path)?;
    program.pin(&path).map_err(|source| DatapathError::Pin { path, source: std::io::Error::other(source) })?;
    Ok(program.info().map_err(failed)?.id())
}

/// Writes what the programs log to the agent's log.
fn forward_logs(object: &mut Ebpf) -> Option<JoinHandle<()>> {
    let source = match aya_log::EbpfLogger::init(object) {
        Ok(source) => source,
        Err(error) => {
            tracing::warn!(%error, "kernel-side logging is on but its ring buffer cannot be read");
            return None;
        }
    };
    // SAFETY: the logger owns the ring buffer's descriptor for as long as it lives, and always names the same one.
    match unsafe { AsyncFd::register_with_interest(source, Interest::READABLE) } {
        Err(error) => {
            tracing::warn!(%error, "kernel-side logging is on but its ring buffer cannot be polled");
            None
        }
        Ok(mut ready) => Some(tokio::spawn(async move {
            while let Ok(mut guard) = ready.readable_mut().await {
                guard.get_inner_mut().flush();
                guard.clear_ready();
            }
        })),
    }
}
