//! The picture: one SVG file that needs nothing else, without scripts.

use std::fmt::Write;

use super::{
    Is, Map,
    layout::{Block, FONT, Kind, Line, layout, text},
};

const STYLE: &str = "\
    text { font-family: ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace; fill: #1f2328; }\n    \
    text.first { font-weight: bold; }\n    \
    rect { fill: #ffffff; stroke: #6e7781; stroke-width: 1; }\n    \
    rect.own { fill: #ddf4ff; stroke: #0969da; stroke-width: 2; }\n    \
    rect.region { fill: #f6f8fa; stroke: #d0d7de; }\n    \
    rect.failed { fill: #fff8c5; stroke: #9a6700; }\n    \
    rect.up { fill: #dafbe1; stroke: #1a7f37; }\n    \
    rect.down { fill: #ffebe9; stroke: #cf222e; stroke-width: 2; }\n    \
    rect.stands-by { fill: #f6f8fa; stroke: #6e7781; }\n    \
    rect.unknown { fill: #fff8c5; stroke: #9a6700; }\n    \
    rect.refused { fill: #fbefff; stroke: #8250df; stroke-dasharray: 4 3; }\n    \
    polyline { fill: none; stroke: #8c959f; stroke-width: 1.5; }\n    \
    polyline.up { stroke: #1a7f37; stroke-width: 2.5; }\n    \
    polyline.down { stroke: #cf222e; stroke-width: 2.5; stroke-dasharray: 3 3; }\n    \
    polyline.stands-by, polyline.unknown { stroke-dasharray: 3 3; }\n";

/// The map as an SVG file.
pub fn svg(map: &Map) -> String {
    let layout = layout(map);
    let (width, height) = (layout.width, layout.height);
    let title = escaped(&format!("{} of {}: {}", map.own.mode, map.own.vpc, map.summary()));
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" font-size=\"{FONT}\">\n  <title>{title}</title>\n  \
         <style>\n    {STYLE}  </style>\n  <path d=\"M0 0H{width:.0}V{height:.0}H0Z\" fill=\"#ffffff\"/>\n"
    );
    layout.lines.iter().for_each(|line| draw(line, &mut out));
    layout.blocks.iter().for_each(|block| show(block, &mut out));
    out.push_str("</svg>\n");
    out
}

fn draw(line: &Line, out: &mut String) {
    let points: Vec<String> = line.points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let class = line.is.map(|is| format!(" class=\"{}\"", class(is))).unwrap_or_default();
    let _ = writeln!(out, "  <polyline{class} points=\"{}\"/>", points.join(" "));
}

fn show(block: &Block, out: &mut String) {
    let class = match block.kind {
        Kind::Own => "own",
        Kind::Region { failed: false } => "region",
        Kind::Region { failed: true } => "region failed",
        Kind::Peer(is) => class(is),
    };
    let Block { x, y, width, height, whole, .. } = block;
    let _ = writeln!(
        out,
        "  <g>\n    <title>{}</title>\n    <rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" \
         height=\"{height:.1}\" rx=\"5\"/>",
        escaped(whole)
    );
    for (n, (x, y, line)) in text(block).enumerate().filter(|(_, (.., line))| !line.is_empty()) {
        let first = if n == 0 { " class=\"first\"" } else { "" };
        let _ = writeln!(out, "    <text{first} x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escaped(line));
    }
    out.push_str("  </g>\n");
}

fn class(is: Is) -> &'static str {
    match is {
        Is::Up => "up",
        Is::Down => "down",
        Is::StandsBy => "stands-by",
        Is::Unknown => "unknown",
        Is::Refused => "refused",
    }
}

/// Text of others as text and nothing else. XML knows hardly any control character.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' => out.push('\n'),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push(char::REPLACEMENT_CHARACTER),
            c => out.push(c),
        }
    }
    out
}
