//! XML as EC2 writes it: elements with plain names and text between them, an `xmlns` on the root, and nothing else.
//!
//! Much less than XML on purpose. Whatever else there is (a comment, CDATA, another attribute, a control character) makes
//! it "not plain", and that is not "broken": the decoder is asked then. So this can be wrong in one direction only, and
//! the tests hold it to that. Pure.

use std::ops::Range;

/// How EC2's answers begin.
const DECLARATION: &[u8] = br#"<?xml version="1.0" encoding="UTF-8"?>"#;

/// `body` is one plain element with all that it contains closed by its own name, and nothing but space around it.
pub fn well_formed(body: &[u8]) -> bool {
    read(body, |_, _, _| {}).is_some()
}

/// `body` without those children of the elements at `path` that are not named; `None` if it is not [`well_formed`].
pub fn only(body: &[u8], path: &[&str], names: &[&str]) -> Option<Vec<u8>> {
    let (mut kept, mut from) = (Vec::new(), 0);
    read(body, |parents, name, range| {
        let here = || parents.iter().map(|(name, _)| *name).eq(path.iter().map(|name| name.as_bytes()));
        if parents.len() == path.len() && !names.iter().any(|n| n.as_bytes() == name) && here() {
            kept.extend_from_slice(&body[from..range.start]);
            from = range.end;
        }
    })?;
    kept.extend_from_slice(&body[from..]);
    Some(kept)
}

/// An element's name, and where it begins.
type Open<'b> = (&'b [u8], usize);

/// Reads a plain body to its end and tells of each element at its closing tag: those around it, its name, where it begins
/// and ends. `None` if the body is not plain.
fn read<'b>(body: &'b [u8], mut closed: impl FnMut(&[Open<'b>], &'b [u8], Range<usize>)) -> Option<()> {
    std::str::from_utf8(body).ok()?;
    let at = |rest: &[u8]| body.len() - rest.len();
    let start = after_space(body.strip_prefix(DECLARATION).unwrap_or(body));
    let (root, mut rest) = name(start.strip_prefix(b"<")?)?;
    if let Some(namespace) = rest.strip_prefix(br#" xmlns=""#) {
        let end = namespace.iter().position(|b| !b.is_ascii_alphanumeric() && !b":/.-".contains(b))?;
        rest = namespace[end..].strip_prefix(b"\"")?;
    }
    rest = rest.strip_prefix(b">")?;
    let mut open = vec![(root, at(start))];
    while let Some(&(inner, from)) = open.last() {
        let tag = &rest[rest.iter().position(|b| !IS_TEXT[usize::from(*b)])?..];
        if let Some(end) = tag.strip_prefix(b"</") {
            rest = end.strip_prefix(inner)?.strip_prefix(b">")?;
            open.pop();
            closed(&open, inner, from..at(rest));
            continue;
        }
        let (name, end) = name(tag.strip_prefix(b"<")?)?;
        rest = match end {
            [b'>', rest @ ..] => {
                open.push((name, at(tag)));
                rest
            }
            [b'/', b'>', rest @ ..] => {
                closed(&open, name, at(tag)..at(rest));
                rest
            }
            _ => return None,
        };
    }
    after_space(rest).is_empty().then_some(())
}

/// A name and what follows it.
fn name(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|b| !IS_NAME[usize::from(*b)])?;
    text.split_at_checked(end).filter(|(name, _)| name.first().is_some_and(u8::is_ascii_alphabetic))
}

/// The text from its first byte that is no space.
fn after_space(text: &[u8]) -> &[u8] {
    &text[text.iter().position(|b| !is_space(*b)).unwrap_or(text.len())..]
}

/// To XML; ASCII's form feed is none.
const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Without `]`, which can be part of the `]]>` that text must not hold, and 0xEF, which begins U+FFFE and U+FFFF.
const fn is_text(byte: u8) -> bool {
    !matches!(byte, b'<' | b']' | 0xef | 0x7f) && (byte >= b' ' || is_space(byte))
}

// Tables, because every byte of megabytes is looked up.
const IS_TEXT: [bool; 256] = table(true);
const IS_NAME: [bool; 256] = table(false);

const fn table(text: bool) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = if text { is_text(byte as u8) } else { (byte as u8).is_ascii_alphanumeric() };
        byte += 1;
    }
    table
}
