//! What comments in the code name in `docs/` is there.

use std::fs;

use crate::{files, none_wrong, root};

/// The comments of a text, with their lines joined, so that a name that is wrapped is one name.
fn comments(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let line = line.trim();
        let comment = ["//!", "///", "//", "#"].iter().find_map(|leader| line.strip_prefix(leader));
        comment.unwrap_or("\n").trim_matches(' ')
    });
    lines.collect::<Vec<_>>().join(" ")
}

/// The documents that a text's comments name, with the section if one follows, as in: docs/facts.md, "MSS".
fn named(text: &str) -> Vec<(String, Option<String>)> {
    let comments = comments(text);
    let names = comments.match_indices("docs/").filter_map(|(at, _)| {
        let rest = &comments[at..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"/-_.".contains(c)).unwrap_or(rest.len());
        let file = rest[..end].trim_end_matches('.');
        let title =
            rest[end..].trim_start_matches(['`', ',', ' ']).strip_prefix('"').and_then(|rest| rest.split('"').next());
        file.ends_with(".md").then(|| (file.to_owned(), title.map(str::to_owned)))
    });
    names.collect()
}

#[test]
fn every_document_and_every_section_that_a_comment_names_exists() {
    let (mut sections, mut wrong) = (0, Vec::new());
    for source in files(&[".rs", ".toml", ".sh", ".conf", ".service", ".hcl"]) {
        for (file, title) in named(&source.text) {
            let Ok(text) = fs::read_to_string(root().join(&file)) else {
                wrong.push(format!("{}: there is no {file}", source.path.display()));
                continue;
            };
            let Some(title) = title else { continue };
            sections += 1;
            let heading =
                |line: &str| line.starts_with('#') && line.trim_start_matches('#').trim().replace('`', "") == title;
            if !text.lines().any(heading) {
                wrong.push(format!("{}: {file} has no section \"{title}\"", source.path.display()));
            }
        }
    }
    none_wrong(&wrong);
    assert!(sections > 10, "only {sections} sections are named: the search overlooks some");
}

#[test]
fn a_section_is_found_in_a_comment_that_is_wrapped() {
    let text =
        "/// Again (`docs/facts.md`, \"Loading\n    /// connections\").\nlet x = \"docs/no.md\";\n# see docs/aws.md.\n";
    let expected = [("docs/facts.md", Some("Loading connections")), ("docs/aws.md", None)];
    assert_eq!(named(text), expected.map(|(file, title)| (file.to_owned(), title.map(str::to_owned))));
}
