use std::os::unix::fs::symlink;

use super::*;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Names in a folder, hidden ones too.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_write_replaces_the_whole_file_with_its_mode_and_leaves_nothing_beside_it() {
    let dir = folder();
    let path = dir.path().join("a/b/keys.conf");
    write_atomic(&path, b"first, and longer", 0o644).unwrap();
    write_atomic(&path, b"second", 0o600).unwrap();
    assert_eq!(read(&path).unwrap(), Some(("second".into(), Some(0o600))));
    assert_eq!(names(path.parent().unwrap()), ["keys.conf"]);
}

#[test]
fn a_file_that_is_somebody_elses_has_no_permissions_that_count() {
    let dir = folder();
    let path = dir.path().join("keys.conf");
    write_atomic(&path, b"key", 0o600).unwrap();
    std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
    assert_eq!(read(&path).unwrap(), Some(("key".into(), None)));
    write_atomic(&path, b"key", 0o600).unwrap();
    assert_eq!(read(&path).unwrap(), Some(("key".into(), Some(0o600))));
}

#[test]
fn what_a_killed_pass_left_is_no_obstacle() {
    let dir = folder();
    let path = dir.path().join("keys.conf");
    // Were it opened instead of replaced, the link would send a key elsewhere.
    symlink(dir.path().join("elsewhere"), temporary(&path)).unwrap();
    write_atomic(&path, b"new", 0o600).unwrap();
    assert_eq!(names(dir.path()), ["keys.conf"]);
    fs::write(temporary(&path), "half").unwrap();
    write_atomic(&path, b"newer", 0o600).unwrap();
    assert_eq!((read(&path).unwrap().unwrap().0.as_str(), names(dir.path()).len()), ("newer", 1));
}

#[test]
fn a_write_that_fails_names_the_file_and_keeps_the_old_one() {
    let dir = folder();
    let path = dir.path().join("state.json");
    fs::create_dir(&path).unwrap();
    let error = write_atomic(&path, b"x", 0o600).unwrap_err();
    assert_eq!((error.kind(), error.to_string()), (Kind::Apply, format!("write {}", path.display())));
    assert_eq!(names(dir.path()), ["state.json"], "the temporary file is gone");
}

#[test]
fn no_file_is_not_the_same_as_no_answer() {
    let dir = folder();
    assert_eq!(read(&dir.path().join("none")).unwrap(), None);
    assert_eq!(read(dir.path()).unwrap_err().kind(), Kind::Observe);
    remove(&dir.path().join("none")).unwrap();
}

#[test]
fn the_lock_has_one_holder_and_waiting_ends() {
    let dir = folder();
    let path = dir.path().join("run/lock");
    let held = lock(&path, Hold::Alone, Duration::ZERO, "another refresh").unwrap();
    let error = lock(&path, Hold::Alone, Duration::from_millis(150), "another refresh").unwrap_err();
    let told = format!("another refresh has held {} for 150ms; try again later", path.display());
    assert_eq!((error.kind(), error.chain()), (Kind::Busy, told));
    drop(held);
    lock(&path, Hold::Alone, Duration::ZERO, "another refresh").unwrap();
}

#[test]
fn looks_share_a_lock_and_keep_a_refresh_away() {
    let dir = folder();
    let path = dir.path().join("lock");
    let take = |hold| lock(&path, hold, Duration::ZERO, "crosswan keep or watch").map_err(|e| e.chain());
    let looks = (take(Hold::Shared).unwrap(), take(Hold::Shared).unwrap());
    assert!(take(Hold::Alone).unwrap_err().starts_with("crosswan keep or watch has held "));
    drop(looks);
    let refresh = take(Hold::Alone).unwrap();
    assert!(take(Hold::Shared).is_err());
    drop(refresh);
}

#[test]
fn a_read_neither_waits_for_a_pipe_nor_fills_the_memory() {
    let dir = folder();
    let (pipe, long) = (dir.path().join("pipe"), dir.path().join("long"));
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert_eq!(read(&pipe).unwrap_err().chain(), format!("read {}: not a regular file", pipe.display()));
    fs::write(&long, vec![b'x'; (1 << 20) + 1]).unwrap();
    assert_eq!(read_bytes(&long, 1 << 20).unwrap_err().to_string(), "larger than 1 MiB");
    assert!(read(&long).unwrap().is_some());
}
