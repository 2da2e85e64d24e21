//! Whether `swanctl --load-all` finds the managed files: the includes of swanctl.conf are followed from file to file.
//!
//! When strongSwan starts, or when its configuration is loaded anew, every connection that is not found is unloaded.

use std::path::{Component, Path, PathBuf};

use crate::{files, paths::Paths};
use crosswan_core::{error::Result, forwarding::Problem};

/// The most includes within each other; more of them count as a circle.
const DEPTH: usize = 8;

/// Why the managed files are not found, and the line that mends it; `None` if they are found.
///
/// # Errors
/// A file cannot be read.
pub fn unreached(paths: &Paths) -> Result<Option<Problem>> {
    let main = &paths.swanctl_conf;
    for managed in [&paths.connections, &paths.secrets] {
        if !reaches(main, managed, root(main), 0)? {
            let (main, managed) = (main.display(), managed.display());
            let found = format!(
                "{main} does not include {managed}: once strongSwan starts or loads its configuration anew, every tunnel is \
                 gone until the next refresh"
            );
            return Ok(Some(Problem { found, remedy: "add the line: include conf.d/*.conf".into() }));
        }
    }
    Ok(None)
}

/// The root folder: the one that has `etc/swanctl/swanctl.conf`.
fn root(main: &Path) -> &Path {
    main.ancestors().nth(3).unwrap_or(Path::new("/"))
}

fn reaches(file: &Path, managed: &Path, root: &Path, depth: usize) -> Result<bool> {
    let Some((text, _)) = files::read(file)? else { return Ok(false) };
    for pattern in text.lines().filter_map(included) {
        let pattern = match Path::new(pattern).strip_prefix("/") {
            Ok(absolute) => root.join(absolute),
            Err(_) => file.parent().unwrap_or(root).join(pattern),
        };
        let pattern = plain(&pattern);
        if fits(&pattern, managed) {
            return Ok(true);
        }
        for next in files_of(&pattern) {
            if depth < DEPTH && reaches(&next, managed, root, depth + 1)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// The pattern of an include statement (strongswan.conf(5), "INCLUDING FILES").
fn included(line: &str) -> Option<&str> {
    let line = line.split('#').next().unwrap_or_default().trim();
    let pattern = line.strip_prefix("include")?;
    pattern.starts_with([' ', '\t', '"']).then(|| pattern.trim().trim_matches('"'))
}

/// The path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut out, part| {
        match part {
            Component::ParentDir => _ = out.pop(),
            Component::CurDir => {}
            part => out.push(part),
        }
        out
    })
}

/// Whether every part of the path matches the same part of the pattern (glob(7)).
fn fits(pattern: &Path, path: &Path) -> bool {
    let part = |c: Component| c.as_os_str().to_string_lossy().into_owned();
    let (patterns, parts) = (pattern.components().map(part), path.components().map(part));
    pattern.components().count() == path.components().count() && patterns.zip(parts).all(|(p, t)| glob(&p, &t))
}

/// The files in one folder that a pattern matches. A pattern in the folder's own path is not expanded.
fn files_of(pattern: &Path) -> Vec<PathBuf> {
    let Some((folder, name)) = pattern.parent().zip(pattern.file_name()) else { return Vec::new() };
    let name = name.to_string_lossy();
    let all = std::fs::read_dir(folder).into_iter().flatten().flatten();
    all.filter(|entry| glob(&name, &entry.file_name().to_string_lossy())).map(|entry| entry.path()).collect()
}

/// Whether a pattern with `*` and `?` matches. A class in brackets matches any character here. Only a dot matches a leading dot.
fn glob(pattern: &str, text: &str) -> bool {
    fn rest(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*', more @ ..], _) => (0..=text.len()).any(|n| rest(more, &text[n..])),
            ([b'[', more @ ..], [_, text @ ..]) => {
                let end = more.iter().skip(1).position(|b| *b == b']').map_or(more.len(), |n| n + 2);
                rest(&more[end..], text)
            }
            ([b'?', more @ ..], [_, text @ ..]) => rest(more, text),
            ([a, more @ ..], [b, text @ ..]) => a == b && rest(more, text),
            _ => false,
        }
    }
    text.starts_with('.') == pattern.starts_with('.') && rest(pattern.as_bytes(), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a test lays out files")]
    fn an_include_is_followed_as_strongswan_follows_it() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::below(root.path());
        let folder = root.path().join("etc/swanctl");
        std::fs::create_dir_all(folder.join("local")).unwrap();
        std::fs::write(folder.join("local/a.conf"), "include ../conf.d/*.conf\n").unwrap();
        std::fs::write(folder.join("local/circle.conf"), "include circle.conf\ninclude *.conf\n").unwrap();
        for (text, found) in [
            ("include conf.d/*.conf", true),
            ("# mine\n\n  include conf.d/*.conf # theirs", true),
            ("include \"conf.d/*.conf\"", true),
            ("include /etc/swanctl/conf.d/*.conf", true),
            ("include ./conf.d/crosswan*.con?", true),
            ("include conf.d/[a-z]*.conf", true),
            ("include conf.d/crosswan.conf\ninclude conf.d/crosswan-secrets.conf", true),
            ("include local/*.conf", true),
            ("include */*.conf", true),
            ("include conf.d/crosswan.conf", false),
            ("#include conf.d/*.conf", false),
            ("include conf.d/*.cfg", false),
            ("include conf.d/.*", false),
            ("include local/circle.conf\nconnections { }", true),
            ("includes conf.d/*.conf", false),
            ("connections { a { remote_addrs = 192.0.2.1 } }", false),
            ("", false),
        ] {
            std::fs::write(&paths.swanctl_conf, text).unwrap();
            let said = unreached(&paths).unwrap();
            assert_eq!(said.is_none(), found, "{text}: {said:?}");
            assert!(said.is_none_or(|said| said.remedy.ends_with("add the line: include conf.d/*.conf")));
        }
        std::fs::remove_file(&paths.swanctl_conf).unwrap();
        assert!(unreached(&paths).unwrap().is_some(), "without a swanctl.conf nothing is loaded");
    }
}
