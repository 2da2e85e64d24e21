//! What lists settings elsewhere says what their table says: the reference, the man page's section, Packer's variables, and
//! the fuzzer's dictionary. `BLESS=1 cargo test -p crosswan-core --test pure reference` writes them.

use std::{env, fs, path::Path};

use crosswan_core::{
    model::Mode,
    settings::{IfUnset, SETTINGS, Setting},
};
use roff::{Inline, Roff, bold, roman};

#[test]
fn the_reference_of_settings_is_what_the_table_says() {
    let mut table =
        "| setting, environment | what it does | accepts | default | modes |\n|---|---|---|---|---|\n".to_owned();
    for s in SETTINGS {
        let Setting { name, env, help, .. } = s;
        let accepts = s.accepts.replace('\\', "\\\\").replace('*', "\\*");
        table += &format!("| `{name}`<br>`{env}` | {help} | {accepts} | {} | {} |\n", default_of(s), modes_of(s));
    }
    keep_equal("docs/settings.md", |old| between(old, "<!-- settings: generated -->\n", &table, "<!-- /settings -->"));
}

#[test]
fn the_man_page_has_a_section_of_settings() {
    let mut page = Roff::new();
    page.control("SH", ["SETTINGS"]).text([roman(
        "crosswan reads settings from /etc/crosswan/crosswan.toml, then from /etc/crosswan/conf.d/*.toml, from environment \
         variables, and from the flags above. A later source overrides an earlier one.",
    )]);
    for s in SETTINGS {
        page.control("TP", []).text([bold(s.name), roman(", "), bold(s.env)]);
        let facts = format!(" Accepted: {}. Default: {}. Modes: {}.", s.accepts, default_of(s), modes_of(s));
        page.text(marked(&format!("{}{facts}", s.help)));
    }
    keep_equal("agent/settings.roff", |_| page.to_roff());
}

/// Of Packer's variables only what a setting is called, does and defaults to is made from the table; type and checks are HCL.
#[test]
fn packer_describes_settings_as_the_table_does() {
    let mut variables = Vec::new();
    keep_equal("packer/variables.pkr.hcl", |old| {
        let mut blocks: Vec<String> = old.split("\nvariable ").map(Into::into).collect();
        for block in &mut blocks {
            let name = block.split('"').nth(1).unwrap_or_default().to_owned();
            let Some(setting) = of_variable(&name) else { continue };
            let own = line_of(block, "  default ").and_then(|line| Some(line.split_once("= ")?.1));
            let own = own.filter(|value| *value != "null").map(|value| format!("`{value}`"));
            let text = match own {
                Some(_) => summary(setting),
                None => format!("{} Default: {}.", summary(setting), default_of(setting)),
            };
            let text = serde_json::to_string(&text.replace('`', "")).unwrap();
            let default = own.unwrap_or_else(|| default_of(setting));
            let old = line_of(block, "  description ").expect("each variable has a description").to_owned();
            *block = block.replace(&old, &format!("  description = {text}"));
            variables.push((name, setting, default));
        }
        blocks.join("\nvariable ")
    });
    assert!(variables.len() > 5, "Packer sets {} settings only", variables.len());
    keep_equal("packer/README.md", |old| {
        let row = |line: &str| {
            let (name, setting, default) = variables.iter().find(|(n, ..)| line.starts_with(&format!("| `{n}` |")))?;
            Some(format!("| `{name}` | {} | {default} |", summary(setting)))
        };
        old.lines().map(|line| row(line).unwrap_or_else(|| line.into()) + "\n").collect()
    });
}

#[test]
fn the_dictionary_of_the_fuzzer_has_every_setting() {
    let mut words = String::new();
    for s in SETTINGS {
        if let Some((section, _)) = s.name.split_once('.')
            && !words.contains(&format!("\"[{section}]\""))
        {
            words += &format!("\"[{section}]\"\n");
        }
        words += &format!("\"{}\"\n\"{}=\"\n", leaf(s.name), s.env);
    }
    keep_equal("tests/fuzz/dictionary/settings", |old| {
        between(old, "# settings: generated\n", &words, "# /settings\n")
    });
}

/// Compares a file of the repository with what `make` makes of its text, or with `BLESS` in the environment writes that.
fn keep_equal(file: &str, make: impl FnOnce(&str) -> String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
    let old = fs::read_to_string(&path).unwrap_or_default();
    let new = make(&old);
    if env::var_os("BLESS").is_some() {
        return fs::write(&path, new).unwrap();
    }
    let differ = old.lines().zip(new.lines()).find(|(old, new)| old != new);
    let (has, wants) = differ.unwrap_or(("another number of lines", "all lines before them"));
    assert!(
        old == new,
        "{file} is not what agent/core/src/settings/table.rs says. To write it:\n  BLESS=1 cargo test -p crosswan-core --test pure \
         reference\nThe first difference:\n- {has}\n+ {wants}",
    );
}

/// `old` with `new` in place of what stands between two marks.
fn between(old: &str, begin: &str, new: &str, end: &str) -> String {
    let parts = old.split_once(begin).and_then(|(head, rest)| Some((head, rest.split_once(end)?.1)));
    let (head, tail) = parts.unwrap_or_else(|| panic!("{begin:?} and {end:?} are not both in the file"));
    [head, begin, new, end, tail].concat()
}

fn line_of<'a>(text: &'a str, start: &str) -> Option<&'a str> {
    text.lines().find(|line| line.starts_with(start))
}

fn leaf(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// The setting that a variable of Packer sets: `auth.method` is `auth_method`, `auth.max_key_age` is `max_key_age`.
fn of_variable(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|s| s.name.replace('.', "_") == name || leaf(s.name) == name)
}

fn summary(s: &Setting) -> String {
    format!("{} Modes: {}.", s.help, modes_of(s))
}

fn default_of(s: &Setting) -> String {
    match s.default {
        IfUnset::Value(toml) => format!("`{toml}`"),
        IfUnset::Words(words) => words.into(),
    }
}

fn modes_of(s: &Setting) -> String {
    let modes: Vec<&str> = s.modes.iter().map(|mode| mode.as_str()).collect();
    if s.modes == Mode::ALL { "all".into() } else { modes.join(", ") }
}

/// What stands between backticks, bold.
fn marked(text: &str) -> Vec<Inline> {
    text.split('`').enumerate().map(|(i, part)| if i % 2 == 1 { bold(part) } else { roman(part) }).collect()
}
