//! The steps of ADD by name, and the test hook that makes one of them fail.

use super::error::Failure;

/// The steps of ADD, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Lease,
    Veth,
    PodSide,
    HostSide,
    Programs,
    Maps,
    Record,
}

impl Step {
    pub const ALL: [Step; 7] =
        [Step::Lease, Step::Veth, Step::PodSide, Step::HostSide, Step::Programs, Step::Maps, Step::Record];

    pub const fn name(self) -> &'static str {
        match self {
            Step::Lease => "lease",
            Step::Veth => "veth",
            Step::PodSide => "pod-side",
            Step::HostSide => "host-side",
            Step::Programs => "programs",
            Step::Maps => "maps",
            Step::Record => "record",
        }
    }
}

/// Which step is to fail after it was done: how the tests see that every step is undone. Off unless the environment
/// variable `AZURE_CNI_FAIL_AFTER` names a step when the agent starts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    fail_after: Option<Step>,
}

impl Faults {
    pub const VARIABLE: &str = "AZURE_CNI_FAIL_AFTER";

    /// Panics on a name that is no step: a test that means to break a step must break one.
    pub fn from_environment() -> Self {
        let Ok(name) = std::env::var(Self::VARIABLE) else { return Self::default() };
        let step = Step::ALL.into_iter().find(|step| step.name() == name);
        tracing::warn!(step = name, "every ADD fails after this step: a test asked for it");
        Self { fail_after: Some(step.unwrap_or_else(|| panic!("{}={name:?} names no step", Self::VARIABLE))) }
    }

    /// To be called when the step is done and its undo is pushed.
    pub(super) fn after(self, step: Step) -> Result<(), Failure> {
        if self.fail_after == Some(step) { Err(Failure::Injected(step.name())) } else { Ok(()) }
    }
}
