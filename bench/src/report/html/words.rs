//! Values and names in the words of the page, which are the text report's.

use crate::{
    record::Record,
    statistics::{Comparison, Summary},
    unit::{Better, Unit},
};

/// A value; what is no number is said not to be there.
pub(super) fn shown(unit: Unit, value: f64) -> String {
    if value.is_finite() { unit.show(value) } else { "none".into() }
}

/// A round value on an axis: without digits that are zero.
pub(super) fn tick(unit: Unit, value: f64) -> String {
    let text = shown(unit, value);
    match text.split_once(' ') {
        Some((number, name)) if number.contains('.') => {
            format!("{} {name}", number.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => text,
    }
}

/// A value, and between which others it lies; their unit only where it is another one.
pub(super) fn with_spread(unit: Unit, summary: &Summary) -> String {
    let [median, low, high] = [summary.median, summary.low, summary.high].map(|value| shown(unit, value));
    let name = |text: &str| text.split_once(' ').map(|(_, name)| name.to_owned());
    if low == high {
        median
    } else if name(&median).is_some() && name(&low) == name(&median) && name(&high) == name(&median) {
        let number = |text: &str| text.split(' ').next().unwrap_or_default().to_owned();
        format!("{median} ({} to {})", number(&low), number(&high))
    } else {
        format!("{median} ({low} to {high})")
    }
}

/// A ratio with its spread and what it says.
pub(super) fn ratio(comparison: &Comparison) -> String {
    let Summary { median, low, high } = comparison.summary;
    if [median, low, high].iter().all(|ratio| ratio.is_finite()) {
        format!("{median:.2} ({low:.2}-{high:.2}) {}", comparison.verdict.word())
    } else {
        "no ratio, one is 0".into()
    }
}

pub(super) fn better(better: Better) -> &'static str {
    match better {
        Better::Higher => "higher is better",
        Better::Lower => "lower is better",
    }
}

/// A record's figure: its id behind the topic.
pub(super) fn figure(record: &Record) -> &str {
    record.id.split_once('/').map_or(&*record.id, |(_, figure)| figure)
}

/// A record's title that stands alone. In the report a part of what is above it is indented; here the whole is named first.
pub(super) fn own_title(record: &Record, topic: &[&Record]) -> String {
    let own = record.title.trim_start();
    let first_word = |record: &Record| figure(record).split('-').next().map(str::to_owned);
    let before = topic.iter().take_while(|other| !std::ptr::eq(**other, record));
    let whole = before.filter(|other| !other.title.starts_with(' ')).last();
    match whole {
        // One that names it anyway stands alone.
        Some(whole) if own.split(' ').next() == whole.title.split(' ').next() => own.to_owned(),
        Some(whole) if own != record.title && first_word(whole) == first_word(record) => {
            format!("{}: {own}", whole.title)
        }
        _ => crate::report::text::capitalised(own),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{statistics::Verdict, variant::Variant};

    fn record(id: &str, title: &str) -> Record {
        Record::new(id, title, None, Unit::Nanoseconds, BTreeMap::from([(Variant::Ours, vec![1.0])]))
    }

    #[test]
    fn ticks_have_no_digits_that_say_nothing() {
        assert_eq!(tick(Unit::PacketsPerSecond, 0.0), "0 /s");
        assert_eq!(tick(Unit::Nanoseconds, 20_000.0), "20 us");
        assert_eq!(tick(Unit::Nanoseconds, 100_000.0), "100 us");
        assert_eq!(tick(Unit::BitsPerSecond, 2.5e9), "2.5 Gbit/s");
    }

    #[test]
    fn unit_of_a_spread_is_said_once_unless_it_changes() {
        let spread = |low, high| with_spread(Unit::Nanoseconds, &Summary { median: 20_000.0, low, high });
        assert_eq!(spread(15_000.0, 30_000.0), "20.0 us (15.0 to 30.0)");
        assert_eq!(spread(5000.0, 30_000.0), "20.0 us (5000 ns to 30.0 us)");
        assert_eq!(spread(20_000.0, 20_000.0), "20.0 us");
    }

    #[test]
    fn part_is_named_with_its_whole() {
        let records = [
            record("same-vm/packet-rate", "UDP"),
            record("same-vm/packet-cost", "  per packet"),
            record("same-vm/add-cost", "  agent's time"),
        ];
        let topic: Vec<&Record> = records.iter().collect();
        assert_eq!(own_title(&records[1], &topic), "UDP: per packet");
        assert_eq!(own_title(&records[2], &topic), "Agent's time", "of another whole");
    }

    #[test]
    fn ratio_to_nothing_is_no_number() {
        let summary = Summary { median: f64::NAN, low: 0.0, high: f64::INFINITY };
        assert_eq!(ratio(&Comparison { summary, verdict: Verdict::NoDifference }), "no ratio, one is 0");
    }
}
