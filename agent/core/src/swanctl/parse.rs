//! Text to tree. It never panics, and refuses what it does not know with the line.

use std::ops::Range;

use super::{Node, Tree};
use crate::model::printable;

/// The templates' deepest setting, `connections.<name>.children.<child>.<key>`, is at four.
const MAX_DEPTH: usize = 16;
/// VICI's length fields: a name has 8 bits, a value 16.
const MAX_NAME: usize = u8::MAX as usize;
const MAX_VALUE: usize = u16::MAX as usize;

/// What was refused, and where. It shows names but never a value, as a value may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct SyntaxError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong there, with names but without values.
    pub what: String,
}

/// Parses a whole file. A name that is set twice is an error: the second does not override the first.
pub fn parse(text: &str) -> Result<Tree, SyntaxError> {
    let mut parser = Parser { text, rest: text };
    if text.contains('\0') {
        return Err(parser.error("a NUL byte"));
    }
    // For strongSwan a comment ends at a carriage return, and what follows it is a setting.
    if let Some((at, _)) = text.match_indices('\r').find(|(at, _)| !text[at + 1..].starts_with('\n')) {
        return Err(parser.error_before(&text[at..], "a carriage return inside a line"));
    }
    parser.section(0)
}

/// The positions of the sections inside one section of a text.
#[derive(Debug, Default)]
pub(super) struct Sections<'t> {
    /// In the text's order, each from the start of its name to just after its closing brace.
    pub sections: Vec<(&'t str, Range<usize>)>,
    /// The position of the closing brace of the section around them; `None` if the text has no such section.
    pub end: Option<usize>,
}

/// Finds the sections inside the one that `path` leads to, so that one of them can be replaced or left out.
pub(super) fn locate<'t>(text: &'t str, path: &[&str]) -> Result<Sections<'t>, SyntaxError> {
    let mut parser = Parser { text, rest: text };
    let mut found = Sections::default();
    let mut depth = 0;
    loop {
        parser.gap();
        let start = parser.taken();
        match parser.peek() {
            None if depth == 0 => return Ok(found),
            Some('}') if depth > 0 => {
                found.end = (depth == path.len()).then_some(start);
                return Ok(found);
            }
            _ => {}
        }
        let name = parser.name()?;
        parser.gap();
        if path.get(depth) == Some(&name) && parser.peek() == Some('{') {
            parser.next();
            depth += 1;
            continue;
        }
        let node = parser.statement(name, depth)?;
        if depth == path.len() && matches!(node, Node::Section(_)) {
            found.sections.push((name, start..parser.taken()));
        }
    }
}

struct Parser<'t> {
    text: &'t str,
    rest: &'t str,
}

impl<'t> Parser<'t> {
    fn error(&self, what: impl Into<String>) -> SyntaxError {
        self.error_before(self.rest, what)
    }

    /// Lines are counted only here: a valid file of thousands of connections needs no line numbers.
    fn error_before(&self, rest: &str, what: impl Into<String>) -> SyntaxError {
        let taken = &self.text[..self.text.len() - rest.len()];
        SyntaxError { line: 1 + taken.matches('\n').count(), what: what.into() }
    }

    /// The number of bytes that have been read.
    fn taken(&self) -> usize {
        self.text.len() - self.rest.len()
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn take_while(&mut self, accept: impl Fn(char) -> bool) -> &'t str {
        let end = self.rest.find(|c| !accept(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn blanks(&mut self) {
        self.take_while(|c| matches!(c, ' ' | '\t' | '\r'));
    }

    /// Blank space, line ends and comments between statements.
    fn gap(&mut self) {
        loop {
            self.take_while(|c| matches!(c, ' ' | '\t' | '\r' | '\n'));
            if self.peek() != Some('#') {
                return;
            }
            self.rest = self.rest.find('\n').map_or("", |end| &self.rest[end..]);
        }
    }

    /// Statements up to the closing brace, or to the end of the text at depth 0.
    fn section(&mut self, depth: usize) -> Result<Tree, SyntaxError> {
        if depth > MAX_DEPTH {
            return Err(self.error(format!("sections nested deeper than {MAX_DEPTH}")));
        }
        let mut tree = Tree::new();
        loop {
            self.gap();
            match self.peek() {
                None if depth == 0 => return Ok(tree),
                None => return Err(self.error("the text ends inside a section: a } is missing")),
                Some('}') if depth > 0 => {
                    self.next();
                    return Ok(tree);
                }
                Some(_) => {
                    let (name, rest) = (self.name()?, self.rest);
                    let node = self.statement(name, depth)?;
                    if tree.insert(name.to_owned(), node).is_some() {
                        return Err(self.error_before(rest, format!("{} is set twice", printable(name))));
                    }
                }
            }
        }
    }

    fn name(&mut self) -> Result<&'t str, SyntaxError> {
        let name =
            self.take_while(|c| !matches!(c, '#' | '{' | '}' | ':' | '.' | ',' | '=' | '"') && !c.is_whitespace());
        match (name.len(), self.peek()) {
            (0, Some(c)) => Err(self.error(format!("unexpected '{}'", c.escape_default()))),
            (1..=MAX_NAME, _) => Ok(name),
            _ => Err(self.error(format!("a name longer than {MAX_NAME} bytes"))),
        }
    }

    fn statement(&mut self, name: &str, depth: usize) -> Result<Node, SyntaxError> {
        if name == "include" {
            return Err(self.error("include: not supported"));
        }
        self.gap();
        match self.peek() {
            Some('{') => {
                self.next();
                self.section(depth + 1).map(Node::Section)
            }
            Some('=') => {
                self.next();
                self.value(name).map(Node::Value)
            }
            Some(':') => Err(self.error(format!("{} refers to another section: not supported", printable(name)))),
            _ => Err(self.error(format!("expected = or {{ after {}", printable(name)))),
        }
    }

    /// Words and quoted strings up to the line's end, a comment or a brace, joined by one space as charon joins them.
    fn value(&mut self, name: &str) -> Result<String, SyntaxError> {
        let mut value: Option<String> = None;
        let mut add = |part: &str| match &mut value {
            Some(value) => value.extend([" ", part]),
            None => value = Some(part.to_owned()),
        };
        loop {
            self.blanks();
            match self.peek() {
                None | Some('\n' | '#' | '}') => break,
                Some('"') => add(&self.quoted()?),
                // charon would make it a part of the value, which nobody who wrote it meant.
                Some('{') => return Err(self.error(format!("unexpected {{ in the value of {}", printable(name)))),
                Some(_) => {
                    let word = self.take_while(|c| !matches!(c, '#' | '{' | '}' | '"' | ' ' | '\t' | '\r' | '\n'));
                    add(word);
                }
            }
        }
        match value {
            None => Err(self.error(format!("{} has no value", printable(name)))),
            Some(value) if value.len() <= MAX_VALUE => Ok(value),
            Some(_) => Err(self.error(format!("the value of {} is longer than {MAX_VALUE} bytes", printable(name)))),
        }
    }

    fn quoted(&mut self) -> Result<String, SyntaxError> {
        self.next();
        let mut out = String::new();
        loop {
            out.push_str(self.take_while(|c| !matches!(c, '"' | '\\' | '\r' | '\n')));
            match self.peek() {
                Some('"') => {
                    self.next();
                    return Ok(out);
                }
                Some('\\') => {
                    self.next();
                    match self.peek() {
                        Some('n') => out.push('\n'),
                        Some('r') => out.push('\r'),
                        Some('t') => out.push('\t'),
                        Some('\r' | '\n') | None => return Err(self.error("a quoted string must end on its line")),
                        Some(c) => out.push(c),
                    }
                    self.next();
                }
                _ => return Err(self.error("a quoted string must end on its line")),
            }
        }
    }
}
