//! The steps of ADD and DEL by name, each with the time it may take.

use std::time::Duration;

/// A step of a call. What comes before the first step of ADD in [`Step::ALL`] changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Waiting for other calls of the same attachment.
    Turn,
    /// What is there already, and whether the node is fit.
    Look,
    Lease,
    Veth,
    PodSide,
    HostSide,
    Programs,
    Maps,
    Record,
    /// The steps of DEL.
    Unmap,
    Detach,
    Unlink,
    Scrub,
    Forget,
}

impl Step {
    /// The steps of ADD that change something, in order.
    pub const ALL: [Step; 7] =
        [Step::Lease, Step::Veth, Step::PodSide, Step::HostSide, Step::Programs, Step::Maps, Step::Record];

    /// The steps of DEL, in order.
    pub const DEL: [Step; 5] = [Step::Unmap, Step::Detach, Step::Unlink, Step::Scrub, Step::Forget];

    pub const fn name(self) -> &'static str {
        match self {
            Step::Turn => "turn",
            Step::Look => "look",
            Step::Lease => "lease",
            Step::Veth => "veth",
            Step::PodSide => "pod-side",
            Step::HostSide => "host-side",
            Step::Programs => "programs",
            Step::Maps => "maps",
            Step::Record => "record",
            Step::Unmap => "unmap",
            Step::Detach => "detach",
            Step::Unlink => "unlink",
            Step::Scrub => "scrub",
            Step::Forget => "forget",
        }
    }

    /// How long the step may take. All of a call's together are less than the plugin waits.
    pub const fn limit(self) -> Duration {
        let secs = match self {
            Step::Turn => 8,
            // The disk, and with a source that leases over the network, that.
            Step::Lease | Step::Record | Step::Forget => 10,
            Step::Look | Step::Veth | Step::PodSide | Step::HostSide | Step::Programs | Step::Maps => 5,
            // A walk through the tables of flows.
            Step::Scrub => 20,
            Step::Unmap | Step::Detach | Step::Unlink => 5,
        };
        Duration::from_secs(secs)
    }

    pub(super) fn from_name(name: &str) -> Option<Step> {
        Self::ALL.into_iter().chain(Self::DEL).find(|step| step.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::LONGEST_CALL;

    #[test]
    fn a_call_whose_every_step_takes_its_time_ends_before_the_plugin_gives_up() {
        let before = [Step::Turn, Step::Look];
        let add: Duration = before.into_iter().chain(Step::ALL).map(Step::limit).sum();
        let del: Duration = before.into_iter().chain(Step::DEL).map(Step::limit).sum();
        assert!(add < LONGEST_CALL && del < LONGEST_CALL, "{add:?} {del:?}");
    }

    #[test]
    fn steps_have_names_of_their_own() {
        for step in Step::ALL.into_iter().chain(Step::DEL) {
            assert_eq!(Step::from_name(step.name()), Some(step));
        }
        assert_eq!((Step::from_name("turn"), Step::from_name("")), (None, None));
    }
}
