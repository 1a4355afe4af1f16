//! The tests' way into a call: making a step fail, take long, or be the agent's last, after it was done. Off unless the
//! agent's environment asks for it when it starts.

use std::time::Duration;

use nix::sys::signal::{Signal, raise};

use super::error::Failure;
use super::step::Step;

#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    fail_after: Option<Step>,
    abort_after: Option<Step>,
    slow: Option<(Step, Duration)>,
}

impl Faults {
    /// Names the step that is to fail after it was done: how the tests see that every step is undone.
    pub const VARIABLE: &str = "AZURE_CNI_FAIL_AFTER";
    /// Names the step after which the agent kills itself, without warning (SIGKILL): how the tests see that it may die at
    /// any moment.
    pub const ABORT_VARIABLE: &str = "AZURE_CNI_ABORT_AFTER";
    /// `step:milliseconds`, for how long the step goes on after it was done: how the tests see what happens meanwhile.
    pub const SLOW_VARIABLE: &str = "AZURE_CNI_SLOW_AFTER";

    /// Panics on a name that is no step: a test that means to break a step must break one.
    pub fn from_environment() -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        let step = |variable: &str, name: &str| {
            Step::from_name(name).unwrap_or_else(|| panic!("{variable}={name:?} names no step"))
        };
        let named = |name: &'static str| variable(name).map(|value| step(name, &value));
        let faults = Self {
            fail_after: named(Self::VARIABLE),
            abort_after: named(Self::ABORT_VARIABLE),
            slow: variable(Self::SLOW_VARIABLE).map(|text| {
                let (name, millis) = text.split_once(':').unwrap_or((&text, ""));
                let millis = millis.parse().unwrap_or_else(|_| panic!("{}={text:?} has no time", Self::SLOW_VARIABLE));
                (step(Self::SLOW_VARIABLE, name), Duration::from_millis(millis))
            }),
        };
        if faults.fail_after.is_some() || faults.abort_after.is_some() || faults.slow.is_some() {
            tracing::warn!(?faults, "steps fail, take long or are the last: a test asked for it");
        }
        faults
    }

    /// To be awaited when the step is done.
    pub(super) async fn after(self, step: Step) -> Result<(), Failure> {
        if self.abort_after == Some(step) {
            // Nothing of this process runs after it.
            let _ = raise(Signal::SIGKILL);
        }
        if let Some((_, duration)) = self.slow.filter(|(slow, _)| *slow == step) {
            tokio::time::sleep(duration).await;
        }
        if self.fail_after == Some(step) { Err(Failure::Injected(step.name())) } else { Ok(()) }
    }
}
