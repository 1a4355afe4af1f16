//! The steps of ADD and DEL by name, and the test hooks that make one of them fail, or end the agent there.

use nix::sys::signal::{Signal, raise};

use super::error::Failure;

macro_rules! steps {
    ($(#[$doc:meta])* $name:ident { $($step:ident => $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($step),+
        }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$step),+];

            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$step => $text),+
                }
            }
        }
    };
}

steps! {
    /// The steps of ADD, in order.
    Step {
        Lease => "lease",
        Veth => "veth",
        Label => "label",
        PodSide => "pod-side",
        HostSide => "host-side",
        Programs => "programs",
        Maps => "maps",
        Record => "record",
        Routes => "routes",
    }
}

steps! {
    /// The steps of DEL, in order.
    DelStep {
        Record => "del-record",
        Maps => "del-maps",
        Programs => "del-programs",
        Veth => "del-veth",
        Scrub => "del-scrub",
        Routes => "del-routes",
        Lease => "del-lease",
    }
}

/// What is to go wrong after a step was done: how the tests see that every step is undone, and that the agent may die
/// after any. Off unless the environment names a step when the agent starts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    fail_after: Option<Step>,
    abort_after: Option<&'static str>,
}

impl Faults {
    /// Names a step of ADD: each ADD fails after it.
    pub const VARIABLE: &str = "AZURE_CNI_FAIL_AFTER";
    /// Names a step of ADD or DEL: the agent kills itself after it, without warning (SIGKILL).
    pub const ABORT_VARIABLE: &str = "AZURE_CNI_ABORT_AFTER";

    /// Panics on a name that is no step: a test that means to break a step must break one.
    pub fn from_environment() -> Self {
        let adding = || Step::ALL.iter().map(|step| step.name());
        let fail_after =
            named(Self::VARIABLE, adding()).and_then(|name| Step::ALL.iter().copied().find(|step| step.name() == name));
        let abort_after = named(Self::ABORT_VARIABLE, adding().chain(DelStep::ALL.iter().map(|step| step.name())));
        Self { fail_after, abort_after }
    }

    /// To be called when the step is done and its undo is pushed.
    pub(super) fn after(self, step: Step) -> Result<(), Failure> {
        self.abort_if(step.name());
        if self.fail_after == Some(step) { Err(Failure::Injected(step.name())) } else { Ok(()) }
    }

    pub(super) fn after_del(self, step: DelStep) {
        self.abort_if(step.name());
    }

    fn abort_if(self, step: &'static str) {
        if self.abort_after == Some(step) {
            // Nothing of this process runs after it.
            let _ = raise(Signal::SIGKILL);
        }
    }
}

fn named(variable: &str, mut steps: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let name = std::env::var(variable).ok()?;
    tracing::warn!(variable, step = name, "a fault after this step: a test asked for it");
    Some(steps.find(|step| *step == name).unwrap_or_else(|| panic!("{variable}={name:?} names no step")))
}
