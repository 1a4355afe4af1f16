//! The paths that a file's code names, its tests left out.

use std::collections::BTreeSet;

use syn::visit::{self, Visit};
use syn::{Attribute, File, ImplItemFn, ItemFn, ItemImpl, ItemMod, ItemUse, UseTree, Visibility};

/// One name that `use` brings in.
pub(crate) struct Import {
    /// What it is called here; `*` for all names.
    pub(crate) name: String,
    pub(crate) path: Vec<String>,
    /// `pub use`: the name is passed on.
    pub(crate) is_public: bool,
}

/// The imports of a file, and every other path in it.
pub(crate) fn of(file: &File) -> (Vec<Import>, BTreeSet<Vec<String>>) {
    let mut visitor = Visitor::default();
    visitor.visit_file(file);
    (visitor.imports, visitor.used)
}

/// Whether an item is there for tests alone.
pub(crate) fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let is_cfg_test = |list: &syn::MetaList| list.path.is_ident("cfg") && list.tokens.to_string().contains("test");
        attribute.path().is_ident("test") || attribute.meta.require_list().is_ok_and(is_cfg_test)
    })
}

#[derive(Default)]
struct Visitor {
    imports: Vec<Import>,
    used: BTreeSet<Vec<String>>,
}

impl Visit<'_> for Visitor {
    fn visit_item_use(&mut self, item: &ItemUse) {
        if !is_test(&item.attrs) {
            collect(&item.tree, &mut Vec::new(), !matches!(item.vis, Visibility::Inherited), &mut self.imports);
        }
    }

    fn visit_path(&mut self, path: &syn::Path) {
        self.used.insert(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_item_mod(&mut self, item: &ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &ItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &ItemImpl) {
        if !is_test(&item.attrs) {
            visit::visit_item_impl(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &ImplItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }
}

fn collect(tree: &UseTree, prefix: &mut Vec<String>, is_public: bool, imports: &mut Vec<Import>) {
    let mut import = |name: String, last: String| {
        // `a::{self}` is `a` itself.
        let path = prefix.iter().cloned().chain((last != "self").then_some(last)).collect();
        imports.push(Import { name, path, is_public });
    };
    match tree {
        UseTree::Path(path) => {
            prefix.push(path.ident.to_string());
            collect(&path.tree, prefix, is_public, imports);
            prefix.pop();
        }
        UseTree::Name(name) if name.ident == "self" => {
            let called = prefix.last().cloned().unwrap_or_default();
            import(called, "self".to_owned());
        }
        UseTree::Name(name) => import(name.ident.to_string(), name.ident.to_string()),
        UseTree::Rename(rename) => import(rename.rename.to_string(), rename.ident.to_string()),
        UseTree::Glob(_) => import("*".to_owned(), "*".to_owned()),
        UseTree::Group(group) => {
            for tree in &group.items {
                collect(tree, prefix, is_public, imports);
            }
        }
    }
}
