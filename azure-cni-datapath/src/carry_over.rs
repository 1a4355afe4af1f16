//! What an agent of an earlier map layout has pinned is carried over, so that an upgrade loses no connection.
//!
//! Maps that are what they were go on under new pins, and with them the programs that still run. The counters' map is made
//! again, with room for more reasons, and the counts are copied. All other pins of the earlier layout go.

use std::fs;
use std::path::Path;

use aya::maps::{Map, MapData, PerCpuArray};
use azure_cni_common::ABI;

use super::tables::in_map;
use super::{DatapathError, Pins, unpin};

/// A layout that came before this one.
#[derive(Debug, Clone, Copy)]
pub struct EarlierLayout {
    /// Its number.
    pub abi: u32,
    /// Its maps that this layout has with the same name, key, value and meaning.
    pub unchanged: &'static [&'static str],
}

/// There is none yet: no layout before this one was released.
pub(super) const EARLIER: Option<EarlierLayout> = None;

const _: () = assert!(ABI == 1 && EARLIER.is_none(), "say what becomes of the pins of layout 1");

/// What has to wait until the new maps are there.
pub(super) struct CarriedOver {
    drops: Option<PerCpuArray<MapData, u64>>,
}

/// To be called before the programs are loaded. Nothing happens where no earlier layout is pinned.
pub(super) fn begin(dir: &Path, pins: &Pins, layout: Option<EarlierLayout>) -> Result<CarriedOver, DatapathError> {
    let Some(layout) = layout else { return Ok(CarriedOver { drops: None }) };
    let earlier = Pins { root: dir.join(format!("abi{}", layout.abi)) };
    if !earlier.root.exists() {
        return Ok(CarriedOver { drops: None });
    }
    // An agent of that layout may still run.
    let _claim = earlier.claim()?;
    tracing::info!(from = %earlier.root.display(), to = %pins.root.display(), "carrying over what an earlier version has pinned");
    for name in layout.unchanged {
        rename(&earlier.map(name), &pins.map(name))?;
    }
    for link in entries(&earlier.links())? {
        rename(&earlier.links().join(&link), &pins.links().join(&link))?;
    }
    // Opened before its pin goes: the map lives as long as it is held.
    let drops = MapData::from_pin(earlier.map("DROPS")).and_then(|data| PerCpuArray::try_from(Map::PerCpuArray(data)));
    for dir in [earlier.maps(), earlier.programs(), earlier.links()] {
        for name in entries(&dir)? {
            unpin(&dir.join(name))?;
        }
        fs::remove_dir(&dir).map_err(|source| DatapathError::Pin { path: dir, source })?;
    }
    fs::remove_dir(&earlier.root).map_err(|source| DatapathError::Pin { path: earlier.root.clone(), source })?;
    Ok(CarriedOver { drops: drops.ok() })
}

impl CarriedOver {
    /// To be called once the new maps are there.
    pub fn finish(self, pins: &Pins) -> Result<(), DatapathError> {
        let Some(earlier) = self.drops else { return Ok(()) };
        let mut drops = MapData::from_pin(pins.map("DROPS"))
            .and_then(|data| PerCpuArray::<_, u64>::try_from(Map::PerCpuArray(data)))
            .map_err(in_map("DROPS"))?;
        for slot in 0..earlier.len().min(drops.len()) {
            let counts = earlier.get(&slot, 0).map_err(in_map("DROPS"))?;
            drops.set(slot, counts, 0).map_err(in_map("DROPS"))?;
        }
        Ok(())
    }
}

/// What an agent that was killed half-way has left goes on where it stopped: a pin that is gone was carried over.
fn rename(from: &Path, to: &Path) -> Result<(), DatapathError> {
    match fs::rename(from, to) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(DatapathError::Pin { path: from.to_owned(), source })
        }
        _ => Ok(()),
    }
}

fn entries(dir: &Path) -> Result<Vec<std::ffi::OsString>, DatapathError> {
    let failed = |source| DatapathError::Pin { path: dir.to_owned(), source };
    match fs::read_dir(dir) {
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries.map_err(failed)?.map(|entry| entry.map(|entry| entry.file_name()).map_err(failed)).collect(),
    }
}
