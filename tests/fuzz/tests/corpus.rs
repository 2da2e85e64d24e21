//! Every file of the corpus, once, in the plain build: what was found before stays fixed where nobody fuzzes.

use std::{fs, path::Path, process::Command};

#[test]
fn every_file_of_the_corpus_keeps_the_properties() {
    let fuzz = || Command::new(env!("CARGO_BIN_EXE_crosswan-fuzz"));
    let targets = String::from_utf8(fuzz().output().unwrap().stdout).unwrap();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut folders: Vec<String> =
        fs::read_dir(&corpus).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    folders.sort();
    let mut known: Vec<&str> = targets.lines().collect();
    known.sort();
    assert_eq!(folders, known, "a folder for each target");
    for target in known {
        let files = fs::read_dir(corpus.join(target)).unwrap().count();
        // A folder of its own, gone with the test however the program ends.
        let scratch = tempfile::tempdir().unwrap();
        let run =
            fuzz().arg(format!("--{target}")).arg(corpus.join(target)).env("TMPDIR", scratch.path()).output().unwrap();
        let said = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success(), "{target}: {said}");
        assert_eq!(said.lines().count(), files, "{target}: a file each: {said}");
    }
}
