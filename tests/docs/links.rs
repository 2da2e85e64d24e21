//! Every link within the repository leads to a file, and its anchor to a heading in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path, PathBuf},
};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use crate::{Document, documents, none_wrong, root};

/// The anchors that GitHub makes of a document's headings: lower case, blanks as hyphens, punctuation left out, and a number
/// where a heading comes again.
fn anchors(text: &str) -> BTreeSet<String> {
    let (mut anchors, mut seen) = (BTreeSet::new(), BTreeMap::new());
    let mut heading: Option<String> = None;
    for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::Text(text) | Event::Code(text) => heading.iter_mut().for_each(|heading| heading.push_str(&text)),
            Event::End(TagEnd::Heading(_)) => {
                let kept = heading.take().unwrap_or_default().to_lowercase();
                let kept = kept.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
                let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
                let times: &mut usize = seen.entry(anchor.clone()).or_default();
                anchors.insert(if *times == 0 { anchor } else { format!("{anchor}-{times}") });
                *times += 1;
            }
            _ => {}
        }
    }
    anchors
}

/// The path without `.` and `..`; `None` if it leaves the repository.
fn normal(path: &Path) -> Option<PathBuf> {
    path.components().try_fold(PathBuf::new(), |mut normal, part| {
        match part {
            Component::CurDir => {}
            Component::ParentDir => normal.pop().then_some(())?,
            Component::Normal(name) => normal.push(name),
            Component::RootDir | Component::Prefix(_) => return None,
        }
        Some(normal)
    })
}

/// Links and images within the repository, with the line each is in.
fn internal(text: &str) -> Vec<(usize, String)> {
    let links =
        Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter().filter_map(|(event, range)| match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                Some((range.start, dest_url.into_string()))
            }
            _ => None,
        });
    let outside = |link: &String| ["https://", "http://", "mailto:"].iter().any(|scheme| link.starts_with(scheme));
    links.filter(|(_, link)| !outside(link)).map(|(at, link)| (text[..at].lines().count().max(1), link)).collect()
}

/// Why a link does not lead anywhere.
fn broken(document: &Document, link: &str, all: &BTreeMap<&Path, BTreeSet<String>>) -> Option<String> {
    let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
    let folder = document.path.parent().unwrap_or(Path::new(""));
    let target = if file.is_empty() { document.path.clone() } else { folder.join(file) };
    let Some(target) = normal(&target) else { return Some("leaves the repository".into()) };
    if !root().join(&target).exists() {
        return Some(format!("there is no {}", target.display()));
    }
    let anchor = anchor?;
    match all.get(target.as_path()) {
        None => Some(format!("{} has no headings", target.display())),
        Some(anchors) if anchors.contains(anchor) => None,
        Some(anchors) => Some(format!("{} has no heading #{anchor}; it has {anchors:?}", target.display())),
    }
}

#[test]
fn every_link_within_the_repository_leads_to_a_file_and_to_a_heading_in_it() {
    let documents = documents();
    let all: BTreeMap<&Path, _> = documents.iter().map(|d| (d.path.as_path(), anchors(&d.text))).collect();
    let (mut links, mut wrong) = (0, Vec::new());
    for document in &documents {
        for (line, link) in internal(&document.text) {
            links += 1;
            if let Some(why) = broken(document, &link, &all) {
                wrong.push(format!("{}:{line}: {link}: {why}", document.path.display()));
            }
        }
    }
    none_wrong(&wrong);
    assert!(links > 50, "only {links} links were found: the parser overlooks some");
}

#[test]
fn every_document_can_be_reached_from_the_readme() {
    let documents = documents();
    let (mut reached, mut next) = (BTreeSet::new(), vec![PathBuf::from("README.md")]);
    while let Some(path) = next.pop() {
        if !reached.insert(path.clone()) {
            continue;
        }
        let Some(document) = documents.iter().find(|document| document.path == path) else { continue };
        let folder = path.parent().unwrap_or(Path::new(""));
        let files =
            internal(&document.text).into_iter().map(|(_, link)| link.split('#').next().unwrap_or("").to_owned());
        next.extend(files.filter_map(|file| {
            let target = normal(&folder.join(file))?;
            Some(if root().join(&target).is_dir() { target.join("README.md") } else { target })
        }));
    }
    let lost = documents.iter().filter(|document| !reached.contains(&document.path));
    none_wrong(&lost.map(|document| format!("nothing links to {}", document.path.display())).collect::<Vec<_>>());
}

#[test]
fn an_anchor_is_made_as_github_makes_it() {
    let made = anchors("# A `b`\n\n## What's up, now?\n\n## A b\n\n### Step 1: `--dry-run`\n");
    assert_eq!(made.into_iter().collect::<Vec<_>>(), ["a-b", "a-b-1", "step-1---dry-run", "whats-up-now"]);
}
