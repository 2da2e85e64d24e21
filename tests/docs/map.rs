//! The map in `docs/architecture.md` has every room of the code, and no document names a file that is not there.

use std::{collections::BTreeSet, fs};

use pulldown_cmark::{Event, Options, Parser};

use crate::{documents, none_wrong, root};

const MAP: &str = "docs/architecture.md";
/// Where the rooms of the map are, from a path's point of view.
const HOMES: [&str; 6] =
    ["", "agent/core/src", "agent/core/src/decide", "agent/vici/src", "agent/netlink/src", "agent/src"];

/// The code spans of a document.
fn spans(text: &str) -> BTreeSet<String> {
    let events = Parser::new_ext(text, Options::ENABLE_TABLES);
    events.filter_map(|event| if let Event::Code(code) = event { Some(code.into_string()) } else { None }).collect()
}

/// A path as a document writes it: no blanks, and nothing of a pattern.
fn is_path(span: &str) -> bool {
    span.contains(['/', '.']) && span.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c))
}

#[test]
fn every_file_and_folder_of_the_repository_that_a_document_names_exists() {
    let tops: Vec<String> =
        fs::read_dir(root()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    let of_repository = |span: &str| {
        let top = span.split('/').next().unwrap_or_default();
        span.contains('/') && top != "target" && tops.iter().any(|name| name == top)
    };
    let (mut paths, mut wrong) = (0, Vec::new());
    for document in documents() {
        for span in spans(&document.text).iter().filter(|span| is_path(span) && of_repository(span)) {
            paths += 1;
            if !root().join(span).exists() {
                wrong.push(format!("{}: there is no {span}", document.path.display()));
            }
        }
    }
    none_wrong(&wrong);
    assert!(paths > 50, "only {paths} paths are named: the search overlooks some");
}

#[test]
fn the_map_has_every_room_and_no_other() {
    let spans = spans(&fs::read_to_string(root().join(MAP)).unwrap());
    let mut wrong = Vec::new();
    for span in spans.iter().filter(|span| is_path(span) && span.ends_with(".rs")) {
        if !HOMES.iter().any(|home| root().join(home).join(span).exists()) {
            wrong.push(format!("{MAP}: there is no {span}"));
        }
    }
    // The crates' roots, and the manual's test, are no rooms.
    let ignored = ["lib.rs", "manual.rs", "tests.rs"];
    for home in &HOMES[1..] {
        for entry in fs::read_dir(root().join(home)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".rs") && !ignored.contains(&name.as_str()) && !spans.contains(&name) {
                wrong.push(format!("{MAP} lacks {home}/{name}"));
            }
        }
    }
    none_wrong(&wrong);
}
