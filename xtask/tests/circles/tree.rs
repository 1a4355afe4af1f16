//! The modules of a crate that are files, with what each declares, imports and names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::{Item, ItemMod};

use super::paths::{self, Import};

/// From the crate's root: `["spool", "folder"]`.
pub(crate) type ModulePath = Vec<String>;

pub(crate) struct Module {
    pub(crate) file: PathBuf,
    pub(crate) imports: Vec<Import>,
    /// Paths in code, such as `crate::spool::open` or `Thing::new`.
    pub(crate) used: BTreeSet<Vec<String>>,
}

pub(crate) struct Crate {
    pub(crate) modules: BTreeMap<ModulePath, Module>,
}

impl Crate {
    /// Follows `mod` from this file on. Modules under `#[cfg(test)]` are left out.
    pub(crate) fn read(root: &Path) -> Self {
        let mut modules = BTreeMap::new();
        read(root, root.parent().unwrap(), Vec::new(), &mut modules);
        Self { modules }
    }
}

/// `folder`: where the files of this module's children are.
fn read(file: &Path, folder: &Path, path: ModulePath, modules: &mut BTreeMap<ModulePath, Module>) {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let syntax = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    children(&syntax.items, folder, &path, modules);
    let (imports, used) = paths::of(&syntax);
    modules.insert(path, Module { file: file.to_owned(), imports, used });
}

fn children(items: &[Item], folder: &Path, path: &ModulePath, modules: &mut BTreeMap<ModulePath, Module>) {
    for item in items {
        let Item::Mod(module) = item else { continue };
        if paths::is_test(&module.attrs) {
            continue;
        }
        let name = module.ident.to_string();
        let mut child = path.clone();
        child.push(name.clone());
        let below = folder.join(&name);
        match &module.content {
            // A module within the file stands for files in a folder of its name.
            Some((_, items)) => children(items, &below, &child, modules),
            None => read(&file_of(module, folder, &name), &below, child, modules),
        }
    }
}

fn file_of(module: &ItemMod, folder: &Path, name: &str) -> PathBuf {
    let candidates = [folder.join(format!("{name}.rs")), folder.join(name).join("mod.rs")];
    candidates.into_iter().find(|file| file.is_file()).unwrap_or_else(|| panic!("mod {} has no file", module.ident))
}
