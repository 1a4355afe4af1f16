//! Documents that name tests name tests that exist.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn sources(dir: &Path, text: &mut String) {
    for entry in fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
        let path = entry.expect("a name").path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
        }
    }
}

#[test]
fn every_line_of_the_cni_contract_names_tests_that_exist() {
    let document = fs::read_to_string(root().join("docs/cni.md")).expect("docs/cni.md");
    let (_, table) = document.split_once("## Which test holds which line").expect("the table is there");
    let mut code = String::new();
    for dir in ["azure-cni-api/src", "azure-cni-ipam/src", "azure-cni-plugin/src", "azure-cni-agent/src", "tests/tests"]
    {
        sources(&root().join(dir), &mut code);
    }
    let rows: Vec<_> = table.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(!rows.is_empty());
    for row in rows {
        let (line, tests) = row.trim_matches(['|', ' ']).rsplit_once(" | ").expect("two columns");
        let tests: Vec<_> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "nothing holds: {line}");
        for test in tests {
            assert!(code.contains(&format!("fn {test}()")), "{line}: there is no test {test}");
        }
    }
}
