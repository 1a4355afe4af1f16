//! What is going on, on standard error: one line that is rewritten on a terminal, now and then a new one elsewhere.

use std::{
    cell::Cell,
    io::{IsTerminal, Write, stderr},
    time::{Duration, Instant},
};

/// Without a terminal a line comes at most so often.
const QUIET: Duration = Duration::from_secs(10);

pub(crate) struct Progress {
    begin: Instant,
    terminal: bool,
    last: Cell<Option<Instant>>,
}

impl Progress {
    pub(crate) fn start() -> Self {
        Self { begin: Instant::now(), terminal: stderr().is_terminal(), last: Cell::new(None) }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }

    /// Says what begins.
    pub(crate) fn note(&self, what: &str) {
        self.line(what, true);
    }

    /// Says how far the measuring is.
    pub(crate) fn step(&self, position: &str, left: Duration, what: &str) {
        self.line(&format!("{position}  {:>11} left  {what}", crate::seconds(left)), false);
    }

    /// Takes the line away.
    pub(crate) fn clear(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }

    fn line(&self, text: &str, always: bool) {
        if self.terminal {
            eprint!("\r\x1b[K{text}");
            // Nobody would miss a line that cannot be shown.
            let _ = stderr().flush();
        } else if always || self.last.get().is_none_or(|last| last.elapsed() >= QUIET) {
            self.last.set(Some(Instant::now()));
            eprintln!("{text}");
        }
    }
}
