//! A tree as strongSwan settings text: the inverse of `crosswan_core::swanctl::parse`, for trees without lists. A test includes
//! this file as a module of one that has `Node` and `Tree`.

use std::fmt::Write as _;

use super::{Node, Tree};

/// Writes a tree as settings text; `parse(write(t)) == t` when `t` came from `parse`. May contain secrets.
pub(crate) fn write(tree: &Tree) -> String {
    let mut out = String::new();
    section(&mut out, tree, 0);
    out
}

fn section(out: &mut String, tree: &Tree, depth: usize) {
    for (name, node) in tree {
        // Writing to a String cannot fail.
        let _ = match node {
            Node::Value(v) => writeln!(out, "{:depth$}{name} = {}", "", quote(v), depth = depth * 2),
            Node::List(v) => writeln!(out, "{:depth$}{name} = {}", "", quote(&v.join(",")), depth = depth * 2),
            Node::Section(inner) => {
                let _ = writeln!(out, "{:depth$}{name} {{", "", depth = depth * 2);
                section(out, inner, depth + 1);
                writeln!(out, "{:depth$}}}", "", depth = depth * 2)
            }
        };
    }
}

fn quote(value: &str) -> String {
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"._%/:,+=-".contains(&b)) {
        return value.to_owned();
    }
    let mut out = String::from('"');
    for c in value.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '"' | '\\' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
