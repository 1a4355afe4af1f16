//! What a register or a slot of the frame may hold, as far as the frame is concerned.

use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value {
    /// No address of the frame. As a number it is this, signed, or more.
    Other { least: i64 },
    /// An address of the frame, or something that is none.
    Frame {
        /// How far below the frame's end it may point at most.
        below: i64,
        /// It points nowhere else into the frame.
        is_exact: bool,
    },
    /// Made out of an address of the frame: it may point anywhere.
    Unknown,
}

/// Of which nothing is known but that it is no address of the frame.
pub(crate) const ANYTHING: Value = Value::Other { least: i64::MIN };

/// What is zero or more: all that has been cut to 32 bits or less.
pub(crate) const UNSIGNED: Value = Value::Other { least: 0 };

impl Default for Value {
    fn default() -> Self {
        ANYTHING
    }
}

impl Value {
    pub(crate) fn is_other(self) -> bool {
        matches!(self, Self::Other { .. })
    }

    /// One of the two, depending on the way that was taken.
    pub(crate) fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Other { least: one }, Self::Other { least: two }) => Self::Other { least: one.min(two) },
            (Self::Other { .. }, value) | (value, Self::Other { .. }) => value,
            (Self::Frame { below: one, is_exact }, Self::Frame { below: two, is_exact: too }) => {
                Self::Frame { below: one.max(two), is_exact: is_exact && too && one == two }
            }
        }
    }

    /// Behind it, or before it, by a number that is known.
    pub(crate) fn at(self, distance: i64) -> Self {
        match self {
            Self::Frame { below, is_exact } => Self::Frame { below: below - distance, is_exact },
            other => other,
        }
    }

    pub(crate) fn plus(self, added: Self) -> Self {
        match (self, added) {
            (Self::Frame { below, .. }, Self::Other { least }) if least != i64::MIN => {
                Self::Frame { below: below.saturating_sub(least), is_exact: false }
            }
            _ => self.mixed_with(added),
        }
    }

    /// What an operation makes of these two of which nothing is said but that.
    pub(crate) fn mixed_with(self, other: Self) -> Self {
        if self.is_other() && other.is_other() { ANYTHING } else { Self::Unknown }
    }
}

/// Addresses of the frame that were written into the frame, whenever that was.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Spilled {
    at: BTreeMap<i64, Value>,
    /// Written to a place that is not exactly known.
    somewhere: Value,
}

impl Spilled {
    pub(crate) fn write(&mut self, place: Value, value: Value) {
        // Elsewhere it is lost: the kernel takes nothing for an address of the frame that comes from there.
        if value.is_other() || place.is_other() {
            return;
        }
        let kept = match place {
            Value::Frame { below, is_exact: true } => self.at.entry(below).or_default(),
            _ => &mut self.somewhere,
        };
        *kept = kept.or(value);
    }

    pub(crate) fn read(&self, place: Value) -> Value {
        match place {
            Value::Other { .. } => ANYTHING,
            Value::Frame { below, is_exact: true } => {
                self.at.get(&below).copied().unwrap_or_default().or(self.somewhere)
            }
            _ => self.at.values().fold(self.somewhere, |all, value| all.or(*value)),
        }
    }
}
