//! What one variant alone has along an axis: a row for each figure, a column for each place.

use std::collections::BTreeSet;

use crate::{
    record::{At, Record},
    variant::Variant,
};

pub(super) struct Grid<'records> {
    pub(super) variant: Variant,
    /// Of the columns.
    pub(super) places: Vec<String>,
    pub(super) rows: Vec<Row<'records>>,
}

pub(super) struct Row<'records> {
    pub(super) title: &'records str,
    pub(super) cells: Vec<Option<&'records Record>>,
}

impl<'records> Grid<'records> {
    /// `None` if there is more to show of them than that.
    pub(super) fn of(records: &[&'records Record]) -> Option<Self> {
        let places = records.iter().map(|record| record.at).collect::<Option<BTreeSet<At>>>()?;
        let variants: BTreeSet<Variant> = records.iter().flat_map(|record| record.variants.keys().copied()).collect();
        let [variant] = *Vec::from_iter(variants) else { return None };
        let mut rows: Vec<Row> = Vec::new();
        for record in records {
            let index = rows.iter().position(|row| row.title == record.title).unwrap_or_else(|| {
                rows.push(Row { title: &record.title, cells: vec![None; places.len()] });
                rows.len() - 1
            });
            let column = places.iter().position(|place| Some(*place) == record.at)?;
            rows[index].cells[column] = Some(record);
        }
        let places = places.into_iter().map(|At { axis, value }| format!("{value} {}", axis.title())).collect();
        Some(Self { variant, places, rows })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{record::Axis, unit::Unit};

    fn record(title: &str, value: Option<u32>, variants: &[Variant]) -> Record {
        let at = value.map(|value| At { axis: Axis::Pods, value });
        let samples = variants.iter().map(|variant| (*variant, vec![1.0])).collect::<BTreeMap<_, _>>();
        Record::new(format!("steps-one/{title}"), title, at, Unit::Nanoseconds, samples)
    }

    #[test]
    fn places_are_columns_and_figures_are_rows() {
        let records = [("veth", 250), ("veth", 1), ("maps", 250)];
        let records = records.map(|(title, pods)| record(title, Some(pods), &[Variant::Ours]));
        let grid = Grid::of(&records.iter().collect::<Vec<_>>()).expect("a grid");
        assert_eq!((grid.variant, &*grid.places), (Variant::Ours, &["1 pods".to_owned(), "250 pods".to_owned()][..]));
        let filled = grid.rows.iter().map(|row| (row.title, row.cells.iter().map(|cell| cell.is_some()).collect()));
        assert_eq!(filled.collect::<Vec<(_, Vec<_>)>>(), [("veth", vec![true, true]), ("maps", vec![false, true])]);
    }

    #[test]
    fn what_is_compared_or_has_no_place_makes_no_grid() {
        for (place, variants) in [(None, &[Variant::Ours][..]), (Some(1), &[Variant::Ours, Variant::Bridge])] {
            let records = [record("veth", Some(2), &[Variant::Ours]), record("veth", place, variants)];
            assert!(Grid::of(&records.iter().collect::<Vec<_>>()).is_none());
        }
    }
}
