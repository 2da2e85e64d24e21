//! The tables of keys in docs/cloudcaster.md.

use std::fmt::Write;

use super::{DOCUMENT, Need, Object};

/// A heading and a table for each object of the document, in Markdown.
pub fn tables() -> String {
    let mut out = String::new();
    table("", &DOCUMENT, &mut out);
    out
}

fn table(path: &str, object: &Object, out: &mut String) {
    let heading = if path.is_empty() { "The document".to_owned() } else { format!("`{path}`") };
    let _ = writeln!(
        out,
        "### {heading}\n\n{}\n\n| key | value | needed | meaning | becomes |\n|---|---|---|---|---|",
        object.help
    );
    for key in object.keys {
        let need = match key.need {
            Need::Required => "yes",
            Need::Optional => "",
            Need::New => "new",
            Need::Ignored => "ignored",
        };
        let _ = writeln!(out, "| `{}` | {} | {need} | {} | {} |", key.name, key.kind.label(), key.help, key.maps);
    }
    out.push('\n');
    for key in object.keys {
        if let Some(below) = key.kind.object() {
            let list = if matches!(key.kind, super::Kind::List(_)) { "[]" } else { "" };
            let dot = if path.is_empty() { "" } else { "." };
            table(&format!("{path}{dot}{}{list}", key.name), below, out);
        }
    }
}
