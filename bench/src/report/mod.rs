//! What came of it, for people (`text`) and for programs (`json`).

mod json;
mod text;

use std::time::Duration;

pub(crate) use text::wirings;

use crate::{
    calls::Calls,
    figure::Figure,
    leases::LeaseCost,
    machine::Machine,
    plan::{Arm, Path, Plan},
    programs::Programs,
    rounds::Results,
    statistics::{Comparison, Summary},
    wiring::Wiring,
};

/// The whole result.
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) plan: Plan,
    pub(crate) wirings: Vec<Wiring>,
    pub(crate) results: Results,
    pub(crate) programs: Programs,
    pub(crate) leases: Vec<LeaseCost>,
    pub(crate) calls: Option<Calls>,
    pub(crate) took: Duration,
}

impl Report {
    fn samples(&self, path: Path, figure: Figure, arm: Arm) -> Option<&[f64]> {
        self.results.samples.get(&(path, figure))?.get(&arm).map(Vec::as_slice)
    }

    /// Ours against a peer, which for the bare pair is always its one path.
    fn comparison(&self, path: Path, figure: Figure, peer: Arm) -> Option<Comparison> {
        if !figure.is_compared() {
            return None;
        }
        let theirs = self.samples(if peer == Arm::Bare { Path::SameVm } else { path }, figure, peer)?;
        Some(Comparison::of(self.samples(path, figure, Arm::Ours)?, theirs, figure.better()))
    }

    /// What an arm's way costs beyond a bare pair, round by round. Two ends with a wire between them are in every cost alike,
    /// and draw its ratios towards 1.
    fn added(&self, path: Path, figure: Figure, arm: Arm) -> Option<Vec<f64>> {
        if !figure.is_cost() || arm == Arm::Bare {
            return None;
        }
        let whole = self.samples(path, figure, arm)?;
        let ends = self.samples(Path::SameVm, figure, Arm::Bare)?;
        Some(whole.iter().zip(ends).map(|(whole, ends)| whole - ends).collect())
    }

    /// Of [`Self::added`], ours against the reference.
    fn added_comparison(&self, path: Path, figure: Figure) -> Option<Comparison> {
        let [ours, theirs] = [Arm::Ours, Arm::Bridge].map(|arm| self.added(path, figure, arm));
        Some(Comparison::of(&ours?, &theirs?, figure.better()))
    }

    /// How far a bare pair's own figures lie apart: what the machine's other work does to any figure. Of the figure where it
    /// is widest.
    fn noise(&self) -> Option<f64> {
        let bare = self.results.samples.iter().filter(|((_, figure), _)| figure.is_compared());
        let spreads = bare.filter_map(|(_, arms)| Some(Summary::of(arms.get(&Arm::Bare)?).relative_spread()));
        spreads.max_by(f64::total_cmp)
    }

    /// See [`crate::load::Reading::disturbed`].
    fn disturbed(&self) -> Option<Summary> {
        (!self.results.disturbed.is_empty()).then(|| Summary::of(&self.results.disturbed))
    }
}
