//! Carries over what an agent with an earlier map layout has pinned, so that an upgrade loses no connection.
//!
//! Maps that a layout has in common with today's get new pins, and with them the programs that still run. Counters are
//! copied into today's map, as there may be more of them now. Everything else of the earlier layout is removed.

use std::fs;
use std::path::Path;

use aya::maps::{Map, MapData, PerCpuArray};
use azure_cni_common::ABI;

use crate::error::DatapathError;
use crate::map::in_map;
use crate::pins::{Pins, unpin};

/// A layout that users may still have pinned, and what today's has in common with it.
#[derive(Debug, Clone, Copy)]
pub struct EarlierLayout {
    /// Its `ABI` number.
    pub number: u32,
    /// Maps with the same name, keys, values and meaning.
    pub unchanged: &'static [&'static str],
}

/// None yet: layout 1 is the first that users have.
pub(crate) const EARLIER: &[EarlierLayout] = &[];

const _: () = assert!(ABI == 1, "say in EARLIER what today's layout has in common with layout 1");

/// The map of counters.
const DROPS: &str = "DROPS";

/// What has to wait until today's maps exist.
pub(crate) struct CarriedOver {
    drops: Option<PerCpuArray<MapData, u64>>,
}

/// Refuses what a version has pinned that is neither today's nor one of the earlier ones. Changes nothing.
pub(crate) fn expect_known(dir: &Path, earlier: &[EarlierLayout]) -> Result<(), DatapathError> {
    let number_of = |name: &str| name.strip_prefix("abi")?.parse::<u32>().ok();
    for name in entries(dir)? {
        let is_known = |number| number == ABI || earlier.iter().any(|layout| layout.number == number);
        if name.to_str().and_then(number_of).is_some_and(|number| !is_known(number)) {
            return Err(DatapathError::UnknownLayout { path: dir.join(name) });
        }
    }
    Ok(())
}

/// Call this before the programs are loaded. Nothing happens if none of the layouts is pinned.
pub(crate) fn begin(dir: &Path, pins: &Pins, earlier: &[EarlierLayout]) -> Result<CarriedOver, DatapathError> {
    let mut drops = None;
    for layout in earlier {
        let from = Pins::of_layout(dir, layout.number);
        if from.root.exists() {
            tracing::info!(from = %from.root.display(), to = %pins.root.display(), "carrying over the pins of an earlier version");
            drops = carry_over(&from, pins, layout)?.or(drops);
        }
    }
    Ok(CarriedOver { drops })
}

/// Returns the counters.
fn carry_over(
    from: &Pins,
    to: &Pins,
    layout: &EarlierLayout,
) -> Result<Option<PerCpuArray<MapData, u64>>, DatapathError> {
    // An agent with that layout may still run.
    let _claim = from.claim()?;
    for name in layout.unchanged {
        rename(&from.map(name), &to.map(name))?;
    }
    for link in entries(&from.links())? {
        rename(&from.links().join(&link), &to.links().join(&link))?;
    }
    // Opened before its pin goes: the map lives as long as it is held.
    let drops = MapData::from_pin(from.map(DROPS)).and_then(|data| PerCpuArray::try_from(Map::PerCpuArray(data)));
    for dir in [from.maps(), from.programs(), from.links()] {
        for name in entries(&dir)? {
            unpin(&dir.join(name))?;
        }
        remove_dir(&dir)?;
    }
    remove_dir(&from.root)?;
    Ok(drops.ok())
}

impl CarriedOver {
    /// Call this once today's maps exist.
    pub fn finish(self, pins: &Pins) -> Result<(), DatapathError> {
        let Some(earlier) = self.drops else { return Ok(()) };
        let mut drops = MapData::from_pin(pins.map(DROPS))
            .and_then(|data| PerCpuArray::<_, u64>::try_from(Map::PerCpuArray(data)))
            .map_err(in_map(DROPS))?;
        for slot in 0..earlier.len().min(drops.len()) {
            let counts = earlier.get(&slot, 0).map_err(in_map(DROPS))?;
            drops.set(slot, counts, 0).map_err(in_map(DROPS))?;
        }
        Ok(())
    }
}

/// A pin that is gone was carried over by an agent that was killed before it had finished.
fn rename(from: &Path, to: &Path) -> Result<(), DatapathError> {
    absent_is_done(from, fs::rename(from, to))
}

fn remove_dir(dir: &Path) -> Result<(), DatapathError> {
    absent_is_done(dir, fs::remove_dir(dir))
}

fn absent_is_done(path: &Path, result: std::io::Result<()>) -> Result<(), DatapathError> {
    match result {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(DatapathError::Pin { path: path.to_owned(), source })
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
