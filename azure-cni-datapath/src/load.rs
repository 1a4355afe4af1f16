//! Loads the programs with their constants. Pins them and their maps.

use std::net::Ipv6Addr;

use aya::programs::{ProgramError, SchedClassifier};
use aya::{Ebpf, EbpfLoader};
use azure_cni_common::family::{Ipv4, Ipv6};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::error::DatapathError;
use crate::hook::Hook;
use crate::names::Names;
use crate::pins::{Pins, unpin};
use crate::settings::{Constants, Settings};

/// The compiled programs.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("AZURE_CNI_EBPF_OBJECT"));

/// Calls `with` with a loader that has the constants set.
pub fn loader<T>(constants: &Constants, with: impl FnOnce(&mut EbpfLoader<'_>) -> T) -> T {
    let node_address = Ipv4::from(constants.node_address).0;
    let node_address6 = Ipv6::from(constants.node_address6.unwrap_or(Ipv6Addr::UNSPECIFIED)).0;
    let services_known = u32::from(constants.services_known);
    let block_imds = u32::from(constants.block_imds);
    // Without an IPv6 address, the node has nothing to translate to.
    let snat6 = u32::from(constants.snat6 && constants.node_address6.is_some());
    let log_level = if constants.log { aya_log::Level::Info as u8 } else { 0 };
    let mut loader = EbpfLoader::new();
    loader
        .override_global("NODE_ADDRESS4", &node_address, true)
        .override_global("NODE_ADDRESS6", &node_address6, true)
        .override_global("SNAT6", &snat6, true)
        .override_global("UPLINK_IFINDEX", &constants.uplink_ifindex, true)
        .override_global("UPLINK_MTU", &constants.uplink_mtu, true)
        .override_global("NAT_PORTS", &constants.nat_ports, true)
        .override_global("NAT_SEED", &constants.nat_seed, true)
        .override_global("TIMEOUTS", &constants.timeouts, true)
        .override_global("SERVICES_KNOWN", &services_known, true)
        .override_global("BLOCK_IMDS", &block_imds, true)
        .override_global(aya_log::LEVEL, &log_level, false);
    with(&mut loader)
}

/// The programs that were loaded, by their ids.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ProgramIds([u32; Hook::ALL.len()]);

impl ProgramIds {
    pub fn of(&self, hook: Hook) -> u32 {
        self.0[hook as usize]
    }
}

pub(crate) fn load_programs(settings: &Settings, pins: &Pins) -> Result<ProgramIds, DatapathError> {
    let mut object = loader(&settings.constants, |loader| {
        loader.default_map_pin_directory(pins.maps());
        for (map, entries) in sizes(settings) {
            loader.map_max_entries(map, entries);
        }
        loader.load(settings.object)
    })
    .map_err(Box::new)?;
    let mut ids = ProgramIds::default();
    for hook in Hook::ALL {
        ids.0[hook as usize] = load_program(&mut object, hook, pins)?;
    }
    if settings.constants.log {
        forward_logs(&mut object);
    }
    Ok(ids)
}

/// The sizes of the maps whose size is configured, in entries.
pub(crate) fn sizes(settings: &Settings) -> [(&'static str, u32); 10] {
    let Settings { max_flows, max_half_open, .. } = *settings;
    // IPv6 is routed: unless it is translated, its translations need no memory.
    let translated6 = |entries: u32| if settings.constants.snat6 { entries } else { UNUSED.min(entries) };
    [
        (Names::V4.flows, max_flows),
        (Names::V4.translations, max_flows),
        (Names::V4.half_open, max_half_open),
        (Names::V4.datagrams, max_half_open),
        (Names::V4.half_open_translations, max_half_open),
        (Names::V6.flows, max_flows),
        (Names::V6.translations, translated6(max_flows)),
        (Names::V6.half_open, max_half_open),
        (Names::V6.datagrams, max_half_open),
        (Names::V6.half_open_translations, translated6(max_half_open)),
    ]
}

/// The size of a map that is not used.
const UNUSED: u32 = 1024;

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

/// Writes what the programs log to the agent's log, as long as the agent runs.
fn forward_logs(object: &mut Ebpf) {
    let source = match aya_log::EbpfLogger::init(object) {
        Ok(source) => source,
        Err(error) => return tracing::warn!(%error, "kernel-side logging is on but its ring buffer cannot be read"),
    };
    // SAFETY: the logger owns the ring buffer's descriptor for as long as it lives, and always names the same one.
    match unsafe { AsyncFd::register_with_interest(source, Interest::READABLE) } {
        Err(error) => tracing::warn!(%error, "kernel-side logging is on but its ring buffer cannot be polled"),
        Ok(mut ready) => {
            tokio::spawn(async move {
                while let Ok(mut guard) = ready.readable_mut().await {
                    guard.get_inner_mut().flush();
                    guard.clear_ready();
                }
            });
        }
    }
}
