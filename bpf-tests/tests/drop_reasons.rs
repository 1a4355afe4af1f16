//! `docs/drop-reasons.md` says what the table of the programs says.

use std::fmt::Write;
use std::path::Path;

use azure_cni_common::drop_reason::DropReason;

const HEAD: &str = "\
# Drop reasons

Every packet that the data path drops is counted under one of these reasons, per CPU. `azure-cni-ctl drops` shows the
counters by name. A number, once used, always means the same.

Generated from `azure-cni-common/src/drop_reason.rs`. To make it again: `UPDATE_DOCS=1 cargo test -p bpf-tests drop_reasons`.

| number | name | meaning |
|---:|---|---|
";

#[test]
fn document_says_what_the_table_says() {
    let mut wanted = HEAD.to_owned();
    for reason in DropReason::ALL {
        writeln!(wanted, "| {} | `{}` | {} |", reason.number(), reason.name(), reason.meaning()).unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/drop-reasons.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &wanted).expect("docs/ is there");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, wanted, "out of date: run `UPDATE_DOCS=1 cargo test -p bpf-tests drop_reasons` and commit it");
}
