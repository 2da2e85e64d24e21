//! Every command that a document shows is one that the programs take.

use std::{collections::BTreeSet, fs};

use clap::{CommandFactory, error::ErrorKind};
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use crate::{Document, documents, files, none_wrong, root};

/// The commands in a document's code, each as its words: code spans, and lines of blocks, without prompts.
fn shown(text: &str) -> Vec<Vec<String>> {
    let (mut commands, mut block) = (Vec::new(), false);
    for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::CodeBlock(_)) => block = true,
            Event::End(TagEnd::CodeBlock) => block = false,
            Event::Code(code) => commands.extend(words_of(&code)),
            Event::Text(code) if block => commands.extend(code.lines().flat_map(words_of)),
            _ => {}
        }
    }
    commands
}

/// The commands of a line, split at the shell's operators. What follows ` # ` is a comment.
fn words_of(line: &str) -> Vec<Vec<String>> {
    let line = line.trim().trim_start_matches(['$', '#']).trim_start();
    let line = line.split(" # ").next().unwrap_or_default();
    let commands = line.split(['|', '&', ';', '>', '<']).map(|command| {
        let words = command.split_whitespace().map(|word| word.trim_matches(['[', ']', '\'', '"']).to_owned());
        // VARIABLE=value before the program, and programs that run another one.
        let before = |word: &String| word.contains('=') || ["sudo", "nice", "cd"].contains(&word.as_str());
        words.skip_while(before).collect::<Vec<_>>()
    });
    commands.filter(|words| words.len() > 1).collect()
}

/// Why the program does not take these words.
fn refused<T: clap::Parser>(words: &[String]) -> Option<String> {
    match T::try_parse_from(words) {
        Ok(_) => None,
        Err(error) if [ErrorKind::DisplayHelp, ErrorKind::DisplayVersion].contains(&error.kind()) => None,
        // A document may speak of a command without what it needs.
        Err(error) if error.kind() == ErrorKind::MissingRequiredArgument => None,
        Err(error) => Some(error.to_string().lines().next().unwrap_or_default().to_owned()),
    }
}

#[test]
fn every_command_of_crosswan_and_cloudcaster_in_a_document_is_one_that_the_program_takes() {
    let (mut seen, mut wrong) = (BTreeSet::new(), Vec::new());
    for document in documents() {
        for words in shown(&document.text) {
            let why = match words[0].as_str() {
                "crosswan" => refused::<crosswan::cli::Cli>(&words),
                "cloudcaster" => refused::<cloudcaster::cli::Cli>(&words),
                _ => continue,
            };
            seen.extend(why.is_none().then(|| format!("{} {}", words[0], words[1])));
            wrong.extend(why.map(|why| format!("{}: {}: {why}", document.path.display(), words.join(" "))));
        }
    }
    none_wrong(&wrong);
    for command in crosswan::cli::Cli::command().get_subcommands() {
        let command = format!("crosswan {}", command.get_name());
        assert!(seen.contains(&command), "no document shows `{command}`");
    }
}

/// The word that follows an option.
fn after<'a>(words: &[&'a str], option: &str) -> Option<&'a str> {
    words.iter().skip_while(|word| **word != option).nth(1).copied()
}

/// What of a call of `cargo test` does not exist: the package, or the test crate in it.
fn unknown_test(words: &[&str], manifests: &[Document]) -> Option<String> {
    let package = after(words, "-p").unwrap_or("crosswan");
    let manifest = manifests.iter().find(|manifest| manifest.text.contains(&format!("name = \"{package}\"\n")));
    let Some(manifest) = manifest else { return Some(format!("package {package}")) };
    let test = after(words, "--test").filter(|test| *test != "NAME")?;
    let declared = manifest.text.contains(&format!("[[test]]\nname = \"{test}\""));
    let found = manifest.path.with_file_name("tests").join(format!("{test}.rs"));
    (!declared && !root().join(found).exists()).then(|| format!("test {test} in {package}"))
}

#[test]
fn every_make_target_and_every_test_crate_in_a_document_exists() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let manifests = files(&["Cargo.toml"]);
    let target = |name: &str| makefile.lines().any(|line| line.starts_with(&format!("{name}:")));
    let mut wrong = Vec::new();
    for document in documents() {
        for words in shown(&document.text) {
            let unknown = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
                ["make", rest @ ..] => {
                    rest.iter().find(|word| !word.contains('=') && !target(word)).map(|word| (*word).to_owned())
                }
                ["cargo", "test", rest @ ..] => unknown_test(rest, &manifests),
                _ => None,
            };
            wrong.extend(unknown.map(|what| format!("{}: {}: no {what}", document.path.display(), words.join(" "))));
        }
    }
    none_wrong(&wrong);
}

/// The codes at the beginnings of lines, as the help has them: `  3  something could not be asked`.
fn codes_of(help: &str) -> BTreeSet<u8> {
    let codes = help.split("Exit codes").nth(1).expect("the help has no exit codes");
    let codes = codes.lines().take_while(|line| !line.starts_with("Files"));
    codes.filter_map(|line| line.strip_prefix("  ")?.split(' ').next()?.parse().ok()).collect()
}

#[test]
fn the_tables_of_exit_codes_have_exactly_the_codes_of_the_help() {
    let command = crosswan::cli::Cli::command();
    let status = command.find_subcommand("status").unwrap();
    let text = fs::read_to_string(root().join("docs/operating.md")).unwrap();
    let section = |from: &str, to: &str| {
        let section = text.split(from).nth(1).and_then(|rest| rest.split(to).next());
        let rows = section.unwrap_or_else(|| panic!("docs/operating.md has no {from}")).lines();
        rows.filter_map(|row| row.strip_prefix("| ")?.split(' ').next()?.parse().ok()).collect::<BTreeSet<u8>>()
    };
    let help = |command: &clap::Command| codes_of(&command.get_after_help().unwrap().to_string());
    assert_eq!(section("\n## Exit codes\n", "\n### "), help(&command));
    assert_eq!(section("\n### Of `crosswan status`\n", "\n### "), help(status));
    let doctor = command.find_subcommand("doctor").unwrap();
    assert_eq!(section("\n### Of `crosswan doctor`\n", "\n## "), help(doctor));
}

#[test]
fn the_table_of_doctors_checks_has_exactly_the_checks_in_their_order() {
    let text = fs::read_to_string(root().join("docs/operating.md")).unwrap();
    let section = text.split("\n## crosswan doctor\n").nth(1).and_then(|rest| rest.split("\n## ").next());
    let rows = section.expect("docs/operating.md has no section about doctor").lines();
    let table: Vec<&str> = rows.filter_map(|row| row.strip_prefix("| `")?.split('`').next()).collect();
    let checks: Vec<&str> = crosswan_core::doctor::CHECKS.iter().map(|check| check.id).collect();
    assert_eq!(table, checks);
}

#[test]
fn a_wrong_command_in_a_document_is_found() {
    let text = "Say `crosswan refresh --dryrun`, or\n\n```sh\n# crosswan refesh && make demo\ncrosswan status --json # all\n```\n";
    let shown = shown(text);
    let words: Vec<String> = shown.iter().map(|words| words.join(" ")).collect();
    assert_eq!(words, ["crosswan refresh --dryrun", "crosswan refesh", "make demo", "crosswan status --json"]);
    let refused: Vec<bool> = shown.iter().map(|words| refused::<crosswan::cli::Cli>(words).is_some()).collect();
    assert_eq!((refused[0], refused[1], refused[3]), (true, true, false));
}
