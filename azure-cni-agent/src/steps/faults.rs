//! Fault injection for tests: a step fails, takes long, or is the agent's last, after it was done. Only with the
//! feature `faults`, which the tests of the system turn on, and only if the agent's environment asks for it at the start.

use std::time::Duration;

use nix::sys::signal::{Signal, raise};

use super::limits::Step;

/// A step that fails because a test asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("step {0} fails because a test asks for it")]
pub struct InjectedFault(pub &'static str);

/// Which step fails, and how. Read from the environment once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    fail_after: Option<Step>,
    abort_after: Option<Step>,
    slow: Option<(Step, Duration)>,
}

impl Faults {
    /// Names the step that fails after it was done. Tests see with it that every step is undone.
    pub const VARIABLE: &str = "AZURE_CNI_FAIL_AFTER";
    /// Names the step after which the agent kills itself without warning (SIGKILL). Tests see with it that the agent may
    /// die at any moment.
    pub const ABORT_VARIABLE: &str = "AZURE_CNI_ABORT_AFTER";
    /// `step:milliseconds`: how long the step goes on after it was done. Tests see with it what happens meanwhile.
    pub const SLOW_VARIABLE: &str = "AZURE_CNI_SLOW_AFTER";

    /// Panics on a name that is no step, so that a test cannot pass by breaking nothing.
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

    /// Await this when the step is done.
    pub async fn after(self, step: Step) -> Result<(), InjectedFault> {
        if self.abort_after == Some(step) {
            // Nothing of this process runs after it.
            let _ = raise(Signal::SIGKILL);
        }
        if let Some((_, duration)) = self.slow.filter(|(slow, _)| *slow == step) {
            tokio::time::sleep(duration).await;
        }
        if self.fail_after == Some(step) { Err(InjectedFault(step.name())) } else { Ok(()) }
    }
}
