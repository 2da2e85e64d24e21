//! Where everything in the picture is, in pixels.

use super::{Group, Is, Map, Peer};

/// A character's width at most, as a part of the size of its font: monospace fonts have 0.55 to 0.62.
const CHARACTER: f64 = 0.62;
/// The size of the text, and the distance of two lines.
pub(super) const FONT: f64 = 12.0;
const LINE: f64 = 17.0;
const PADDING: f64 = 8.0;
const GAP: f64 = 14.0;
/// Room for a rail beside each column, from which lines lead to its boxes.
const RAIL: f64 = 18.0;
const MARGIN: f64 = 24.0;
/// A box's width, and the characters that fit into it.
const WIDTH: f64 = 290.0;
const FIT: usize = ((WIDTH - 2.0 * PADDING) / (FONT * CHARACTER)) as usize;
/// Lines of a peer's box.
const LINES: usize = 4;
/// Columns have at least this many boxes before a region gets another one.
const FEWEST_ROWS: usize = 6;

/// A box with its text, each line of which fits into it.
#[derive(Debug)]
pub(super) struct Block {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
    pub lines: Vec<String>,
    /// The whole text, of which the lines may show less.
    pub whole: String,
    pub kind: Kind,
}

/// What a box is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Own,
    Region { failed: bool },
    Peer(Is),
}

/// A line of right angles, through these points.
#[derive(Debug)]
pub(super) struct Line {
    pub points: Vec<(f64, f64)>,
    /// `None` for what several peers share.
    pub is: Option<Is>,
}

#[derive(Debug)]
pub(super) struct Layout {
    pub width: f64,
    pub height: f64,
    pub blocks: Vec<Block>,
    pub lines: Vec<Line>,
}

pub(super) fn layout(map: &Map) -> Layout {
    let peers: usize = map.groups.iter().map(|group| group.peers.len()).sum();
    // Boxes are about four times as wide as high: so many rows make a picture that is wider than high.
    let rows = ((peers as f64 * 2.2).sqrt().ceil() as usize).max(FEWEST_ROWS);
    let columns: Vec<(&Group, Vec<&[Peer]>)> =
        map.groups.iter().map(|group| (group, group.peers.chunks(rows).collect())).collect();
    let count: usize = columns.iter().map(|(_, chunks)| chunks.len().max(1)).sum();
    let column = RAIL + WIDTH + GAP;
    let width = 2.0 * MARGIN + (count as f64 * column).max(WIDTH * 1.6);

    let mut blocks = vec![own(map, width)];
    let own_bottom = blocks[0].y + blocks[0].height;
    let bus = own_bottom + GAP * 1.5;
    let head = bus + GAP * 1.5;
    let height_of_head = LINE * 2.0 + 2.0 * PADDING - 4.0;
    let mut lines = Vec::new();
    let mut x = MARGIN + (width - 2.0 * MARGIN - count as f64 * column) / 2.0;
    let (mut bottom, mut middles) = (own_bottom, Vec::new());
    for (group, chunks) in columns {
        let span = chunks.len().max(1) as f64 * column - GAP;
        blocks.push(heading(group, (x, head), span, height_of_head));
        let middle = x + span / 2.0;
        middles.push(middle);
        lines.push(Line { points: vec![(middle, bus), (middle, head)], is: None });
        let top = head + height_of_head;
        bottom = bottom.max(top);
        for (n, chunk) in chunks.into_iter().enumerate() {
            let (rail, mut y) = (x + n as f64 * column + RAIL / 2.0, top + GAP);
            let mut last = None;
            for peer in chunk {
                let block = boxed(peer, (rail + RAIL / 2.0, y));
                let at = block.y + block.height / 2.0;
                // What is refused has no line to the hub.
                if peer.is != Is::Refused {
                    lines.push(Line { points: vec![(rail, at), (block.x, at)], is: Some(peer.is) });
                    last = Some(at);
                }
                y += block.height + GAP / 2.0;
                bottom = bottom.max(block.y + block.height);
                blocks.push(block);
            }
            lines.extend(last.map(|at| Line { points: vec![(rail, top), (rail, at)], is: None }));
        }
        x += span + GAP;
    }
    if let (Some(first), Some(last)) = (middles.first(), middles.last()) {
        let center = width / 2.0;
        lines.push(Line { points: vec![(center, own_bottom), (center, bus)], is: None });
        lines.push(Line { points: vec![(first.min(center), bus), (last.max(center), bus)], is: None });
    }
    Layout { width, height: bottom + MARGIN, blocks, lines }
}

fn own(map: &Map, width: f64) -> Block {
    let own = &map.own;
    let lines = vec![
        format!("{} {}", own.mode, own.vpc),
        format!("{} {}", own.instance, own.address.as_deref().unwrap_or("without a public address")),
        format!("{}: {}", own.region, own.cidrs.join(", ")),
        map.summary(),
    ];
    let wide = WIDTH * 1.6;
    block(lines, ((width - wide) / 2.0, MARGIN), wide, 4.0 * LINE + 2.0 * PADDING - 4.0, Kind::Own)
}

fn heading(group: &Group, at: (f64, f64), width: f64, height: f64) -> Block {
    let up = group.peers.iter().filter(|peer| peer.is == Is::Up).count();
    let wanted = group.peers.iter().filter(|peer| !matches!(peer.is, Is::Refused | Is::StandsBy)).count();
    let second = match &group.failed {
        Some(why) => format!("no answer: {why}"),
        None if wanted == 0 => "no tunnel".into(),
        None => format!("{up} of {wanted} up"),
    };
    block(vec![group.title(), second], at, width, height, Kind::Region { failed: group.failed.is_some() })
}

fn boxed(peer: &Peer, at: (f64, f64)) -> Block {
    let mut lines = vec![peer.title().to_owned()];
    // A reason needs the room, and names the CIDR as a rule.
    let told = |reason: &String| peer.cidrs.iter().all(|cidr| reason.contains(cidr));
    lines.extend(Some(peer.cidrs.join(", ")).filter(|_| !peer.reason.as_ref().is_some_and(told)));
    match &peer.reason {
        Some(reason) => lines.extend(wrapped(reason, LINES - lines.len())),
        None => lines.extend([peer.gateway.clone().unwrap_or_default(), peer.state()]),
    }
    let whole =
        peer.reason.as_ref().map(|reason| format!("{}\n{}\nrefused: {reason}", peer.title(), peer.cidrs.join(", ")));
    let kind = Kind::Peer(peer.is);
    let block = block(lines, at, WIDTH, LINES as f64 * LINE + 2.0 * PADDING - 4.0, kind);
    Block { whole: whole.unwrap_or(block.whole), ..block }
}

fn block(lines: Vec<String>, (x, y): (f64, f64), width: f64, height: f64, kind: Kind) -> Block {
    let fit = ((width - 2.0 * PADDING) / (FONT * CHARACTER)) as usize;
    let whole = lines.join("\n");
    Block { x, y, width, height, lines: lines.iter().map(|line| cut(line, fit)).collect(), whole, kind }
}

/// Where a box's text begins: its left end, and the base line of each line.
pub(super) fn text(block: &Block) -> impl Iterator<Item = (f64, f64, &String)> {
    let base = |n: usize| block.y + PADDING - 4.0 + LINE * n as f64 + FONT + 1.0;
    block.lines.iter().enumerate().map(move |(n, line)| (block.x + PADDING, base(n), line))
}

/// The width of a text at most.
#[cfg(test)]
pub(super) fn width(text: &str) -> f64 {
    text.chars().count() as f64 * FONT * CHARACTER
}

/// At most `fit` characters.
fn cut(text: &str, fit: usize) -> String {
    if text.chars().count() <= fit {
        return text.into();
    }
    text.chars().take(fit.saturating_sub(1)).chain(['…']).collect()
}

/// A text as at most so many lines, broken between words where there are any.
fn wrapped(text: &str, most: usize) -> Vec<String> {
    let (mut lines, mut rest) = (Vec::new(), text.trim());
    while !rest.is_empty() {
        if lines.len() + 1 == most || rest.chars().count() <= FIT {
            lines.push(cut(rest, FIT));
            break;
        }
        let end = rest.char_indices().nth(FIT).map_or(rest.len(), |(at, _)| at);
        let before = rest[..end].rfind(' ').filter(|at| *at > 0 && !rest[end..].starts_with(' '));
        let at = before.unwrap_or(end);
        lines.push(rest[..at].to_owned());
        rest = rest[at..].trim_start();
    }
    lines
}
