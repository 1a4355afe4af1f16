//! The time limits of all probes.

use std::time::Duration;

/// How long a probe waits for an answer: far above any delay inside one machine, short enough to prove silence.
pub const PATIENCE: Duration = Duration::from_millis(1500);

/// How often a serving thread checks whether it has to end.
pub(super) const TICK: Duration = Duration::from_millis(20);
