//! One line per step, on standard error: what is being done, and how long it took.

use std::{
    io::{IsTerminal, Write, stderr},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

/// Shows the progress of the demo.
pub(crate) struct Progress {
    begin: Instant,
    terminal: bool,
}

impl Progress {
    pub(crate) fn start() -> Self {
        Self { begin: Instant::now(), terminal: stderr().is_terminal() }
    }

    /// Runs a step that the rest needs; its error names it.
    pub(crate) fn step<T, E>(&self, what: &str, work: impl FnOnce() -> Result<T, E>) -> Result<T>
    where
        Result<T, E>: Context<T, E>,
    {
        self.show(what, Result::is_ok, work).with_context(|| what.to_owned())
    }

    /// Runs a step whose outcome, `good` or not, is a result to report.
    pub(crate) fn show<T>(&self, what: &str, good: impl FnOnce(&T) -> bool, work: impl FnOnce() -> T) -> T {
        if self.terminal {
            eprint!("  ...  {what}");
            // A line that cannot be shown does no harm.
            let _ = stderr().flush();
        }
        let begin = Instant::now();
        let outcome = work();
        let rewind = if self.terminal { "\r" } else { "" };
        let word = if good(&outcome) { "done" } else { "FAIL" };
        eprintln!("{rewind}  {word} {what} ({:.1} s)", begin.elapsed().as_secs_f64());
        outcome
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }
}
