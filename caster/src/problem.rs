//! What is wrong with a document: each problem with file, line, column and key path, collected so that all show at once.

use std::fmt;

use serde::Serialize;

use crate::tree::{KeyPath, Node, Place, place};

/// Whether a problem stops everything, or is only said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Error,
    Warning,
}

/// One problem. Its `Display` is `FILE:LINE:COLUMN: PATH: what`, the form that editors jump to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    pub file: String,
    pub line: usize,
    pub column: usize,
    pub level: Level,
    pub path: String,
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { file, line, column, level, path, what } = self;
        let level = if *level == Level::Warning { "warning: " } else { "" };
        let path = if path.is_empty() { String::new() } else { format!("{path}: ") };
        write!(f, "{file}:{line}:{column}: {level}{path}{what}")
    }
}

/// A document's text with its tree, and the problems found in it so far.
pub struct Source {
    file: String,
    text: String,
    /// Where each line begins.
    lines: Vec<usize>,
    pub root: Node,
    problems: Vec<Problem>,
}

impl Source {
    pub fn new(file: String, text: String, root: Node) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i + 1);
        let lines = [0].into_iter().chain(newlines).collect();
        Source { file, text, lines, root, problems: Vec::new() }
    }
    pub fn file(&self) -> &str {
        &self.file
    }
    /// An error at the value that `path` names, or where its object starts.
    pub fn error(&mut self, path: &KeyPath, what: impl Into<String>) {
        self.put(Level::Error, path, self.root.locate(path), what.into());
    }
    pub fn warn(&mut self, path: &KeyPath, what: impl Into<String>) {
        self.put(Level::Warning, path, self.root.locate(path), what.into());
    }
    /// A problem at a place of its own, such as that of a key.
    pub fn put(&mut self, level: Level, path: &KeyPath, at: usize, what: String) {
        let Place { line, column } = self.place(at);
        let (file, path) = (self.file.clone(), path.to_string());
        self.problems.push(Problem { file, line, column, level, path, what });
    }
    /// Where a value stands, as another document's problem names it: `FILE:LINE`.
    pub fn whereabouts(&self, path: &KeyPath) -> String {
        format!("{}:{}", self.file, self.place(self.root.locate(path)).line)
    }
    /// As [`place`] says, without counting the lines before it each time.
    fn place(&self, at: usize) -> Place {
        let line = self.lines.partition_point(|start| *start <= at).max(1);
        let start = self.lines[line - 1];
        Place { line, column: place(&self.text[start..], at - start).column }
    }
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|p| p.level == Level::Error)
    }
    /// The problems, in the order of the file; each thing once.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = self.problems.clone();
        problems.sort();
        problems.dedup();
        problems
    }
}
