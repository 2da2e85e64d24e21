//! The graph, for Graphviz: `crosswan map --format dot | dot -Tsvg`.

use std::fmt::Write;

use super::{Is, Map, Peer};

/// The map in Graphviz's language.
pub fn dot(map: &Map) -> String {
    let own = &map.own;
    let mut out =
        String::from("graph crosswan {\n  layout=twopi; overlap=false;\n  node [shape=box, style=rounded];\n");
    let label = [&own.mode, &own.vpc, &own.region, &own.cidrs.join(", ")].map(String::as_str).join("\n");
    let _ = writeln!(out, "  own [label={}, root=true, penwidth=2];", quoted(&label));
    for (g, group) in map.groups.iter().enumerate() {
        let _ = writeln!(out, "  subgraph cluster_{g} {{\n    label={};", quoted(&group.title()));
        for (p, peer) in group.peers.iter().enumerate() {
            let _ = writeln!(out, "    peer_{g}_{p} [label={}, color={}];", quoted(&label_of(peer)), color(peer.is));
        }
        out.push_str("  }\n");
        for (p, peer) in group.peers.iter().enumerate().filter(|(_, peer)| peer.is != Is::Refused) {
            let style = if peer.is == Is::Up { "solid" } else { "dashed" };
            let _ = writeln!(out, "  own -- peer_{g}_{p} [color={}, style={style}];", color(peer.is));
        }
    }
    out.push_str("}\n");
    out
}

fn label_of(peer: &Peer) -> String {
    let cidrs = peer.cidrs.join(", ");
    let state = peer.reason.as_ref().map_or_else(|| peer.state(), |reason| format!("refused: {reason}"));
    [peer.title(), &cidrs, &state].into_iter().filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

fn color(is: Is) -> &'static str {
    match is {
        Is::Up => "green4",
        Is::Down => "red",
        Is::StandsBy => "gray50",
        Is::Unknown => "goldenrod",
        Is::Refused => "purple",
    }
}

/// A string of the language. A backslash of others begins no escape, and no string is read as HTML.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}
