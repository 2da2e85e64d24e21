//! The text of a pre-shared key: what is refused because anybody could guess it, or because two ends would read it differently.

use crate::model::Secret;

const SHORTEST: usize = 16;
/// How to make a good one, for messages.
pub const REMEDY: &str = "make one with: openssl rand -base64 32";

/// Keys out of published documents, compared by their letters and digits only: a key that holds one is no secret.
const PUBLISHED: [&str; 3] = ["ifionlyhadasecrettoshare", "thisisaterribleplacetokeepasecret", "stupidunsafedefault"];

/// What a key of somebody who meant to choose one later begins with, in the same form. At least six characters
/// each: a random base64 key starts with a given six in one of 10^9 cases.
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

/// The key that somebody stored: the content without a trailing newline, or what is wrong with it.
pub fn parse(content: &[u8]) -> std::result::Result<Secret, String> {
    let line = content.strip_suffix(b"\n").unwrap_or(content);
    let key = line.strip_suffix(b"\r").unwrap_or(line);
    check(key).map(|()| Secret::new(key))
}

/// What an editor or a paste leaves at the ends of a key, where nobody sees it. It is refused and not cut off: the other
/// end may run a program that counts it, or hold the key without it, and both would call their key valid.
fn invisible(key: &[u8]) -> Option<&'static str> {
    if key.starts_with(b"\xef\xbb\xbf") {
        return Some("a key after a byte order mark (BOM); save it without one, as plain text");
    }
    if (key.starts_with(b"\xff\xfe") || key.starts_with(b"\xfe\xff")) && key.contains(&0) {
        return Some("a key in UTF-16; save it as plain text, in ASCII or UTF-8");
    }
    let text = String::from_utf8_lossy(key);
    let blank = |c: char| c.is_whitespace() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}');
    match (text.starts_with(blank), text.ends_with(blank)) {
        _ if text.chars().all(blank) => None,
        (true, _) => Some("a key with blank space before it; remove that, also at the other end"),
        (_, true) => Some("a key with blank space after it; remove that, also at the other end"),
        _ => None,
    }
}

/// What is wrong with a key, without a word of it.
pub fn check(key: &[u8]) -> std::result::Result<(), String> {
    if let Some(problem) = invisible(key) {
        return Err(problem.into());
    }
    let plain: String =
        String::from_utf8_lossy(key).chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    let mut kinds = key.to_vec();
    kinds.sort_unstable();
    kinds.dedup();
    let problem = if key.trim_ascii().is_empty() {
        "an empty key".into()
    } else if key.iter().any(u8::is_ascii_control) {
        "a key with control characters or more than one line".into()
    } else if key.len() < SHORTEST {
        format!("a key of {} bytes, fewer than {SHORTEST}", key.len())
    } else if kinds.len() < 4 {
        format!("a key of only {} different characters", kinds.len())
    } else if PUBLISHED.iter().any(|known| plain.contains(known)) || USUAL.iter().any(|known| plain.starts_with(known))
    {
        "a well-known default key".into()
    } else {
        return Ok(());
    };
    Err(format!("{problem}; {REMEDY}"))
}
