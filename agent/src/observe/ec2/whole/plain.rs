//! XML as EC2 writes it: elements with plain names and text between them, an `xmlns` on the root, and nothing else.
//!
//! Much less than XML on purpose. Whatever else there is (a comment, CDATA, another attribute, a control character) makes
//! it "not plain", and that is not "broken": the decoder is asked then. So this can be wrong in one direction only, and
//! the tests hold it to that.

/// How EC2's answers begin.
const DECLARATION: &[u8] = br#"<?xml version="1.0" encoding="UTF-8"?>"#;

/// `body` is one plain element with all that it contains closed by its own name, and nothing but space around it.
pub fn well_formed(body: &[u8]) -> bool {
    std::str::from_utf8(body).is_ok() && root(body).is_some()
}

fn root(body: &[u8]) -> Option<()> {
    let body = after_space(body.strip_prefix(DECLARATION).unwrap_or(body));
    let (name, mut rest) = name(body.strip_prefix(b"<")?)?;
    if let Some(namespace) = rest.strip_prefix(br#" xmlns=""#) {
        let end = namespace.iter().position(|b| !b.is_ascii_alphanumeric() && !b":/.-".contains(b))?;
        rest = namespace[end..].strip_prefix(b"\"")?;
    }
    let mut rest = rest.strip_prefix(b">")?;
    let mut open = vec![name];
    while !open.is_empty() {
        rest = &rest[rest.iter().position(|b| !is_text(*b))?..];
        rest = match rest.strip_prefix(b"</") {
            Some(end) => end.strip_prefix(open.pop()?)?.strip_prefix(b">")?,
            None => {
                let (name, rest) = self::name(rest.strip_prefix(b"<")?)?;
                match rest {
                    [b'>', rest @ ..] => {
                        open.push(name);
                        rest
                    }
                    [b'/', b'>', rest @ ..] => rest,
                    _ => return None,
                }
            }
        };
    }
    after_space(rest).is_empty().then_some(())
}

/// The text from its first byte that is no space.
fn after_space(text: &[u8]) -> &[u8] {
    &text[text.iter().position(|b| !is_space(*b)).unwrap_or(text.len())..]
}

/// A name and what follows it.
fn name(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|b| !b.is_ascii_alphanumeric())?;
    text.split_at_checked(end).filter(|(name, _)| name.first().is_some_and(u8::is_ascii_alphabetic))
}

/// Without `]`, which can be part of the `]]>` that text must not hold, and 0xEF, which begins U+FFFE and U+FFFF.
fn is_text(byte: u8) -> bool {
    !matches!(byte, b'<' | b']' | 0xef | 0x7f) && (byte >= b' ' || is_space(byte))
}

/// To XML; ASCII's form feed is none.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}
