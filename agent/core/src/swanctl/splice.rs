//! Sections of one text in the place of those of another, byte for byte: what a file says of the other sections stays.

use std::collections::BTreeMap;

use super::parse::{Sections, SyntaxError, locate};

/// What a section of a text becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replacement {
    /// The section of the same name in the other text; without one there, none.
    Other,
    /// It is left out.
    Nothing,
}

/// `text` with the named sections, of those inside the one that `path` leads to, as `other` has them, or without them.
///
/// A section that only `other` has is added at the end. Where nothing differs the result is `text`; where all that
/// differs is replaced, and both were rendered by one template, it is `other`.
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
                // With its indent and its line end, if it stands on lines of its own.
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
