//! Carries over what an agent with an earlier map layout has pinned, so that an upgrade loses no connection.
//!
//! Maps that a layout has in common with today's get new pins, and with them the programs that still run. A map whose size has
//! changed gets a successor then, see `successors`. Everything else of the earlier layout is removed.

use std::path::Path;

use azure_cni_common::ABI;

use crate::error::DatapathError;
use crate::pins::{Pins, entries, remove_dir, rename, unpin};

/// A layout that users may still have pinned, and what today's has in common with it.
#[derive(Debug, Clone, Copy)]
pub struct EarlierLayout {
    /// Its `ABI` number.
    pub number: u32,
    /// Maps with the same name, keys, values and meaning. There may be more or fewer entries.
    pub unchanged: &'static [&'static str],
}

/// None yet: layout 1 is the first that users have.
pub(crate) const EARLIER: &[EarlierLayout] = &[];

const _: () = assert!(ABI == 1, "say in EARLIER what today's layout has in common with layout 1");

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
pub(crate) fn carry_over(dir: &Path, pins: &Pins, earlier: &[EarlierLayout]) -> Result<(), DatapathError> {
    for layout in earlier {
        let from = Pins::of_layout(dir, layout.number);
        if from.root.exists() {
            tracing::info!(from = %from.root.display(), to = %pins.root.display(), "carrying over the pins of an earlier version");
            carry_over_layout(&from, pins, layout)?;
        }
    }
    Ok(())
}

fn carry_over_layout(from: &Pins, to: &Pins, layout: &EarlierLayout) -> Result<(), DatapathError> {
    // An agent with that layout may still run.
    let _claim = from.claim()?;
    for name in layout.unchanged {
        rename(&from.map(name), &to.maps().join(name))?;
    }
    for link in entries(&from.links())? {
        rename(&from.links().join(&link), &to.links().join(&link))?;
    }
    for dir in [from.maps(), from.filling(), from.swapping(), from.programs(), from.links()] {
        for name in entries(&dir)? {
            unpin(&dir.join(name))?;
        }
        remove_dir(&dir)?;
    }
    remove_dir(&from.root)
}
