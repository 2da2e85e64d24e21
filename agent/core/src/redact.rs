//! redact: leaves secrets out of text that is given to somebody else. Pure.
//!
//! It knows the secrets of this gateway by their values, in the forms in which programs print them, and others by their looks: a private
//! key in PEM, the value of a setting that is named like a secret, the kernel's keys in hexadecimal, and the dumps of charon's most
//! talkative log levels.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// What stands in place of a secret.
pub const LEFT_OUT: &str = "[left out]";
/// Shorter values would be found in any text.
const SHORTEST: usize = 6;
/// The kernel's marks and ids have at most eight digits, the shortest key for ESP forty.
const LONGEST_NUMBER: usize = 16;
/// Ends of the names of settings whose values are secret, in any case.
const SECRET_NAMES: [&str; 8] =
    ["secret", "psk", "password", "passwd", "token", "secret_access_key", "external_id", "tcp_fastopen_key"];

/// Knows the secrets to leave out.
#[derive(Default)]
pub struct Redactor {
    /// Longest first, so that a part never takes the whole one's place.
    forms: Vec<String>,
}

impl Redactor {
    /// One that knows these secrets by their bytes.
    pub fn new(secrets: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut forms: Vec<String> =
            secrets.into_iter().filter(|secret| secret.len() >= SHORTEST).flat_map(forms).collect();
        forms.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        forms.dedup();
        Redactor { forms }
    }

    /// The text without secrets.
    pub fn redact(&self, text: &str) -> String {
        let mut known = text.to_owned();
        for form in self.forms.iter().filter(|form| text.contains(form.as_str())) {
            known = known.replace(form.as_str(), LEFT_OUT);
        }
        let mut out = String::with_capacity(known.len());
        let mut in_key = false;
        for line in known.split_inclusive('\n') {
            let end = if line.ends_with('\n') { "\n" } else { "" };
            let begins = line.contains("-----BEGIN ") && line.contains("PRIVATE KEY-----");
            if begins {
                out += "[a private key is left out]";
                out += end;
            }
            in_key |= begins;
            if !in_key {
                out += &of_line(line.trim_end_matches('\n'));
                out += end;
            }
            in_key &= !line.contains("-----END ");
        }
        out
    }
}

/// A secret in the forms in which programs print it.
fn forms(secret: Vec<u8>) -> Vec<String> {
    let hex = secret.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    let base64 = STANDARD.encode(&secret).trim_end_matches('=').to_owned();
    let text = String::from_utf8(secret).ok();
    [Some(hex.to_uppercase()), Some(hex), Some(base64), text].into_iter().flatten().collect()
}

/// A line without what looks like a secret.
fn of_line(line: &str) -> String {
    let line = value(line).unwrap_or_else(|| line.to_owned());
    let line = dump(&line).unwrap_or(line);
    numbers(&line)
}

/// `NAME = value`, `"NAME": "value"` or `NAME=value`, if the name is that of a secret.
fn value(line: &str) -> Option<String> {
    let at = line.find(['=', ':'])?;
    let name = line[..at].trim_end_matches([' ', '"', '\'', '\t']).to_ascii_lowercase();
    let name = name.rsplit([' ', '"', '\'', '\t', '{']).next()?;
    let secret = SECRET_NAMES.iter().any(|ends| name.ends_with(ends));
    (secret && !line[at + 1..].trim().is_empty()).then(|| format!("{} {LEFT_OUT}", &line[..=at]))
}

/// A line of a dump: `16: 0A FF ...`, as charon logs bytes.
fn dump(line: &str) -> Option<String> {
    let byte = |word: &str| word.len() == 2 && word.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b));
    let mut words = line.split(' ').filter(|word| !word.is_empty()).peekable();
    let mut before = 0;
    while let Some(word) = words.next() {
        before = line[before..].find(word)? + before + word.len();
        let offset = word.strip_suffix(':').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        if offset && words.peek().is_some_and(|next| byte(next)) {
            return Some(format!("{} {LEFT_OUT}", &line[..before]));
        }
    }
    None
}

/// Long numbers in hexadecimal, such as the kernel's keys.
fn numbers(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find("0x") {
        let digits = rest[at + 2..].bytes().take_while(u8::is_ascii_hexdigit).count();
        let end = at + 2 + digits;
        out += &rest[..at];
        out += if digits > LONGEST_NUMBER { LEFT_OUT } else { &rest[at..end] };
        rest = &rest[end..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_secret_is_left_out_in_every_form() {
        let secret = b"correct horse battery".to_vec();
        let all = forms(secret.clone());
        assert!(all.len() == 4 && all.iter().all(|form| form.len() > SHORTEST));
        let redactor = Redactor::new([secret, b"short".to_vec(), b"correct horse".to_vec()]);
        for form in all {
            assert_eq!(redactor.redact(&format!("a {form} b")), format!("a {LEFT_OUT} b"));
        }
        assert_eq!(redactor.redact("short\n"), "short\n", "any text may have such a word");
    }

    #[test]
    fn what_looks_like_a_secret_is_left_out_and_nothing_else() {
        let redactor = Redactor::default();
        for (line, after) in [
            ("external_id = \"abc\"", "external_id = [left out]"),
            ("        secret = 0x0a0b", "        secret = [left out]"),
            ("VPN_PSK='abc'", "VPN_PSK= [left out]"),
            ("  \"psk\": \"abc\",", "  \"psk\": [left out]"),
            ("export AWS_SECRET_ACCESS_KEY=abc", "export AWS_SECRET_ACCESS_KEY= [left out]"),
            ("net.ipv4.tcp_fastopen_key = 1-2", "net.ipv4.tcp_fastopen_key = [left out]"),
            ("  enc cbc(aes) 0x0123456789abcdef0123456789abcdef x", "  enc cbc(aes) [left out] x"),
            ("09[ENC]   16: 0A FF 12   ...", "09[ENC]   16: [left out]"),
            ("psk_file = \"/etc/crosswan/psk\"", "psk_file = \"/etc/crosswan/psk\""),
            ("secrets {", "secrets {"),
            ("220:\tfrom all lookup 220", "220:\tfrom all lookup 220"),
            ("2: lo: <LOOPBACK>", "2: lo: <LOOPBACK>"),
            ("mark 0x17/0xffffffff reqid 0x00000001", "mark 0x17/0xffffffff reqid 0x00000001"),
            ("if_id 0x00c0", "if_id 0x00c0"),
            ("key SHA256:abc=", "key SHA256:abc="),
        ] {
            assert_eq!(redactor.redact(line), after);
            assert_eq!(redactor.redact(&format!("{line}\nx\n")), format!("{after}\nx\n"));
        }
    }

    #[test]
    fn a_private_key_is_left_out_whole_even_if_it_does_not_end() {
        let redactor = Redactor::default();
        let key = "-----BEGIN EC PRIVATE KEY-----\nabc\n-----END EC PRIVATE KEY-----\n";
        assert_eq!(redactor.redact(&format!("a\n{key}b\n")), "a\n[a private key is left out]\nb\n");
        assert_eq!(redactor.redact("a\n-----BEGIN PRIVATE KEY-----\nabc"), "a\n[a private key is left out]\n");
        let public = "-----BEGIN PUBLIC KEY-----\nabc\n-----END PUBLIC KEY-----\n";
        assert_eq!(redactor.redact(public), public);
    }
}
