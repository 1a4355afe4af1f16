//! The steps of calls by the agent's own account: each call is a line of its log, written before the caller has its answer.

use std::collections::BTreeMap;

use super::{node::Node, sampler::Sampler};

/// Where the agent's log was read to.
pub(super) struct StepLog {
    read: usize,
}

/// Which calls, for their records.
#[derive(Debug, Clone, Copy)]
pub(super) enum How {
    OneByOne,
    AllAtOnce,
}

impl How {
    fn topic(self) -> &'static str {
        match self {
            Self::OneByOne => "steps-one",
            Self::AllAtOnce => "steps-all",
        }
    }
}

impl StepLog {
    /// What the log says from now on.
    pub(super) fn begin(node: &Node) -> Self {
        Self { read: node.agent_log().len() }
    }

    /// Takes the steps of the calls since the last time; there are none without an agent.
    pub(super) fn take(&mut self, how: How, node: &Node, sampler: &mut Sampler) {
        let log = node.agent_log();
        for (call, times) in times(&log[self.read..]) {
            let id = format!("{}/{}", how.topic(), call.replace(' ', "-").to_lowercase());
            sampler.quantiles(&id, &call, times);
        }
        self.read = log.len();
    }
}

/// Nanoseconds that each step of each command took, beside the total of the call, in the order in which they came first. A step that a
/// call went through twice counts once, with both.
fn times(log: &str) -> Vec<(String, Vec<f64>)> {
    let mut all: Vec<(String, Vec<f64>)> = Vec::new();
    for Call { command, total, steps } in log.lines().filter_map(call) {
        let mut of_call: Vec<(&str, f64)> = vec![("total", total)];
        let mut place: BTreeMap<&str, usize> = BTreeMap::new();
        for (step, took) in steps {
            let index = *place.entry(step).or_insert(of_call.len());
            match of_call.get_mut(index) {
                Some((_, sum)) => *sum += took,
                None => of_call.push((step, took)),
            }
        }
        for (step, took) in of_call {
            let name = format!("{command} {step}");
            match all.iter_mut().find(|(known, _)| *known == name) {
                Some((_, times)) => times.push(took),
                None => all.push((name, vec![took])),
            }
        }
    }
    all
}

/// A call that has succeeded; times in nanoseconds.
struct Call<'log> {
    command: &'log str,
    total: f64,
    steps: Vec<(&'log str, f64)>,
}

/// Of a line that a call has ended with (docs/cni.md).
fn call(line: &str) -> Option<Call<'_>> {
    let (_, rest) = line.split_once("call{command=\"")?;
    let (command, rest) = rest.split_once('"')?;
    let (_, rest) = rest.split_once("done duration_ms=")?;
    let (total, steps) = rest.split_once(" steps=")?;
    let steps = steps.split(' ').map(|text| {
        let (step, took) = text.split_once('=')?;
        Some((step, nanoseconds(took)?))
    });
    Some(Call { command, total: nanoseconds(total)?, steps: steps.collect::<Option<_>>()? })
}

fn nanoseconds(millis: &str) -> Option<f64> {
    Some(millis.parse::<f64>().ok()? * 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
2026-01-01T00:00:00Z  INFO call{command=\"ADD\" container=\"a\" interface=\"eth0\"}: done duration_ms=6.5 steps=lock=0.010 observe=0.300 observe=0.200
2026-01-01T00:00:00Z  INFO call{command=\"ADD\" container=\"b\" interface=\"eth0\"}: stands already
2026-01-01T00:00:00Z  WARN call{command=\"ADD\" container=\"c\" interface=\"eth0\"}: failed duration_ms=9 steps=lock=9.000 code=11 error=no
2026-01-01T00:00:00Z  INFO call{command=\"DEL\" container=\"a\" interface=\"eth0\"}: done duration_ms=2 steps=lock=0.020
2026-01-01T00:00:00Z  INFO call{command=\"ADD\" container=\"d\" interface=\"eth0\"}: done duration_ms=4.5 steps=lock=0.030 observe=0.100
";

    #[test]
    fn times_are_of_calls_that_succeeded_by_command_and_step() {
        let expected = [
            ("ADD total", vec![6.5, 4.5]),
            ("ADD lock", vec![0.01, 0.03]),
            ("ADD observe", vec![0.5, 0.1]),
            ("DEL total", vec![2.0]),
            ("DEL lock", vec![0.02]),
        ];
        let found = times(LOG);
        assert_eq!(
            found.iter().map(|(name, _)| &**name).collect::<Vec<_>>(),
            expected.each_ref().map(|(name, _)| *name)
        );
        for ((name, found), (_, expected)) in found.iter().zip(&expected) {
            let is_close = |(found, millis): (&f64, &f64)| (found - millis * 1e6).abs() < 1.0;
            assert!(found.len() == expected.len() && found.iter().zip(expected).all(is_close), "{name}: {found:?}");
        }
    }
}
