//! How many assured flows a pod has: no pod may take the connection table from the others.
//!
//! Programs count what they promote and remove, the agent counts what it removes. Neither writes the other's number, so none
//! is lost; what is lost all the same (an agent that is killed between a removal and its count) the agent finds when it
//! counts the flows in the table.

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// What the programs have counted of a pod's assured flows. Maps `POD_FLOWS4` and `POD_FLOWS6`: address → counts.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct PodFlows {
    pub promoted: u64,
    pub removed: u64,
}

impl PodFlows {
    /// How many flows the pod has. `swept`: how many the agent has removed, from the maps `PODS_SWEPT4` and `PODS_SWEPT6`.
    ///
    /// The numbers are read one after the other: between a removal and a promotion, the difference may be below zero.
    pub fn live(self, swept: u64) -> u64 {
        (self.promoted.wrapping_sub(self.removed).wrapping_sub(swept) as i64).max(0) as u64
    }
}

/// A pod's flows as they were counted in the table, while flows came and went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    pub counted: u64,
}

impl Census {
    /// What `swept` has to be for [`PodFlows::live`] to be true; as it is, if it can be. `before` and `after` are the counts with
    /// their `swept` when counting began and ended. A flow that came or went in between may have been counted or not.
    pub fn correct(self, before: (PodFlows, u64), after: (PodFlows, u64)) -> u64 {
        let came = after.0.promoted.wrapping_sub(before.0.promoted);
        let went = after.0.removed.wrapping_sub(before.0.removed).wrapping_add(after.1.wrapping_sub(before.1));
        let believed = before.0.promoted.wrapping_sub(before.0.removed).wrapping_sub(before.1) as i64;
        let (fewest, most) = (self.counted.saturating_sub(came) as i64, self.counted.saturating_add(went) as i64);
        let excess = believed - believed.clamp(fewest, most);
        after.1.wrapping_add(excess as u64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn flows_are_what_was_promoted_and_not_removed_by_either() {
        let flows = PodFlows { promoted: 10, removed: 3 };
        assert_eq!((flows.live(2), flows.live(7), flows.live(8)), (5, 0, 0));
        let wrapped = PodFlows { promoted: 2, removed: u64::MAX - 1 };
        assert_eq!(wrapped.live(1), 3);
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Promote,
        Remove,
        Sweep,
        /// Visits a flow for the census.
        Count,
    }

    proptest! {
        #[test]
        fn census_leaves_right_numbers_alone_and_corrects_wrong_ones_to_what_could_be(
            start in 0u64..20,
            error in -10i64..10,
            offset: u64,
            steps in proptest::collection::vec(
                prop_oneof![Just(Step::Promote), Just(Step::Remove), Just(Step::Sweep), Just(Step::Count)], 0..60
            ),
        ) {
            let mut flows = PodFlows { promoted: offset.wrapping_add(start), removed: offset };
            let mut swept = error as u64;
            let before = (flows, swept);
            // Flows that the census will come to, and those it has been to; new ones may be on either side.
            let (mut ahead, mut behind, mut counted, mut changes) = (start, 0, 0, 0);
            for (number, step) in steps.iter().enumerate() {
                let flip = number % 2 == 0;
                match step {
                    Step::Promote => {
                        flows.promoted = flows.promoted.wrapping_add(1);
                        if flip { ahead += 1 } else { behind += 1 }
                        changes += 1;
                    }
                    Step::Remove | Step::Sweep => {
                        let place = if (flip && ahead > 0) || behind == 0 { &mut ahead } else { &mut behind };
                        if *place == 0 { continue }
                        *place -= 1;
                        changes += 1;
                        if matches!(step, Step::Remove) {
                            flows.removed = flows.removed.wrapping_add(1);
                        } else {
                            swept = swept.wrapping_add(1);
                        }
                    }
                    Step::Count if ahead > 0 => (ahead, behind, counted) = (ahead - 1, behind + 1, counted + 1),
                    Step::Count => {}
                }
            }
            (counted, behind) = (counted + ahead, behind + ahead);
            let corrected = Census { counted }.correct(before, (flows, swept));
            let live = flows.live(corrected);
            prop_assert!(live.abs_diff(behind) <= changes, "{} instead of {}", live, behind);
            if error == 0 {
                prop_assert_eq!(corrected, swept);
            }
            if changes == 0 {
                prop_assert_eq!(live, behind);
            }
        }
    }
}
