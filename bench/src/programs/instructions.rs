//! How many instructions of the programs a packet has executed. Programs that count them are loaded for it.

use anyhow::Result;
use bpf_tests::Rig;

use super::cases;
use crate::{collect::Collector, unit::Unit, variant::Variant};

pub(super) fn count(rig: &mut Rig, collector: &mut Collector) -> Result<()> {
    let counter = rig.count_instructions();
    for case in cases::all(rig) {
        let before = counter.total();
        case.run(rig, 0, 1)?;
        let executed = (counter.total() - before) as f64;
        let title = format!("{}, instructions", case.name());
        collector.sample(&format!("programs/{title}"), &title, None, Unit::Count, Variant::Ours, executed);
    }
    Ok(())
}
