//! What is going on, on standard error: one line that is rewritten on a terminal, now and then a new one elsewhere.
//!
//! How long it will go on is known from the start by what each part of the plan takes elsewhere, and better once it runs.

use std::{
    cell::RefCell,
    io::{IsTerminal, Write, stderr},
    time::{Duration, Instant},
};

/// Without a terminal a line comes at most so often.
const QUIET: Duration = Duration::from_secs(10);
/// After so many steps a part's own speed says more than its estimate.
const ENOUGH: u32 = 8;

/// Of a run, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Network,
    Calls,
    Programs,
    Building,
    Loads,
    Scale,
    Restart,
}

/// How long a part takes, as far as the plan says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Estimate {
    pub(crate) part: Part,
    pub(crate) steps: u32,
    pub(crate) each: Duration,
}

pub(crate) struct Progress {
    begin: Instant,
    terminal: bool,
    state: RefCell<State>,
}

struct State {
    estimates: Vec<Estimate>,
    part: Part,
    part_began: Instant,
    steps: u32,
    last_line: Option<Instant>,
}

impl Progress {
    pub(crate) fn start(estimates: Vec<Estimate>) -> Self {
        let begin = Instant::now();
        let state = State { estimates, part: Part::Network, part_began: begin, steps: 0, last_line: None };
        Self { begin, terminal: stderr().is_terminal(), state: RefCell::new(state) }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }

    /// Says that a part begins; its steps follow.
    pub(crate) fn begin(&self, part: Part) {
        let mut state = self.state.borrow_mut();
        (state.part, state.part_began, state.steps) = (part, Instant::now(), 0);
    }

    /// Says what begins.
    pub(crate) fn step(&self, what: &str) {
        let left = self.state.borrow().left();
        self.state.borrow_mut().steps += 1;
        self.line(&format!("{:>11} left  {what}", crate::unit::elapsed(left)));
    }

    /// Takes the line away.
    pub(crate) fn clear(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }

    fn line(&self, text: &str) {
        let last = &mut self.state.borrow_mut().last_line;
        if self.terminal {
            eprint!("\r\x1b[K{text}");
            // A line that cannot be shown is no loss.
            let _ = stderr().flush();
        } else if last.is_none_or(|last| last.elapsed() >= QUIET) {
            *last = Some(Instant::now());
            eprintln!("{text}");
        }
    }
}

impl State {
    fn left(&self) -> Duration {
        let of = |estimate: &Estimate| match estimate.part.cmp(&self.part) {
            std::cmp::Ordering::Less => Duration::ZERO,
            std::cmp::Ordering::Greater => estimate.each * estimate.steps,
            std::cmp::Ordering::Equal => {
                let each = if self.steps < ENOUGH { estimate.each } else { self.part_began.elapsed() / self.steps };
                each * estimate.steps.saturating_sub(self.steps)
            }
        };
        self.estimates.iter().map(of).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(part: Part, steps: u32) -> State {
        let estimate = |part, steps, secs| Estimate { part, steps, each: Duration::from_secs(secs) };
        let estimates = vec![estimate(Part::Calls, 3, 5), estimate(Part::Loads, 10, 2)];
        State { estimates, part, part_began: Instant::now(), steps, last_line: None }
    }

    #[test]
    fn time_left_is_of_what_has_not_been_done() {
        assert_eq!(state(Part::Network, 1).left(), Duration::from_secs(35));
        assert_eq!(state(Part::Calls, 1).left(), Duration::from_secs(30));
        assert_eq!(state(Part::Programs, 0).left(), Duration::from_secs(20));
        assert_eq!(state(Part::Loads, 4).left(), Duration::from_secs(12));
        assert_eq!(state(Part::Loads, 99).left(), Duration::ZERO);
    }
}
