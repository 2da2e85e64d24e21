//! Files into documents: text, tree, shape, types, rules. What one step refuses, the next does not look at.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{Document, Secret, UserData, across, check};
use crate::{
    files,
    problem::{Level, Problem, Source},
    schema::shape,
    text,
    tree::{KeyPath, Place, place, scan},
};

/// A document is kilobytes; more is another file, given by mistake.
const LARGEST: u64 = 4 << 20;
/// What EC2 takes of user data, before base64.
const LARGEST_USER_DATA: usize = 16 << 10;

#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Unknown keys are warnings.
    pub allow_unknown: bool,
}

/// Documents that were read, in the order of the files. `documents` has those without an error.
pub struct Loaded {
    pub documents: Vec<Ready>,
    pub problems: Vec<Problem>,
    /// A document was so wrong that the rules between its keys, and between it and the others, were not looked at.
    pub unread: bool,
}

/// A document without an error, with its text for later problems, and each app's user data.
pub struct Ready {
    pub source: Source,
    pub document: Document,
    pub data: BTreeMap<String, UserData>,
}

impl Loaded {
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|p| p.level == Level::Error)
    }
}

/// Reads and checks all files, and checks them against each other. Every problem of every file is in the result.
pub fn load(files: &[PathBuf], options: Options) -> Loaded {
    let mut read: Vec<Result<Read, Box<Problem>>> = files.iter().map(|file| one(file, options)).collect();
    let mut whole: Vec<(&mut Source, &Document)> = read
        .iter_mut()
        .flatten()
        .filter_map(|Read { source, document, .. }| Some((source, document.as_ref()?)))
        .collect();
    across(&mut whole);
    let mut loaded = Loaded { documents: Vec::new(), problems: Vec::new(), unread: false };
    for read in read {
        match read {
            Err(problem) => loaded.problems.push(*problem),
            Ok(Read { source, document, data }) => {
                loaded.problems.extend(source.problems());
                loaded.unread |= document.is_none();
                if let Some(document) = document.filter(|_| !source.has_errors()) {
                    loaded.documents.push(Ready { source, document, data });
                }
            }
        }
    }
    loaded
}

/// One file, as far as it could be read.
struct Read {
    source: Source,
    document: Option<Document>,
    data: BTreeMap<String, UserData>,
}

fn one(file: &Path, options: Options) -> Result<Read, Box<Problem>> {
    let mut source = source(file)?;
    let document = document(&mut source, options);
    let folder = file.parent().unwrap_or(Path::new(""));
    let data = document.as_ref().map(|document| user_data(&mut source, document, folder)).unwrap_or_default();
    Ok(Read { source, document, data })
}

/// A text that is not from a file, for tests and the fuzzer. User data files are not looked for.
pub fn parse(name: &str, text: String, options: Options) -> (Option<Document>, Vec<Problem>) {
    match tree(name.to_owned(), text) {
        Err(problem) => (None, vec![*problem]),
        Ok(mut source) => {
            let document = document(&mut source, options);
            (document.filter(|_| !source.has_errors()), source.problems())
        }
    }
}

fn source(path: &Path) -> Result<Source, Box<Problem>> {
    let name = path.display().to_string();
    let bytes = files::read(path, LARGEST)
        .map_err(|e| broken(name.clone(), Place { line: 1, column: 1 }, format!("cannot be read: {e}")))?;
    match String::from_utf8(bytes) {
        Ok(text) => tree(name, text),
        Err(e) => {
            let good = e.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(&e.as_bytes()[..good]).into_owned();
            Err(broken(name, place(&text, good), "not UTF-8 from here on".into()))
        }
    }
}

fn tree(name: String, text: String) -> Result<Source, Box<Problem>> {
    match scan(&text) {
        Ok(root) => Ok(Source::new(name, text, root)),
        Err(e) => Err(broken(name, place(&text, e.at), format!("not JSON: {}", e.what))),
    }
}

fn broken(file: String, Place { line, column }: Place, what: String) -> Box<Problem> {
    Box::new(Problem { file, line, column, level: Level::Error, path: String::new(), what })
}

/// The typed document, or `None` if the shape was wrong. Rules that fail leave errors behind.
fn document(source: &mut Source, options: Options) -> Option<Document> {
    if !shape(source, options.allow_unknown) {
        return None;
    }
    let mut json = source.root.json();
    known_only(&mut json, &crate::schema::DOCUMENT);
    match serde_json::from_value::<Document>(json) {
        Ok(document) => {
            check(source, &document);
            Some(document)
        }
        // Not with a document that passed the shape check: `the_types_take_what_the_table_allows` holds the two together.
        Err(_) => {
            source.error(
                &KeyPath::default(),
                "the table of keys and the types disagree about this document: please report it",
            );
            None
        }
    }
}

/// Drops keys that the table does not know, so that the types can go on refusing them.
fn known_only(json: &mut serde_json::Value, object: &crate::schema::Object) {
    match json {
        serde_json::Value::Array(items) => items.iter_mut().for_each(|item| known_only(item, object)),
        serde_json::Value::Object(members) => {
            members.retain(|name, _| object.keys.iter().any(|k| k.name == name));
            for key in object.keys {
                if let (Some(below), Some(value)) = (key.kind.object(), members.get_mut(key.name)) {
                    known_only(value, below);
                }
            }
        }
        _ => {}
    }
}

/// User data by app. Files are read here, so that everything after is pure.
fn user_data(source: &mut Source, document: &Document, folder: &Path) -> BTreeMap<String, UserData> {
    let mut out = BTreeMap::new();
    for (i, app) in document.apps.iter().enumerate() {
        let path = KeyPath::of("apps").index(i);
        let (path, data) = match (&app.userdata, &app.userdata_file) {
            (Some(_), Some(_)) => {
                source.error(&path.key("userdata_file"), "userdata is there too; keep one of the two");
                continue;
            }
            (Some(text), None) => (path.key("userdata"), UserData::of(text)),
            (None, Some(file)) => {
                let path = path.key("userdata_file");
                let read = files::read(&folder.join(file), LARGEST_USER_DATA as u64);
                match read.map(String::from_utf8) {
                    Err(e) => {
                        source.error(&path, format!("{} cannot be read: {e}", text::quoted(file)));
                        continue;
                    }
                    Ok(Err(_)) => {
                        source.error(&path, format!("{} is not UTF-8", text::quoted(file)));
                        continue;
                    }
                    Ok(Ok(contents)) => (path, UserData::Text(Secret::new(contents))),
                }
            }
            (None, None) => continue,
        };
        if let UserData::Text(text) = &data
            && text.reveal().len() > LARGEST_USER_DATA
        {
            source.error(&path, format!("longer than {LARGEST_USER_DATA} bytes, EC2's limit"));
        }
        out.insert(app.name.clone(), data);
    }
    out
}
