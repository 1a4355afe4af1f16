//! Ratios as marks on a line around 1, where there is no difference.

use maud::{Markup, html};

use super::{
    look,
    rows::{self, Group, NAMES, Row, WIDTH},
    scale::Scale,
    words,
};
use crate::record::Record;

/// Room for "2.34 (1.21-2.56) no difference".
const WORDS: f64 = 186.0;
const WHISKER: f64 = 3.5;

/// A group's rows: one of each variant that ours is compared with.
pub(super) fn group(title: impl Into<String>, record: &Record) -> Group {
    let row = |(variant, comparison): (&crate::variant::Variant, &crate::statistics::Comparison)| Row {
        variant: *variant,
        summary: comparison.summary,
        said: words::ratio(comparison),
    };
    Group { title: title.into(), rows: record.ratios.iter().map(row).collect() }
}

pub(super) fn chart(title: &str, groups: &[Group]) -> Markup {
    // One is always in it, and as much on its either side that equal things do not look far apart.
    let values = rows::values(groups).chain([0.8, 1.25]);
    let scale = Scale::log(values, (NAMES + 8.0, WIDTH - WORDS - 10.0));
    rows::draw((title, groups), NAMES, &scale, |tick| tick.to_string(), |row, middle| ratio(row, middle, &scale))
}

fn ratio(row: &Row, middle: f64, scale: &Scale) -> Markup {
    let [low, median, high] = [row.summary.low, row.summary.median, row.summary.high].map(|value| scale.place(value));
    let one = scale.place(1.0);
    let (up, down) = (middle - WHISKER, middle + WHISKER);
    html! {
        line class="one" x1=(one) x2=(one) y1=(middle - 10.0) y2=(middle + 10.0) {}
        path class="whisker" d=(format!("M{low} {up}V{down}M{high} {up}V{down}M{low} {middle}H{high}")) {}
        (look::mark(row.variant, median, middle))
        text class="value" x=(WIDTH - WORDS) y=(middle + 4.0) { (row.said) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{unit::Unit, variant::Variant};

    #[test]
    fn spread_that_crosses_one_is_said_to_be_no_difference() {
        let samples = BTreeMap::from([(Variant::Ours, vec![0.9, 1.0, 1.1, 1.2, 1.3]), (Variant::Ptp, vec![1.0; 5])]);
        let record = Record::new("same-vm/packet-rate", "UDP", None, Unit::PacketsPerSecond, samples);
        let chart = chart("ratios", &[group("same VM", &record)]).into_string();
        assert!(chart.contains("1.10 (0.90-1.30) no difference") && chart.contains("ptp + iptables"));
    }
}
