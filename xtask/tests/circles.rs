//! No file of this workspace imports one that imports it, directly or through others.
//!
//! A circle of files can only be read as a whole and moved as a whole. Where two files need the same thing, it belongs in a
//! file below both. What only re-exports (`pub use child::Thing`) does not import, and code under `#[cfg(test)]` may look up.

mod circles {
    pub(crate) mod graph;
    pub(crate) mod paths;
    pub(crate) mod tree;
}

use std::path::{Path, PathBuf};

use circles::graph::circles;
use circles::tree::Crate;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The files that cargo starts from: libraries, programs and tests.
fn roots() -> Vec<PathBuf> {
    let mut roots = Vec::new();
    for package in std::fs::read_dir(workspace()).unwrap().map(|entry| entry.unwrap().path()) {
        if !package.join("Cargo.toml").is_file() {
            continue;
        }
        let program = |name: &str| package.join("src").join(name);
        roots.extend([program("lib.rs"), program("main.rs")].into_iter().filter(|file| file.is_file()));
        for folder in [package.join("src/bin"), package.join("tests")] {
            let Ok(entries) = std::fs::read_dir(&folder) else { continue };
            for path in entries.map(|entry| entry.unwrap().path()) {
                let main = path.join("main.rs");
                if path.extension().is_some_and(|extension| extension == "rs") {
                    roots.push(path);
                } else if main.is_file() {
                    roots.push(main);
                }
            }
        }
    }
    roots.sort();
    roots
}

#[test]
fn no_file_imports_one_that_imports_it() {
    let roots = roots();
    assert!(roots.len() > 10, "only {roots:?} were found");
    let mut found = Vec::new();
    for root in roots {
        for circle in circles(&Crate::read(&root)) {
            let names = circle.iter().map(|file| file.strip_prefix(workspace()).unwrap().display().to_string());
            found.push(names.collect::<Vec<_>>().join("\n    "));
        }
    }
    assert!(found.is_empty(), "{} circles of files:\n  - {}", found.len(), found.join("\n  - "));
}

/// A crate of these files, and whether it has a circle.
#[track_caller]
fn check(files: &[(&str, &str)], expected: &[&[&str]]) {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let found: Vec<Vec<String>> = circles(&Crate::read(&dir.path().join("lib.rs")))
        .into_iter()
        .map(|circle| circle.iter().map(|file| file.strip_prefix(dir.path()).unwrap().display().to_string()).collect())
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn two_files_that_import_each_other_are_found() {
    check(
        &[
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "use crate::b::B; pub struct A;"),
            ("b.rs", "pub struct B(super::a::A);"),
        ],
        &[&["a.rs", "b.rs"]],
    );
}

#[test]
fn a_circle_through_a_reexport_or_a_group_is_found() {
    check(
        &[
            ("lib.rs", "mod a; mod b;"),
            ("a/mod.rs", "mod inner; pub use inner::A;"),
            ("a/inner.rs", "use crate::{b::{self, B as Other}}; pub struct A(Other);"),
            ("b.rs", "use crate::a::A; pub struct B(A);"),
        ],
        &[&["a/inner.rs", "b.rs"]],
    );
}

#[test]
fn a_child_that_uses_what_its_parent_defines_of_it_is_found() {
    check(
        &[
            ("lib.rs", "mod a;"),
            ("a.rs", "mod child; use child::Child; pub struct Parent(Child);"),
            ("a/child.rs", "pub struct Child(Box<super::Parent>);"),
        ],
        &[&["a/child.rs", "a.rs"]],
    );
}

#[test]
fn reexports_siblings_and_tests_make_no_circle() {
    check(
        &[
            ("lib.rs", "mod a; pub use a::{One, Two};"),
            ("a/mod.rs", "mod one; mod two; #[cfg(test)] mod tests; pub use one::One; pub use two::Two;"),
            ("a/one.rs", "pub struct One; #[cfg(test)] mod tests { use crate::a::Two; }"),
            ("a/two.rs", "use super::One; pub struct Two(One);"),
            ("a/tests.rs", "use super::*;"),
        ],
        &[],
    );
}
