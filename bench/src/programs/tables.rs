//! The tables of the rig's node, by their pins.

use anyhow::{Context, Result};
use aya::maps::MapData;
use azure_cni_common::ABI;
use bpf_tests::Rig;

/// A table of the rig's node.
pub(super) fn open(rig: &Rig, name: &str) -> Result<MapData> {
    let pin = rig.settings().dir.join(format!("abi{ABI}/maps/{name}"));
    MapData::from_pin(&pin).with_context(|| format!("open {}", pin.display()))
}
