//! Checks the text of a pre-shared key: refused are those that anybody could guess, and those that two ends would read
//! differently.

use std::collections::BTreeSet;

use crate::{model::Secret, text::plural};

const SHORTEST: usize = 16;
/// How to make a good pre-shared key, for messages.
pub const REMEDY: &str = "make one with: openssl rand -base64 32";

/// Keys of published documents, compared by their letters and digits only. A pre-shared key that contains one is not a secret.
const PUBLISHED: [&str; 3] = ["ifionlyhadasecrettoshare", "thisisaterribleplacetokeepasecret", "stupidunsafedefault"];

/// The beginnings of placeholders, in the same form. Each has at least six characters, with which a random base64 key starts by
/// chance in one of 10^9 cases.
const USUAL: [&str; 18] = [
    "changeme",
    "changethis",
    "replaceme",
    "replacethis",
    "password",
    "passw0rd",
    "secret",
    "letmein",
    "example",
    "presharedkey",
    "sharedsecret",
    "yourkeyhere",
    "yourpsk",
    "yoursecret",
    "0123456",
    "1234567",
    "abcdefgh",
    "qwerty",
];

/// What is wrong with a pre-shared key. It shows nothing of it, and reads as a phrase after "found".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPsk {
    /// Two ends would read it differently.
    #[error("a pre-shared key {0}")]
    Ambiguous(&'static str),
    /// There is nothing but blank space.
    #[error("an empty pre-shared key; {REMEDY}")]
    Empty,
    /// It holds what no settings file can.
    #[error("a pre-shared key with control characters or more than one line; {REMEDY}")]
    Unprintable,
    /// It has so many bytes.
    #[error("a pre-shared key of {0} bytes, fewer than {SHORTEST}; {REMEDY}")]
    Short(usize),
    /// It has so many different bytes.
    #[error("a pre-shared key with only {}; {REMEDY}", plural(*.0, "different character"))]
    Monotonous(usize),
    /// It stands in documents, or is a placeholder.
    #[error("a well-known default pre-shared key; {REMEDY}")]
    WellKnown,
}

/// The pre-shared key in a file or store: the content without a trailing newline.
///
/// # Errors
/// As for [`check`].
pub fn parse(content: &[u8]) -> Result<Secret, BadPsk> {
    let line = content.strip_suffix(b"\n").unwrap_or(content);
    let key = line.strip_suffix(b"\r").unwrap_or(line);
    check(key).map(|()| Secret::new(key))
}

/// Invisible characters that an editor or a paste leaves at the ends of a pre-shared key. They are refused and not cut off: a
/// program at the other end may use them, or have the key without them, and neither end would see a mistake.
fn invisible(key: &[u8]) -> Option<&'static str> {
    if key.starts_with(b"\xef\xbb\xbf") {
        return Some("after a byte order mark (BOM); save it without one, as plain text");
    }
    if (key.starts_with(b"\xff\xfe") || key.starts_with(b"\xfe\xff")) && key.contains(&0) {
        return Some("in UTF-16; save it as plain text, in ASCII or UTF-8");
    }
    let text = String::from_utf8_lossy(key);
    let blank = |c: char| c.is_whitespace() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}');
    match (text.starts_with(blank), text.ends_with(blank)) {
        _ if text.chars().all(blank) => None,
        (true, _) => Some("with blank space before it; remove that, also at the other end"),
        (_, true) => Some("with blank space after it; remove that, also at the other end"),
        _ => None,
    }
}

/// Checks a pre-shared key.
pub fn check(key: &[u8]) -> Result<(), BadPsk> {
    if let Some(problem) = invisible(key) {
        return Err(BadPsk::Ambiguous(problem));
    }
    let plain: String =
        String::from_utf8_lossy(key).chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    let different = key.iter().collect::<BTreeSet<_>>().len();
    if key.trim_ascii().is_empty() {
        Err(BadPsk::Empty)
    } else if key.iter().any(u8::is_ascii_control) {
        Err(BadPsk::Unprintable)
    } else if key.len() < SHORTEST {
        Err(BadPsk::Short(key.len()))
    } else if different < 4 {
        Err(BadPsk::Monotonous(different))
    } else if PUBLISHED.iter().any(|known| plain.contains(known)) || USUAL.iter().any(|known| plain.starts_with(known))
    {
        Err(BadPsk::WellKnown)
    } else {
        Ok(())
    }
}
