//! The report for programs: every sample, in the units that each figure names.

use serde_json::{Value, json};

use super::Report;
use crate::{
    figure::Figure,
    plan::{Arm, Path},
    statistics::Summary,
};

/// Changes when a reader of the older form would misunderstand.
const FORMAT: u32 = 1;

impl Report {
    pub(crate) fn json(&self) -> Value {
        let results = self.results.samples.keys().map(|(path, figure)| self.result(*path, *figure)).collect::<Vec<_>>();
        json!({
            "format": FORMAT,
            "machine": self.machine,
            "rounds": self.plan.rounds,
            "secondsPerLoad": self.plan.duration.as_secs_f64(),
            "secondsTaken": self.took.as_secs_f64(),
            "interfaces": self.wirings,
            "noise": { "widestSpreadOfBare": self.noise(), "disturbed": self.disturbed() },
            "results": results,
            "programs": self.programs.costs,
            "memory": self.programs.memory,
            "leases": self.leases,
            "calls": self.calls,
        })
    }

    fn result(&self, path: Path, figure: Figure) -> Value {
        let arms = self.results.samples[&(path, figure)].iter();
        let arms = arms.map(|(arm, samples)| {
            let added = self.added(path, figure, *arm).map(|added| Summary::of(&added));
            json!({
                "arm": arm,
                "title": arm.title(),
                "samples": samples,
                "summary": Summary::of(samples),
                "beyondBare": added,
            })
        });
        let ratios = [Arm::Bare, Arm::Bridge].into_iter().filter_map(|peer| {
            let comparison = self.comparison(path, figure, peer)?;
            Some(json!({ "arm": Arm::Ours, "peer": peer, "comparison": comparison }))
        });
        json!({
            "path": path,
            "figure": figure,
            "unit": figure.unit(),
            "better": figure.better(),
            "arms": arms.collect::<Vec<_>>(),
            "ratios": ratios.collect::<Vec<_>>(),
            "beyondBare": self.added_comparison(path, figure),
        })
    }
}
