//! Replaces sections of one text by those of another, byte for byte; the other sections stay as they are.

use std::collections::BTreeMap;

use super::parse::{Sections, SyntaxError, locate};

/// What replaces a section of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replacement {
    /// The section of the same name in the other text; if that has none, nothing.
    Other,
    /// Nothing: the section is left out.
    Nothing,
}

/// Replaces or leaves out the named sections of `text`, among those inside the section that `path` leads to.
///
/// A section that only `other` has is added at the end. If nothing differs, the result is `text`; if every section that
/// differs is replaced, and both texts come from one template, it is `other`.
///
/// # Errors
/// One of the texts does not parse.
pub fn splice(
    text: &str,
    other: &str,
    path: &[&str],
    instead: &BTreeMap<String, Replacement>,
) -> Result<String, SyntaxError> {
    let (here, there) = (locate(text, path)?, locate(other, path)?);
    let of_other = |name: &str| {
        let wanted = instead.get(name) == Some(&Replacement::Other);
        there.sections.iter().find(|(n, _)| wanted && *n == name).map(|(_, range)| &other[range.clone()])
    };
    let Sections { sections, end } = here;
    let mut out = String::with_capacity(text.len());
    let mut copied = 0;
    for (name, range) in sections.iter().filter(|(name, _)| instead.contains_key(*name)) {
        match of_other(name) {
            Some(section) => {
                out.push_str(&text[copied..range.start]);
                out.push_str(section);
            }
            None => {
                let before = &text[copied..range.start];
                // Its indent and line end go with it, if it is on lines of its own.
                let line = before.trim_end_matches([' ', '\t']).strip_suffix('\n');
                out.push_str(line.filter(|_| text[range.end..].starts_with('\n')).unwrap_or(before));
            }
        }
        copied = range.end;
    }
    let end = end.unwrap_or(text.len());
    out.push_str(&text[copied..end]);
    for name in instead.keys().filter(|name| sections.iter().all(|(n, _)| n != name)) {
        out.extend(of_other(name).map(|section| format!("    {section}\n")));
    }
    out.push_str(&text[end..]);
    Ok(out)
}
