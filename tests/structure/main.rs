//! The structure of the code, read from its own `use` lines: no two files need each other, crates point one way, and the pure
//! crate depends on nothing that does IO.

#![allow(clippy::disallowed_methods, reason = "reads the sources")]

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs,
    path::{Path, PathBuf},
};

use syn::visit::Visit;

/// Crates and where their sources are, the lowest first: each may use only those above it in this list.
const CRATES: [(&str, &str); 5] = [
    ("crosswan_core", "agent/core/src"),
    ("crosswan_vici", "agent/vici/src"),
    ("crosswan_netlink", "agent/netlink/src"),
    ("crosswan", "agent/src"),
    ("cloudcaster", "caster/src"),
];

/// What does IO, reads a clock, or asks somebody.
const IO: [&str; 8] = ["tokio", "aws-", "nix", "libc", "rustix", "hyper", "mio", "time"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A module by its path, such as `crosswan_core::decide::roster`.
type Module = String;

/// The modules of a crate, and the file of each.
fn modules(name: &str, folder: &Path) -> BTreeMap<Module, PathBuf> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(current) = folders.pop() {
        for entry in fs::read_dir(&current).unwrap() {
            let path = entry.unwrap().path();
            let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && stem != "tests" {
                let relative = path.strip_prefix(folder).unwrap().with_extension("");
                let parts: Vec<&str> = relative.iter().map(|part| part.to_str().unwrap()).collect();
                if parts.contains(&"tests") {
                    continue;
                }
                let module = match parts[..] {
                    ["lib"] => name.to_owned(),
                    ["main"] => format!("{name}_main"),
                    _ => format!("{name}::{}", parts.join("::")),
                };
                found.insert(module, path);
            }
        }
    }
    found
}

/// Every path that a file names, tests left out.
#[derive(Default)]
struct Paths(Vec<Vec<String>>);

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let test = item.attrs.iter().any(|a| a.path().is_ident("cfg"));
        if !test {
            syn::visit::visit_item_mod(self, item);
        }
    }
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !item.attrs.iter().any(|a| a.path().is_ident("cfg")) {
            syn::visit::visit_item_fn(self, item);
        }
    }
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        // What a room offers of its inner ones is no need of its own.
        if matches!(item.vis, syn::Visibility::Inherited) {
            leaves(&item.tree, Vec::new(), &mut self.0);
        }
    }
    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {}
    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.0.push(path.segments.iter().map(|s| s.ident.to_string()).collect());
        syn::visit::visit_path(self, path);
    }
}

fn leaves(tree: &syn::UseTree, mut prefix: Vec<String>, out: &mut Vec<Vec<String>>) {
    match tree {
        syn::UseTree::Path(path) => {
            prefix.push(path.ident.to_string());
            leaves(&path.tree, prefix, out);
        }
        syn::UseTree::Name(name) => {
            prefix.push(name.ident.to_string());
            out.push(prefix);
        }
        syn::UseTree::Rename(name) => {
            prefix.push(name.ident.to_string());
            out.push(prefix);
        }
        syn::UseTree::Glob(_) => out.push(prefix),
        syn::UseTree::Group(group) => group.items.iter().for_each(|item| leaves(item, prefix.clone(), out)),
    }
}

/// Where each name that a module offers of its inner modules comes from: `pub use inner::Name`.
fn offers(modules: &BTreeMap<Module, PathBuf>) -> BTreeMap<(Module, String), Module> {
    let mut offered = BTreeMap::new();
    for (module, file) in modules {
        let parsed = syn::parse_file(&fs::read_to_string(file).unwrap()).unwrap();
        for item in parsed.items {
            let syn::Item::Use(item) = item else { continue };
            if matches!(item.vis, syn::Visibility::Inherited) {
                continue;
            }
            let mut found = Vec::new();
            leaves(&item.tree, Vec::new(), &mut found);
            for mut path in found {
                let name = path.pop().unwrap();
                if path.first().is_some_and(|first| first == "self") {
                    path.remove(0);
                }
                let inner = format!("{module}::{}", path.join("::"));
                if modules.contains_key(&inner) {
                    offered.insert((module.clone(), name), inner);
                }
            }
        }
    }
    offered
}

/// The arrows between the files of all crates: each to the file that defines what it names.
fn arrows() -> BTreeMap<Module, BTreeSet<Module>> {
    let all: Vec<_> = CRATES.iter().map(|(name, folder)| (*name, root().join(folder))).collect();
    let all = all.iter().filter(|(_, folder)| folder.exists());
    let modules: BTreeMap<Module, PathBuf> = all.flat_map(|(name, folder)| modules(name, folder)).collect();
    let offered = offers(&modules);
    let mut arrows = BTreeMap::new();
    for (module, file) in &modules {
        let mut paths = Paths::default();
        paths.visit_file(&syn::parse_file(&fs::read_to_string(file).unwrap()).unwrap());
        let own = paths.0.iter().filter_map(|path| target(module, path, &modules, &offered));
        arrows.insert(module.clone(), own.filter(|to| to != module).collect());
    }
    arrows
}

/// The module whose file defines what `path` in `from` names; `None` for what is not of these crates.
fn target(
    from: &str,
    path: &[String],
    modules: &BTreeMap<Module, PathBuf>,
    offered: &BTreeMap<(Module, String), Module>,
) -> Option<Module> {
    let (name, _) = from.split_once("::").unwrap_or((from, ""));
    let parent = from.rsplit_once("::").map_or(from, |(parent, _)| parent);
    let (mut at, rest) = match path.first()?.as_str() {
        "crate" => (name.trim_end_matches("_main").to_owned(), &path[1..]),
        "super" => (parent.to_owned(), &path[1..]),
        "self" => (from.to_owned(), &path[1..]),
        first if CRATES.iter().any(|(name, _)| *name == first) => (first.to_owned(), &path[1..]),
        first if modules.contains_key(&format!("{from}::{first}")) => (from.to_owned(), path),
        _ => return None,
    };
    for segment in rest {
        let inner = format!("{at}::{segment}");
        if segment == "super" {
            at = at.rsplit_once("::").map(|(parent, _)| parent.to_owned())?;
        } else if let Some(definer) = offered.get(&(at.clone(), segment.clone())) {
            at = definer.clone();
        } else if modules.contains_key(&inner) {
            at = inner;
        } else {
            break;
        }
    }
    Some(at)
}

#[test]
fn no_two_files_need_each_other_however_many_lie_between_them() {
    let arrows = arrows();
    assert!(arrows.len() > 80 && arrows.values().map(BTreeSet::len).sum::<usize>() > 300, "the sources were not read");
    let circles: Vec<String> = arrows.keys().filter_map(|start| circle(start, &arrows)).collect();
    assert!(circles.is_empty(), "{}", circles.join("\n"));
}

/// The shortest way from a file to itself, if there is one.
fn circle(start: &Module, arrows: &BTreeMap<Module, BTreeSet<Module>>) -> Option<String> {
    let mut came_from: BTreeMap<&Module, &Module> = BTreeMap::new();
    let mut next = VecDeque::from([start]);
    while let Some(at) = next.pop_front() {
        for to in &arrows[at] {
            if to == start {
                let back = std::iter::successors(Some(at), |at| came_from.get(at).copied());
                let mut way: Vec<&str> = back.map(String::as_str).collect();
                way.reverse();
                return Some(format!("{} -> {start}", way.join(" -> ")));
            }
            if to != at && !came_from.contains_key(to) {
                came_from.insert(to, at);
                next.push_back(to);
            }
        }
    }
    None
}

#[test]
fn crates_use_only_what_is_below_them() {
    let floor = |module: &str| CRATES.iter().position(|(name, _)| module.split("::").next() == Some(name));
    for (from, to) in arrows().iter().flat_map(|(from, all)| all.iter().map(move |to| (from, to))) {
        let (Some(upper), Some(lower)) = (floor(from.trim_end_matches("_main")), floor(to)) else { continue };
        assert!(lower <= upper, "{from} uses {to}");
    }
}

/// Cargo resolves what the crate is built of; what it names itself is what could be named in its code.
#[test]
fn the_pure_crate_names_no_dependency_that_does_io() {
    let manifest = fs::read_to_string(root().join("agent/core/Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let dependencies = manifest["dependencies"].as_table().unwrap();
    for name in dependencies.keys() {
        assert!(!IO.iter().any(|io| name.starts_with(io)), "agent/core depends on {name}");
    }
    assert!(dependencies.len() > 5 && !manifest.contains_key("target") && !manifest.contains_key("build-dependencies"));
}
