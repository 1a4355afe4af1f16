use std::collections::BTreeMap;

use super::{
    list::{BARE, BRIDGE, LOST, TIME},
    promise::{
        Bound::{self, AtLeast, AtMost},
        Place::{self, Most, Only, Value},
        Promise,
        Quantity::{self, Itself, RatioToFirst},
    },
    *,
};
use crate::{
    record::{At, Axis, Record},
    report::sample,
    unit::Unit,
    variant::Variant,
};

fn outcome(of: Quantity, at: Place, bound: Bound, records: &[Record]) -> Outcome {
    let promise: &'static Promise = Box::leak(Box::new(Promise::new(1, "a promise", "topic/figure", at, of, bound)));
    Outcome { promise, measured: Measured::of(promise, records) }
}

fn verdict(of: Quantity, at: Place, bound: Bound, records: Vec<Record>) -> Verdict {
    outcome(of, at, bound, &records).verdict()
}

fn record(pods: Option<u32>, unit: Unit, ours: &[f64]) -> Record {
    let at = pods.map(|value| At { axis: Axis::Pods, value });
    let samples = BTreeMap::from([(Variant::Ours, ours.to_vec()), (Variant::Bridge, vec![10.0; ours.len()])]);
    Record::new("topic/figure", "figure", at, unit, samples)
}

#[test]
fn promise_is_kept_if_the_whole_spread_keeps_it() {
    let rate = |ours: &[f64]| vec![record(None, Unit::PacketsPerSecond, ours)];
    let judged = |ours: &[f64]| verdict(BRIDGE, Only, AtLeast(1.4), rate(ours));
    assert_eq!(judged(&[14.0, 14.5, 15.0, 15.0, 16.0]), Verdict::Kept);
    assert_eq!(judged(&[12.0, 12.5, 13.0, 13.0, 13.9]), Verdict::NotKept);
    assert_eq!(judged(&[13.9, 14.5, 15.0, 15.0, 16.0]), Verdict::CannotTell);
}

#[test]
fn ratio_has_beside_it_what_redirects_alone_have() {
    let variants = [(Variant::LowerBound, 18.0), (Variant::Ours, 14.0), (Variant::Bridge, 10.0)];
    let samples = variants.map(|(variant, level)| (variant, vec![level; 5])).into();
    let record = Record::new("topic/figure", "figure", None, Unit::PacketsPerSecond, samples);
    let outcome = outcome(BRIDGE, Only, AtLeast(1.2), &[record]);
    let said = [outcome.measured(), outcome.lower_bound(), outcome.judged()];
    assert_eq!(said, ["1.40", "1.80", "kept"]);
}

#[test]
fn limit_is_kept_from_below() {
    let judged = |ours: &[f64]| verdict(TIME, Only, AtMost(5.0), vec![record(None, Unit::Nanoseconds, ours)]);
    assert_eq!(judged(&[4.0, 4.5, 5.0, 4.0, 4.0]), Verdict::Kept);
    assert_eq!(judged(&[5.1, 5.5, 6.0, 7.0, 6.0]), Verdict::NotKept);
    assert_eq!(judged(&[4.0, 5.5, 6.0, 7.0, 6.0]), Verdict::CannotTell);
}

#[test]
fn fewer_rounds_cannot_tell_unless_the_size_is_fixed() {
    let judged = |unit, ours: &[f64]| verdict(Itself(unit), Only, AtMost(96.0), vec![record(None, unit, ours)]);
    assert_eq!(judged(Unit::Nanoseconds, &[90.0; 4]), Verdict::CannotTell);
    assert_eq!(judged(Unit::Bytes, &[96.016]), Verdict::Kept);
    assert_eq!(judged(Unit::Bytes, &[97.0]), Verdict::NotKept);
}

#[test]
fn one_datagram_lost_in_one_round_breaks_the_promise() {
    let judged = |lost: &[f64]| verdict(LOST, Only, AtMost(0.0), vec![record(None, Unit::Count, lost)]);
    assert_eq!(judged(&[0.0; 15]), Verdict::Kept);
    assert_eq!(judged(&[&[0.0; 14][..], &[1.0]].concat()), Verdict::NotKept);
}

#[test]
fn cost_with_most_pods_is_judged_against_the_fewest() {
    let full_vm = |pods, level: f64| record(Some(pods), Unit::ProcessorNanoseconds, &[level; 5]);
    let judged = |records| verdict(RatioToFirst, Most, AtMost(1.03), records);
    assert_eq!(judged(vec![full_vm(2, 100.0), full_vm(50, 150.0), full_vm(250, 102.0)]), Verdict::Kept);
    assert_eq!(judged(vec![full_vm(2, 100.0), full_vm(50, 100.0), full_vm(250, 104.0)]), Verdict::NotKept);
    assert_eq!(judged(vec![full_vm(2, 100.0)]), Verdict::NotMeasured);
}

#[test]
fn what_a_report_lacks_is_not_measured() {
    assert_eq!(verdict(BRIDGE, Only, AtLeast(1.0), Vec::new()), Verdict::NotMeasured);
    let without_bare = vec![record(None, Unit::PacketsPerSecond, &[10.0; 5])];
    assert_eq!(verdict(BARE, Only, AtLeast(1.0), without_bare), Verdict::NotMeasured);
    let elsewhere = vec![record(Some(2), Unit::Nanoseconds, &[10.0; 5])];
    assert_eq!(verdict(TIME, Value(250), AtMost(10.0), elsewhere), Verdict::NotMeasured);
    let outcomes = sample::report(Vec::new()).outcomes();
    assert!(outcomes.iter().all(|outcome| outcome.verdict() == Verdict::NotMeasured));
}

#[test]
fn numbers_of_promises_are_theirs_alone() {
    assert!(PROMISES.is_sorted_by(|one, next| one.number < next.number));
}

#[test]
fn default_installation_has_to_keep_what_is_promised() {
    let variants = [(Variant::Ours, 10.0), (Variant::OursServicesKnown, 20.0), (Variant::Bridge, 10.0)];
    let samples = variants.map(|(variant, level)| (variant, vec![level; 5])).into();
    let record = Record::new("topic/figure", "figure", None, Unit::PacketsPerSecond, samples);
    assert_eq!(verdict(BRIDGE, Only, AtLeast(1.2), vec![record]), Verdict::NotKept);
}
