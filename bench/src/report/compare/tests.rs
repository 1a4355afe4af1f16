use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::{machine::Machine, report::sample};

const STEADY: [f64; 5] = [0.99, 1.0, 1.01, 1.0, 0.995];

fn rate(id: &str, variants: &[(Variant, f64)], rounds: &[f64]) -> Record {
    let samples =
        variants.iter().map(|(variant, level)| (*variant, rounds.iter().map(|sample| sample * level).collect()));
    Record::new(id, "rate", None, Unit::PacketsPerSecond, samples.collect())
}

/// A rate beside the bare pair, one beside the bridge, and a share.
fn run(machine: f64, ours: f64) -> Report {
    let ours = 100.0 * machine * ours;
    let loss = BTreeMap::from([(Variant::Ours, vec![0.0; 5])]);
    sample::report(vec![
        rate("same-vm/packet-rate", &[(Variant::Bare, 110.0 * machine), (Variant::Ours, ours)], &STEADY),
        rate("from-host/packet-rate", &[(Variant::Ours, ours), (Variant::Bridge, 70.0 * machine)], &STEADY),
        Record::new("same-vm/packet-loss", "lost", None, Unit::Share, loss),
    ])
}

/// Better, worse, no difference, not judged, only in one.
fn counts(changes: &Changes) -> [usize; 5] {
    let judged = [Change::Better, Change::Worse, Change::NoDifference].map(|change| changes.judged(change));
    let not_judged = changes.pairs.iter().filter(|pair| !pair.is_judged).count();
    [judged[0], judged[1], judged[2], not_judged, changes.only_in_one]
}

fn of_records(old: Record, new: Record) -> [usize; 5] {
    counts(&sample::report(vec![new]).changes_since(&sample::report(vec![old])).expect("comparable"))
}

#[test]
fn same_report_twice_has_nothing_worse() {
    let report = run(1.0, 1.0);
    let changes = report.changes_since(&report).expect("comparable");
    assert_eq!(counts(&changes), [0, 0, 3, 0, 0]);
    changes.ensure_nothing_is_worse().expect("nothing is worse");
}

#[test]
fn slower_machine_makes_nothing_worse() {
    for machine in [1.0 / 1.3, 1.3] {
        let (old, new) = (run(1.0, 1.0), run(machine, 1.0));
        assert_eq!(counts(&new.changes_since(&old).expect("comparable")), [0, 0, 3, 0, 0]);
    }
}

#[test]
fn ours_alone_slower_is_worse_and_an_error_that_counts() {
    let (old, new) = (run(1.0, 1.0), run(1.0, 0.8));
    let changes = new.changes_since(&old).expect("comparable");
    assert_eq!(counts(&changes), [0, 2, 1, 0, 0]);
    let error = changes.ensure_nothing_is_worse().expect_err("two are worse").to_string();
    assert!(error.starts_with("2 figures are worse"), "{error}");
    assert!(changes.text().contains("-20.0 %"), "{}", changes.text());
}

#[test]
fn better_is_not_an_error() {
    let (old, new) = (run(1.0, 1.0), run(1.0, 1.2));
    let changes = new.changes_since(&old).expect("comparable");
    assert_eq!(counts(&changes), [2, 0, 1, 0, 0]);
    changes.ensure_nothing_is_worse().expect("better is no error");
}

#[test]
fn ratio_that_moves_the_other_way_makes_no_difference() {
    let (old, new) = (run(1.0, 1.0), run(0.5, 1.5));
    assert_eq!(counts(&new.changes_since(&old).expect("comparable")), [0, 0, 3, 0, 0]);
}

#[test]
fn time_that_nothing_stands_beside_is_judged_by_the_calibration_of_the_machine() {
    let of = |machine: f64, ours: f64| {
        let samples = BTreeMap::from([(Variant::Ours, STEADY.map(|s| s * machine * ours).to_vec())]);
        let calibration = vec![machine; STEADY.len()];
        Record { calibration, ..Record::new("programs/x", "time", None, Unit::Nanoseconds, samples) }
    };
    let before = of(1.0, 1.0);
    for machine in [1.0 / 1.1, 1.1] {
        assert_eq!(of_records(before.clone(), of(machine, 1.0)), [0, 0, 1, 0, 0]);
        assert_eq!(of_records(before.clone(), of(machine, 1.08)), [0, 0, 1, 0, 0], "no other work slows down as much");
        assert_eq!(of_records(before.clone(), of(machine, 1.25)), [0, 1, 0, 0, 0]);
        assert_eq!(of_records(before.clone(), of(machine, 0.75)), [1, 0, 0, 0, 0]);
    }
    let calibration_alone = Record { calibration: vec![1.4; STEADY.len()], ..before.clone() };
    assert_eq!(of_records(before, calibration_alone), [0, 0, 1, 0, 0]);
}

#[test]
fn spread_that_meets_is_no_difference() {
    let wide = [0.7, 0.8, 1.0, 1.1, 1.2];
    let of = |level| rate("same-vm/packet-rate", &[(Variant::Ours, level)], &wide);
    assert_eq!(of_records(of(100.0), of(80.0)), [0, 0, 1, 0, 0]);
}

#[test]
fn medians_that_lie_two_percent_apart_are_alike() {
    let of = |level| rate("same-vm/packet-rate", &[(Variant::Ours, level)], &[1.0; 5]);
    assert_eq!(of_records(of(100.0), of(98.1)), [0, 0, 1, 0, 0]);
    assert_eq!(of_records(of(100.0), of(97.9)), [0, 1, 0, 0, 0]);
}

#[test]
fn fewer_rounds_and_tails_are_shown_and_not_judged() {
    let of = |id, level, rounds| rate(id, &[(Variant::Ours, level)], &vec![1.0; rounds]);
    assert_eq!(of_records(of("same-vm/rate", 100.0, 5), of("same-vm/rate", 50.0, 4)), [0, 0, 0, 1, 0]);
    let (old, new) = (of("same-vm/x-p99", 100.0, 5), of("same-vm/x-p99", 50.0, 5));
    let (old, new) = (sample::report(vec![old]), sample::report(vec![new]));
    let changes = new.changes_since(&old).expect("comparable");
    assert_eq!(counts(&changes), [0, 0, 0, 1, 0]);
    assert!(changes.text().contains("same-vm/x-p99"), "{}", changes.text());
}

#[test]
fn figure_of_one_run_is_counted_and_not_judged() {
    let of = |id| rate(id, &[(Variant::Ours, 1.0)], &STEADY);
    let new = sample::report(vec![of("same-vm/a"), of("same-vm/b")]);
    let old =
        sample::report(vec![of("same-vm/a"), of("same-vm/c"), rate("same-vm/d", &[(Variant::Bare, 1.0)], &STEADY)]);
    assert_eq!(counts(&new.changes_since(&old).expect("comparable")), [0, 0, 1, 0, 2]);
}

#[test]
fn runs_without_a_common_figure_are_an_error() {
    let of = |id| sample::report(vec![rate(id, &[(Variant::Ours, 1.0)], &STEADY)]);
    let (old, new) = (of("same-vm/a"), of("same-vm/b"));
    assert!(new.changes_since(&old).expect_err("nothing in common").to_string().contains("in common"));
}

#[test]
fn size_that_does_not_vary_is_judged_by_its_value() {
    let of = |bytes| {
        let samples = BTreeMap::from([(Variant::Ours, vec![bytes])]);
        Record::new("memory/IPv4", "A flow", None, Unit::Bytes, samples)
    };
    assert_eq!(of_records(of(96.0), of(97.0)), [0, 0, 1, 0, 0]);
    assert_eq!(of_records(of(96.0), of(120.0)), [0, 1, 0, 0, 0]);
}

#[test]
fn loss_is_worse_when_its_spread_leaves_zero() {
    let of = |lost: f64| {
        let samples = BTreeMap::from([(Variant::Ours, [1.0, 1.1, 1.2, 1.0, 1.0].map(|sample| sample * lost).to_vec())]);
        Record::new("restart/killed-lost", "lost", None, Unit::Count, samples)
    };
    assert_eq!(of_records(of(0.0), of(3.0)), [0, 1, 0, 0, 0]);
    assert_eq!(of_records(of(3.0), of(3.01)), [0, 0, 1, 0, 0]);
}

#[test]
fn another_machine_is_refused_by_the_name_of_what_differs() {
    let other = |pointer: &str, value: serde_json::Value| {
        let mut machine = sample::machine();
        *machine.pointer_mut(pointer).expect("a part of the machine") = value;
        let machine: Machine = serde_json::from_value(machine).expect("a machine");
        let (old, new) = (run(1.0, 1.0), Report { machine, ..run(1.0, 1.0) });
        new.changes_since(&old).map(|_| ()).map_err(|error| error.to_string())
    };
    for (pointer, value, name) in [
        ("/kernel", json!("9.9"), "kernel: "),
        ("/processor", json!("abacus"), "processor: "),
        ("/cores", json!(64), "cores: 2 then, 64 now"),
        ("/mitigations/spectre_v2", json!("Vulnerable"), "mitigation spectre_v2: "),
        ("/versions/iptables-nft", json!("2.0"), "version of iptables-nft: "),
    ] {
        let error = other(pointer, value).expect_err(name);
        assert!(error.contains(name), "{error}");
    }
    other("/versions/azure-cni-ebpf", json!("0.2.0")).expect("another version of ours is what is compared");
}

#[test]
fn installation_that_knows_its_services_is_judged_beside_the_default_one() {
    let of = |known| {
        let variants = [(Variant::Ours, 100.0), (Variant::OursServicesKnown, known), (Variant::Bridge, 70.0)];
        sample::report(vec![rate("internet/packet-rate", &variants, &STEADY)])
    };
    let (old, new) = (of(120.0), of(90.0));
    let changes = new.changes_since(&old).expect("comparable");
    assert_eq!(counts(&changes), [0, 1, 1, 0, 0]);
    assert!(changes.text().contains("internet/packet-rate, ebpf, services known"), "{}", changes.text());
}
