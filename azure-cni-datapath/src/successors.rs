//! Maps that are not as wanted (other sizes are configured, a kind has changed) get successors, and nothing that they hold is
//! lost.
//!
//! The order: a successor is filled while all programs work with its predecessor ([`Successors::prepare`], pinned under
//! `filling`). Before the first program is swapped, what has changed meanwhile is copied too, and from then on both are in use
//! ([`Successors::enter`], `swapping`). Once all interfaces run the new programs, what the old ones have written until then is
//! copied, and the successor takes its predecessor's pin ([`Successors::settle`]). At each moment a complete map is pinned. An
//! agent that finds a pin under `filling` begins again, as no program that runs knows that map; one that finds a pin under
//! `swapping` finishes.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::DatapathError;
use crate::pins::{self, Pins, unpin};
use crate::raw_map::{RawMap, Shape, Write};
use crate::size_problem::{SizeProblem, Why};
use crate::sizes::Wanted;

/// What was begun for a start, and why what was not begun was not.
#[derive(Default)]
pub(crate) struct Successors {
    moves: Vec<Move>,
    pub problems: Vec<SizeProblem>,
}

/// One map's way into its successor.
struct Move {
    name: String,
    from: RawMap,
    to: RawMap,
    /// Where the successor is pinned.
    pin: PathBuf,
    /// The entries that were copied, as they were: what is still so was written by no program since.
    copied: HashSet<u64>,
    hasher: RandomState,
    /// Entries that the successor had no room for.
    lost: u64,
}

impl Successors {
    /// Finishes what another agent has begun, and fills a successor for each map that is not as wanted. The maps that are in
    /// use stay as they are.
    pub fn prepare(wanted: &[Wanted], pins: &Pins) -> Result<Self, DatapathError> {
        for unfinished in pins::entries(&pins.filling())? {
            unpin(&pins.filling().join(unfinished))?;
        }
        let mut successors = Self::default();
        for wanted in wanted {
            successors.prepare_one(wanted, pins)?;
        }
        Ok(successors)
    }

    fn prepare_one(&mut self, wanted: &Wanted, pins: &Pins) -> Result<(), DatapathError> {
        let name = &wanted.name;
        let Some(present) = pinned(name, &pins.maps().join(name))? else { return Ok(()) };
        let pin = pins.swapping().join(name);
        if let Some(successor) = pinned(name, &pin)? {
            self.note_other_size(wanted, successor.shape.max_entries, Why::Unfinished);
            return self.fill(name, present, successor, pin);
        }
        let Some(shape) = self.shape_of_successor(wanted, &present)? else { return Ok(()) };
        let successor = match RawMap::create(name, shape) {
            Ok(successor) => successor,
            // The kernel has no memory for it, and what is there works.
            Err(error) => {
                let why = Why::NotMade(error_text(&error));
                self.problems.push(SizeProblem::new(wanted, present.shape.max_entries, why));
                return Ok(());
            }
        };
        let pin = pins.filling().join(name);
        pins::create_dir(&pins.filling())?;
        successor
            .pin(&pin)
            .map_err(|source| DatapathError::Pin { path: pin.clone(), source: io::Error::other(source) })?;
        tracing::info!(map = name, from = present.shape.max_entries, to = shape.max_entries, "a map gets another size");
        if wanted.is_unused {
            return self.begin(name, present, successor, pin, |_| Ok(()));
        }
        self.fill(name, present, successor, pin)
    }

    /// `None`: the map stays as it is.
    fn shape_of_successor(&mut self, wanted: &Wanted, present: &RawMap) -> Result<Option<Shape>, DatapathError> {
        let mut shape = wanted.shape;
        if shape == present.shape {
            return Ok(None);
        }
        if !shape.holds_the_same(&present.shape) {
            return Err(DatapathError::Layout { map: wanted.name.clone() });
        }
        let is_smaller = shape.max_entries < present.shape.max_entries;
        if is_smaller && !wanted.is_unused && !shape.is_array() && !shape.is_ring() {
            let used = present.count().map_err(in_map(&wanted.name))?;
            // Programs add to it until they are swapped.
            if used > u64::from(shape.max_entries - shape.max_entries / 8) {
                shape.max_entries = present.shape.max_entries;
                self.note_other_size(wanted, shape.max_entries, Why::InUse(used));
            }
        }
        Ok((shape != present.shape).then_some(shape))
    }

    fn note_other_size(&mut self, wanted: &Wanted, in_force: u32, why: Why) {
        if wanted.shape.max_entries != in_force {
            self.problems.push(SizeProblem::new(wanted, in_force, why));
        }
    }

    fn fill(&mut self, name: &str, from: RawMap, to: RawMap, pin: PathBuf) -> Result<(), DatapathError> {
        let is_new = pin.parent().is_some_and(|dir| dir.ends_with(pins::FILLING));
        self.begin(name, from, to, pin, |filling| match filling.from.shape {
            shape if shape.is_ring() => Ok(()),
            // Its successor has all of an array from the beginning.
            shape if shape.is_array() && !is_new => Ok(()),
            shape if shape.is_array() => filling.copy_array(),
            _ => filling.copy_changed(),
        })
    }

    fn begin(
        &mut self,
        name: &str,
        from: RawMap,
        to: RawMap,
        pin: PathBuf,
        copy: impl FnOnce(&mut Move) -> io::Result<()>,
    ) -> Result<(), DatapathError> {
        let (copied, hasher) = Default::default();
        let mut begun = Move { name: name.to_owned(), from, to, pin, copied, hasher, lost: 0 };
        copy(&mut begun).map_err(in_map(name))?;
        self.moves.push(begun);
        Ok(())
    }

    /// The maps that programs are to be loaded with, by name, where they are not pinned as others are.
    pub fn pins(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.moves.iter().map(|of| (&*of.name, &*of.pin))
    }

    /// Whether interfaces may run programs that work with the predecessors.
    pub fn are_pending(&self) -> bool {
        !self.moves.is_empty()
    }

    /// To be called when the new programs are loaded and none of them runs yet.
    pub fn enter(&mut self, pins: &Pins) -> Result<(), DatapathError> {
        self.catch_up()?;
        for begun in &mut self.moves {
            let pin = pins.swapping().join(&begun.name);
            if begun.pin != pin {
                pins::create_dir(&pins.swapping())?;
                pins::rename(&begun.pin, &pin)?;
                begun.pin = pin;
            }
        }
        pins::remove_dir(&pins.filling())
    }

    /// Copies what was written to the predecessors since the last time.
    fn catch_up(&mut self) -> Result<(), DatapathError> {
        for begun in self.moves.iter_mut().filter(|begun| begun.takes_changes()) {
            begun.copy_changed().map_err(in_map(&begun.name))?;
        }
        Ok(())
    }

    /// To be called when no interface runs programs that work with the predecessors.
    pub fn settle(&mut self, pins: &Pins) -> Result<(), DatapathError> {
        self.catch_up()?;
        for begun in self.moves.drain(..) {
            pins::rename(&begun.pin, &pins.maps().join(&begun.name))?;
            if begun.lost > 0 {
                let in_force = begun.to.shape.max_entries;
                let problem = SizeProblem { table: begun.name, asked: in_force, in_force, why: Why::Lost(begun.lost) };
                self.problems.push(problem);
            }
        }
        pins::remove_dir(&pins.swapping())
    }
}

impl Move {
    /// Only programs write to these; arrays are the agent's, and a new agent writes to the new ones.
    fn takes_changes(&self) -> bool {
        let is_unused = self.copied.is_empty() && self.to.shape.max_entries == 1;
        !self.from.shape.is_array() && !self.from.shape.is_ring() && !is_unused
    }

    fn copy_array(&mut self) -> io::Result<()> {
        let room = self.to.shape.max_entries;
        let to = &self.to;
        self.from.each(|key, value| match <[u8; 4]>::try_from(key).map(u32::from_ne_bytes) {
            Ok(index) if index < room => to.set(key, value, Write::Any),
            _ => Ok(()),
        })
    }

    /// Copies the entries that are not as they were at the last time. What programs have changed in the successor stays as
    /// it is there.
    fn copy_changed(&mut self) -> io::Result<()> {
        let Self { from, to, copied, hasher, lost, .. } = self;
        from.each(|key, value| {
            if !copied.insert(hasher.hash_one((key, value))) {
                return Ok(());
            }
            let write = match to.get(key)? {
                None => Write::IfAbsent,
                Some(present) if present != value && copied.contains(&hasher.hash_one((key, &*present))) => {
                    Write::IfPresent
                }
                Some(_) => return Ok(()),
            };
            match to.set(key, value, write).map_err(|error| (error.raw_os_error(), error)) {
                Ok(()) => Ok(()),
                // It came, or went, in this moment.
                Err((Some(libc::EEXIST | libc::ENOENT), _)) => Ok(()),
                Err((Some(libc::E2BIG | libc::ENOSPC | libc::ENOMEM), _)) => {
                    *lost += 1;
                    Ok(())
                }
                Err((_, error)) => Err(error),
            }
        })
    }
}

fn pinned(name: &str, path: &Path) -> Result<Option<RawMap>, DatapathError> {
    RawMap::pinned(path)
        .map_err(|source| DatapathError::CarryOver { map: name.to_owned(), source: io::Error::other(source) })
}

fn in_map(name: &str) -> impl Fn(io::Error) -> DatapathError {
    move |source| DatapathError::CarryOver { map: name.to_owned(), source }
}

fn error_text(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
