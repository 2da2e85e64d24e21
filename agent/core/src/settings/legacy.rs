//! The 2014 tool's `/etc/default/{vpn-hub,nat-hub,nat-vpn}`: assignments in shell syntax, parsed without a shell.

use std::{collections::BTreeMap, iter::Peekable, path::Path, str::Chars};

use super::{
    item::Item,
    names::{show_name, suggest},
    parse::Raw,
    sources::{LegacyFile, below, show},
    values::InlinePsk,
};
use crate::{
    error::{Error, Result},
    model::{Mode, Secret},
};

/// The 2014 names and the settings that they became. Only vpn-hub read `VPN_SERVICE`, the value of the gateways' tag `service`.
const NAMES: [(&str, &str); 5] = [
    ("VPN_NET", "private_net"),
    ("VPN_PSK", ""),
    ("VPN_HUB", "hub"),
    ("VPN_SERVICE", "gateway_tag"),
    ("VPN_REGIONS", "regions"),
];

/// The content of a 2014 file; empty if there is none.
#[derive(Debug, Default)]
pub(super) struct Legacy {
    pub items: Vec<Item>,
    pub psk: Option<InlinePsk>,
    pub warnings: Vec<String>,
}

/// Reads the file of `mode`; without a mode, the only file that there is, which then sets the mode.
pub(super) fn load(
    root: &Path,
    mode: Option<Mode>,
    mut file: impl FnMut(Mode) -> Result<Option<LegacyFile>>,
) -> Result<Legacy> {
    let mut found = Vec::new();
    for candidate in Mode::ALL.into_iter().filter(|m| mode.is_none_or(|mode| mode == *m)) {
        found.extend(file(candidate)?.map(|file| (candidate, file)));
    }
    if let [(_, a), (_, b), ..] = &found[..] {
        let both = format!("{} and {}", show(&a.path), show(&b.path));
        return Err(Error::settings(format!(
            "{both}: mode: expected one such file, found two and no mode to choose by; set CROSSWAN_MODE"
        )));
    }
    let Some((file_mode, LegacyFile { path, text, open })) = found.pop() else { return Ok(Legacy::default()) };
    let mut legacy = parse(&show(&path), &text)?;
    if mode.is_none() {
        let raw = Raw::Word(file_mode.to_string());
        legacy.items.push(Item { name: "mode".into(), raw, origin: show(&path), alias: None });
    }
    // The 2014 tool left the file readable to all. An error here would keep its users from moving.
    if let Some(psk) = legacy.psk.as_ref().filter(|_| open) {
        legacy.warnings.push(format!(
            "{}: other users can read this pre-shared key: move it to {} and chmod 600 that file",
            psk.from,
            show(&below(root, "/etc/crosswan/psk"))
        ));
    }
    Ok(legacy)
}

/// The known names count, and a mistake in one of them is an error. Any other line is a warning: shell scripts and packages have
/// used these files for ten years, and a gateway without NAT is worse than a line that nobody reads.
fn parse(path: &str, text: &str) -> Result<Legacy> {
    let mut legacy = Legacy::default();
    for (number, line) in text.lines().enumerate() {
        let origin = format!("{path}:{}", number + 1);
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, rest) = split(line);
        let Some((alias, key)) = NAMES.iter().find(|(old, _)| *old == name) else {
            legacy.warnings.push(match rest.strip_prefix('=') {
                Some(_) if !name.is_empty() => {
                    let known = suggest(name, "VPN_", NAMES.iter().map(|(old, _)| *old));
                    format!("{origin}: {}: unknown name, the line is ignored; {known}", show_name(name))
                }
                _ => format!("{origin}: not NAME=value, the line is ignored; no shell runs this file"),
            });
            continue;
        };
        let value = value(rest).map_err(|e| Error::settings(format!("{origin}: {name}: {e}")))?;
        let raw = match *alias {
            "VPN_PSK" => {
                legacy.psk = Some(InlinePsk { secret: Secret::new(value), from: format!("{origin}: VPN_PSK") });
                continue;
            }
            "VPN_SERVICE" => {
                let tag = [("key", "service".into()), ("value", value)];
                Raw::Table(BTreeMap::from(tag.map(|(k, v)| (k.to_owned(), Raw::Text(v)))))
            }
            _ => Raw::Word(value),
        };
        legacy.items.push(Item { name: (*key).into(), raw, origin, alias: Some(alias) });
    }
    Ok(legacy)
}

/// Splits off the name of `[export] NAME…`, which is empty if the line begins with none.
fn split(line: &str) -> (&str, &str) {
    let line = line.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t'])).map_or(line, str::trim_start);
    let end = line.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(line.len());
    line.split_at(end)
}

/// Parses `=word [# comment]`. No error shows the value, as it may be a pre-shared key.
fn value(rest: &str) -> std::result::Result<String, String> {
    let Some(rest) = rest.strip_prefix('=') else {
        return Err("expected NAME=value without spaces around =, found something else".into());
    };
    let mut rest = rest.chars().peekable();
    let value = shell_word(&mut rest)?;
    let after: String = rest.collect();
    let after = after.trim_start();
    if !after.is_empty() && !after.starts_with('#') {
        return Err("expected one value, found more after it; quote a value with spaces".into());
    }
    Ok(value)
}

/// One word up to unquoted white space, without its quotes.
fn shell_word(rest: &mut Peekable<Chars>) -> std::result::Result<String, String> {
    let refuse = |c: char| Err(format!("expected plain text, found {c} outside single quotes; the shell is not run"));
    let mut word = String::new();
    while let Some(c) = rest.next_if(|c| !c.is_whitespace()) {
        match c {
            '\'' | '"' => loop {
                match rest.next() {
                    None => return Err(format!("expected a closing {c}, found the end of the line")),
                    Some(end) if end == c => break,
                    Some(special @ ('$' | '`' | '\\')) if c == '"' => return refuse(special),
                    Some(other) => word.push(other),
                }
            },
            '$' | '`' | '\\' | ';' | '&' | '|' | '<' | '>' | '(' | ')' | '~' => return refuse(c),
            other => word.push(other),
        }
    }
    Ok(word)
}
