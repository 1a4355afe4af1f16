//! The steps of ADD and DEL: their names, and how long each may take.

use std::time::Duration;

macro_rules! steps {
    ($($(#[$doc:meta])* $step:ident => $text:literal),+ $(,)?) => {
        /// A step of a call. What comes before the first step of ADD in [`Step::ADD`] changes nothing.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Step {
            $($(#[$doc])* $step),+
        }

        impl Step {
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$step => $text),+
                }
            }
        }
    };
}

steps! {
    /// Waits for other calls for the same attachment.
    Lock => "lock",
    /// What there is already, and whether the node is ready for pods.
    Observe => "observe",
    Lease => "lease",
    Veth => "veth",
    Label => "label",
    PodSide => "pod-side",
    HostSide => "host-side",
    Programs => "programs",
    Maps => "maps",
    Record => "record",
    Routes => "routes",
    /// The first step of DEL that changes something: the record goes.
    Forget => "forget",
    Unmap => "unmap",
    Detach => "detach",
    Unlink => "unlink",
    Scrub => "scrub",
    Unroute => "unroute",
    Release => "release",
}

impl Step {
    /// The steps of ADD that change something, in order.
    pub const ADD: [Step; 9] = [
        Step::Lease,
        Step::Veth,
        Step::Label,
        Step::PodSide,
        Step::HostSide,
        Step::Programs,
        Step::Maps,
        Step::Record,
        Step::Routes,
    ];

    /// The steps of DEL, in order.
    pub const DEL: [Step; 7] =
        [Step::Forget, Step::Unmap, Step::Detach, Step::Unlink, Step::Scrub, Step::Unroute, Step::Release];

    /// How long the step may take. The limits of all steps of a call add up to less than the plugin waits.
    pub const fn limit(self) -> Duration {
        let secs = match self {
            Step::Lock => 6,
            // It writes to the disk; with azure-cns it asks a server too.
            Step::Lease => 10,
            Step::Record | Step::Forget => 8,
            // A walk through the tables of flows.
            Step::Scrub => 15,
            Step::Label | Step::Routes | Step::Unroute | Step::Release => 3,
            _ => 4,
        };
        Duration::from_secs(secs)
    }

    #[cfg(any(test, feature = "faults"))]
    pub(super) fn from_name(name: &str) -> Option<Step> {
        Self::ADD.into_iter().chain(Self::DEL).find(|step| step.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use azure_cni_api::socket::LONGEST_CALL;

    use super::*;

    #[test]
    fn a_call_whose_every_step_takes_its_time_ends_before_the_plugin_gives_up() {
        let before = [Step::Lock, Step::Observe];
        let add: Duration = before.into_iter().chain(Step::ADD).map(Step::limit).sum();
        let del: Duration = before.into_iter().chain(Step::DEL).map(Step::limit).sum();
        assert!(add < LONGEST_CALL && del < LONGEST_CALL, "{add:?} {del:?}");
    }

    #[test]
    fn steps_have_names_of_their_own() {
        for step in Step::ADD.into_iter().chain(Step::DEL) {
            assert_eq!(Step::from_name(step.name()), Some(step));
        }
        assert_eq!((Step::from_name("lock"), Step::from_name("")), (None, None));
    }
}
