//! Which file needs which, and where that goes round.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use petgraph::algo::tarjan_scc;
use petgraph::graphmap::DiGraphMap;

use super::tree::{Crate, Module, ModulePath};

/// More hops than any re-export of a re-export takes.
const MOST_HOPS: usize = 16;

/// The circles of files, each sorted.
pub(crate) fn circles(of: &Crate) -> Vec<Vec<PathBuf>> {
    let mut graph = DiGraphMap::<&Path, ()>::new();
    for (path, module) in &of.modules {
        for needed in needed_by(of, path, module) {
            if needed != module.file.as_path() {
                graph.add_edge(module.file.as_path(), needed, ());
            }
        }
    }
    let mut circles: Vec<Vec<PathBuf>> = tarjan_scc(&graph)
        .into_iter()
        .filter(|files| files.len() > 1)
        .map(|files| {
            let mut files: Vec<_> = files.into_iter().map(Path::to_owned).collect();
            files.sort();
            files
        })
        .collect();
    circles.sort();
    circles
}

/// The files that define what this module imports and names.
fn needed_by<'a>(of: &'a Crate, path: &ModulePath, module: &Module) -> Vec<&'a Path> {
    // What is re-exported is needed here only if the code names it.
    let named_first: BTreeSet<_> = module.used.iter().filter_map(|used| used.first()).collect();
    let imported = module.imports.iter().filter(|import| !import.is_public || named_first.contains(&import.name));
    let named = module.used.iter().filter(|used| used.len() > 1);
    imported.map(|import| &import.path).chain(named).filter_map(|used| defining(of, path, used, MOST_HOPS)).collect()
}

/// The file in which the thing of this path is defined; `None`: it is not of this crate.
fn defining<'a>(of: &'a Crate, from: &ModulePath, path: &[String], hops: usize) -> Option<&'a Path> {
    let (mut module, rest) = start(of, from, path)?;
    let mut rest = rest.iter();
    for name in rest.by_ref() {
        let mut child = module.clone();
        child.push(name.clone());
        if of.modules.contains_key(&child) || is_inline(of, &child) {
            module = child;
            continue;
        }
        // Not a module: a thing of this one, or one that it passes on.
        let here = of.modules.get(&module)?;
        let passed_on = here.imports.iter().find(|import| import.name == *name);
        if let (Some(import), true) = (passed_on, hops > 0) {
            return defining(of, &module, &import.path, hops - 1);
        }
        return Some(&here.file);
    }
    of.modules.get(&module).map(|module| module.file.as_path())
}

/// The module that a path begins in, and the rest of the path.
fn start<'p>(of: &Crate, from: &ModulePath, path: &'p [String]) -> Option<(ModulePath, &'p [String])> {
    let (first, rest) = path.split_first()?;
    match first.as_str() {
        "crate" => Some((Vec::new(), rest)),
        "self" => Some((from.clone(), rest)),
        "super" => {
            let mut module = from.clone();
            module.pop()?;
            let ups = rest.iter().take_while(|name| *name == "super").count();
            (0..ups).try_for_each(|_| module.pop().map(drop))?;
            Some((module, &rest[ups..]))
        }
        // A child of this module, named without `self`.
        name => {
            let mut child = from.clone();
            child.push(name.to_owned());
            (of.modules.contains_key(&child) || is_inline(of, &child)).then_some((child, rest))
        }
    }
}

/// A module within a file, which has files of its own below it: the next module in order is one of them.
fn is_inline(of: &Crate, path: &ModulePath) -> bool {
    of.modules.range(path.clone()..).next().is_some_and(|(module, _)| module.starts_with(path))
}
