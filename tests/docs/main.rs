//! What the documents promise: links that lead somewhere, commands that exist, exit codes that are complete, a short README.

#![allow(unreachable_pub, reason = "nothing outside a test uses its items")]

mod commands;
mod links;
mod map;
mod monitoring;
mod source;

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A Markdown file of the repository.
struct Document {
    /// Relative to the repository's root, as the messages name it.
    path: PathBuf,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files of the repository with this ending, sorted by path, with their text. Build output and hidden folders are left out.
fn files(endings: &[&str]) -> Vec<Document> {
    let (mut folders, mut found) = (vec![root().to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.starts_with('.') || ["target", "corpus"].contains(&name) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                let text = fs::read_to_string(&path).unwrap();
                found.push(Document { path: path.strip_prefix(root()).unwrap().to_owned(), text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn documents() -> Vec<Document> {
    let documents = files(&[".md"]);
    assert!(documents.iter().any(|document| document.path == Path::new("README.md")), "found no README.md");
    documents
}

fn none_wrong(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_readme_is_short_enough_to_be_read() {
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(text.lines().count() <= 160, "README.md has {} lines; move something to docs/", text.lines().count());
    let long = text.lines().enumerate().filter(|(_, line)| line.chars().count() > 140);
    none_wrong(&long.map(|(n, line)| format!("README.md:{}: over 140 characters: {line}", n + 1)).collect::<Vec<_>>());
}
